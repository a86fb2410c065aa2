import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { verifyWebhook, type WebhookHeaders, WebhookVerificationError } from "../src/index.js";

interface Vector {
  readonly why: string;
  readonly valid: boolean;
  readonly secret: string;
  readonly id: string | null;
  readonly timestamp: string | null;
  readonly signature: string | null;
  readonly body: string;
  readonly now: number;
}

/** Those of every language. */
const FILE = new URL("../../../../docs/webhooks.json", import.meta.url);
const VECTORS = JSON.parse(readFileSync(FILE, "utf8")) as Vector[];
const [FIRST] = VECTORS as [Vector];

function headersOf({ id, timestamp, signature }: Vector): Record<string, string> {
  const all = { "webhook-id": id, "webhook-timestamp": timestamp, "webhook-signature": signature };
  return Object.fromEntries(Object.entries(all).flatMap(([name, value]) => (value === null ? [] : [[name, value]])));
}

function verify(vector: Vector, headers: WebhookHeaders = headersOf(vector), body: string | Uint8Array = vector.body) {
  return verifyWebhook(vector.secret, headers, body, { now: new Date(vector.now * 1000) });
}

for (const vector of VECTORS) {
  test(`${vector.valid ? "valid" : "invalid"}: ${vector.why}`, () => {
    if (vector.valid) {
      verify(vector);
      verify(vector, headersOf(vector), Buffer.from(vector.body));
    } else {
      assert.throws(() => verify(vector), WebhookVerificationError);
    }
  });
}

test("the event of a webhook is typed, whatever a later mesh adds to it", () => {
  assert.equal(verify(FIRST).type, "message.received");
  assert.equal(verify(FIRST).accountId, "acc_01M80SWXV5EMYAB01019B0170N");
});

test("headers may be of fetch, of Node's http, or written in any case", () => {
  const headers = headersOf(FIRST);
  verify(FIRST, new Headers(headers));
  verify(FIRST, Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toUpperCase(), value])));
  const twice = { ...headers, "Webhook-Id": "del_1" };
  assert.throws(() => verify(FIRST, twice), WebhookVerificationError);
});

test("a tolerance of one's own is held to", () => {
  const late = { now: new Date((FIRST.now + 20) * 1000) };
  verifyWebhook(FIRST.secret, headersOf(FIRST), FIRST.body, { ...late, toleranceSeconds: 20 });
  assert.throws(() => verifyWebhook(FIRST.secret, headersOf(FIRST), FIRST.body, { ...late, toleranceSeconds: 19 }));
});

test("what can be no secret is the program's error, not the request's", () => {
  for (const secret of ["", "whsec_", "smk_1", "whsec_not base64"]) {
    assert.throws(() => verifyWebhook(secret, headersOf(FIRST), FIRST.body), TypeError);
  }
});
