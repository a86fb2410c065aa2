/** Verifies webhooks: signatures as Standard Webhooks 1.0.0 defines them, HMAC-SHA256 over `id.timestamp.body`. */
import { createHmac, timingSafeEqual } from "node:crypto";

import { fromJsonString } from "@bufbuild/protobuf";

import { type Event, EventSchema } from "./gen/v1.js";

/** A request that the mesh did not sign with this secret, or not lately. Answer it with 401. */
export class WebhookVerificationError extends Error {
  override name = "WebhookVerificationError";
}

/** A request's headers: of Node's `http` and what is built on it, of `fetch`, or any object. */
export type WebhookHeaders =
  { get(name: string): string | null } | Readonly<Record<string, string | readonly string[] | undefined>>;

/** When a request counts as recent. */
export interface WebhookClock {
  /** How far `webhook-timestamp` may be from now, either way: 300 seconds unless it is given. */
  readonly toleranceSeconds?: number;
  /** The present. */
  readonly now?: Date;
}

/**
 * The event in a webhook, once its signature is verified. `secret` is the endpoint's, `whsec_...`; `body` is what came,
 * byte for byte, before anything parsed it. Throws `WebhookVerificationError`, and `TypeError` for what can be no
 * secret.
 */
export function verifyWebhook(
  secret: string,
  headers: WebhookHeaders,
  body: string | Uint8Array,
  { toleranceSeconds = 300, now = new Date() }: WebhookClock = {},
): Event {
  const key = keyOf(secret);
  const id = headerOf(headers, "webhook-id");
  const timestamp = headerOf(headers, "webhook-timestamp");
  if (!/^\d{1,15}$/.test(timestamp) || Math.abs(now.getTime() / 1000 - Number(timestamp)) > toleranceSeconds) {
    throw new WebhookVerificationError("webhook-timestamp is not of now");
  }
  const expected = createHmac("sha256", key).update(`${id}.${timestamp}.`).update(body).digest();
  // There are several while a secret is being changed.
  const given = headerOf(headers, "webhook-signature").split(" ");
  if (!given.some((signature) => isSignature(signature, expected))) {
    throw new WebhookVerificationError("webhook-signature has none that this secret makes");
  }
  const text = typeof body === "string" ? body : Buffer.from(body).toString("utf8");
  return fromJsonString(EventSchema, text, { ignoreUnknownFields: true }); // of a later mesh
}

function headerOf(headers: WebhookHeaders, name: string): string {
  const value = typeof headers["get"] === "function" ? headers["get"](name) : valueOf(headers as object, name);
  if (typeof value !== "string" || value === "") {
    throw new WebhookVerificationError(`there is no ${name}, or more than one`);
  }
  return value;
}

function valueOf(headers: object, name: string): unknown {
  const found = Object.entries(headers).filter(([key]) => key.toLowerCase() === name);
  return found.length === 1 ? found[0]?.[1] : undefined;
}

function keyOf(secret: string): Buffer {
  const found = /^whsec_([A-Za-z0-9+/]+={0,2})$/.exec(secret);
  if (found === null) {
    throw new TypeError("an endpoint's secret is whsec_ and base64");
  }
  return Buffer.from(found[1] as string, "base64");
}

function isSignature(signature: string, expected: Buffer): boolean {
  const given = Buffer.from(signature);
  const due = Buffer.from(`v1,${expected.toString("base64")}`);
  return given.length === due.length && timingSafeEqual(given, due);
}
