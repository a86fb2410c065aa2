// Does for one account what a program does with the client. Arguments are ADDRESS, KEY, ACCOUNT and a folder to write to.
// Prints a line for each thing done: "scan QR", "paired ADDRESS", "sent ID", "webhook TYPE ID", "received TEXT" for each
// of EXPECTED messages, however often the stream breaks, "stored ID SIZE TYPE", "bulk COUNT", "refused NAME REASON FIELD"
// twice, and "done". Then it ends by itself, as nothing of it is left.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { readFile, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";

import {
  type Client,
  connect,
  MeshCallError,
  textMessage,
  verifyWebhook,
  WebhookVerificationError,
} from "@sessionmesh/client";
import { type Event, type Message, WaitFor } from "@sessionmesh/client/v1";

const TO = "+4915112345678";
const EXPECTED = 3;
const BULK = 500;

const [address, key, accountId, folder] = process.argv.slice(2) as [string, string, string, string];
const client: Client = connect(address, key);

async function pair(): Promise<void> {
  for await (const { step } of client.pair(accountId)) {
    if (step.case === "qr") {
      console.log("scan", step.value.text);
    } else if (step.case === "paired") {
      console.log("paired", step.value.session?.self?.address);
    }
  }
}

/** Sends a text, and is told by a webhook that it is delivered. */
async function sendAndBeTold(): Promise<void> {
  const events: Event[] = [];
  let secret = "";
  const server = createServer(async (request, response) => {
    try {
      events.push(verifyWebhook(secret, request.headers, await buffer(request)));
      response.writeHead(204).end();
    } catch (error) {
      response.writeHead(error instanceof WebhookVerificationError ? 401 : 500).end();
    }
    server.emit("told");
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/hook`;
  ({ secret } = await client.webhooks.createEndpoint({ endpoint: { url, eventTypes: ["message.delivered"] } }));
  const { id } = await client.sendText(accountId, TO, "Hello", { waitFor: WaitFor.SENT });
  console.log("sent", id);
  while (events.length === 0) {
    await once(server, "told");
  }
  const [{ type, payload }] = events as [Event];
  console.log("webhook", type, payload.case === "messageStatus" ? payload.value.messageId : payload.case);
  server.close();
  server.closeAllConnections();
}

function textOf(message: Message | undefined): string {
  const kind = message?.content?.kind;
  return kind?.case === "text" ? kind.value.body : `no text but ${kind?.case}`;
}

async function receive(): Promise<void> {
  let left = EXPECTED;
  const subscription = client.subscribe({
    fromOldest: true,
    eventTypes: ["message.received"],
    accountIds: [accountId],
  });
  for await (const { payload } of subscription) {
    console.log("received", payload.case === "message" ? textOf(payload.value.message) : payload.case);
    left -= 1;
    if (left === 0) {
      break;
    }
  }
}

async function store(): Promise<void> {
  const [source, copy] = [join(folder, "notes.txt"), join(folder, "copy.txt")];
  await writeFile(source, "word ".repeat(200_000));
  const media = await client.upload(source);
  await client.downloadTo(media.id, copy);
  assert.deepEqual(await readFile(copy), await readFile(source));
  const bytes = randomBytes(100_000);
  const again = await client.upload(bytes, { fileName: "random.bin" });
  assert.deepEqual(Buffer.from(await client.download(again.id)), bytes);
  console.log("stored", media.id, String(media.sizeBytes), media.mimeType);
}

async function sendMany(): Promise<void> {
  const ids = new Set<string>();
  const requests = Array.from({ length: BULK }, (_, number) => textMessage(accountId, TO, `Number ${number}`));
  const bulk = client.bulk();
  for await (const { message, error } of bulk.results(requests)) {
    assert.equal(error, undefined);
    ids.add(message?.id ?? "");
  }
  await bulk.close();
  console.log("bulk", ids.size);
}

async function refusal(call: Promise<unknown>): Promise<void> {
  const error: unknown = await call.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof MeshCallError, String(error));
  console.log("refused", error.name, error.reason, error.fieldViolations[0]?.field ?? "-");
}

await pair();
await sendAndBeTold();
await receive();
await store();
await sendMany();
await refusal(client.sendText(accountId, "0151", "Hello"));
await refusal(client.getAccount("acc_01ARZ3NDEKTSV4RRFFQ69G5FAV"));
client.close();
console.log("done");
