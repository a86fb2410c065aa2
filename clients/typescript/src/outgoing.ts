/** Prepares requests: checks them, and adds request ids and the metadata that every call needs. */
import { randomUUID } from "node:crypto";

import {
  clone,
  create,
  type DescMethod,
  type Message,
  type MessageInitShape,
  type MessageShape,
} from "@bufbuild/protobuf";
import { Metadata } from "@grpc/grpc-js";

import { InvalidArgument } from "./errors.js";

/** Milliseconds that a unary call may take, retries included, when no timeout is given. Streams have none. */
export const DEFAULT_TIMEOUT_MS = 30_000;

/** What every call takes besides its request. */
export interface CallOptions {
  /** Milliseconds that the call may take, retries included. */
  readonly timeoutMs?: number | undefined;
  /** More metadata, such as `traceparent`. */
  readonly metadata?: Readonly<Record<string, string>> | undefined;
  /** Ends the call when it is aborted; the call rejects with its reason then. */
  readonly signal?: AbortSignal | undefined;
}

/** A message of its own for what is given, with a new request id where the method takes one and none is given. */
export function prepared<Method extends DescMethod>(
  method: Method,
  request: MessageInitShape<Method["input"]>,
): MessageShape<Method["input"]> {
  const made = create(method.input, request) as MessageShape<Method["input"]>;
  // A copy, because sending the same object again is a second request.
  const sent = made === request ? clone(method.input, made) : made;
  if (method.input.field["requestId"] !== undefined && !named(sent).requestId) {
    named(sent).requestId = newRequestId();
  }
  return sent as MessageShape<Method["input"]>;
}

/** The timeout, `missing` where there is none. Throws `InvalidArgument`. */
export function checkedTimeout(timeoutMs: number | undefined, missing = DEFAULT_TIMEOUT_MS): number {
  if (timeoutMs !== undefined && !(Number.isFinite(timeoutMs) && timeoutMs > 0)) {
    throw InvalidArgument.of("timeoutMs", "must be a positive number of milliseconds");
  }
  return timeoutMs ?? missing;
}

/** A random request id. */
export function newRequestId(): string {
  return randomUUID().replaceAll("-", "");
}

/** Credentials, the account where the request names one, and `more`. Throws `InvalidArgument`. */
export function callMetadata(apiKey: string, request: Message | undefined, more: CallOptions["metadata"]): Metadata {
  const metadata = new Metadata();
  metadata.set("authorization", `Bearer ${apiKey}`);
  const accountId = request && named(request).accountId;
  if (accountId) {
    if (!/^[\w-]{1,64}$/.test(accountId)) {
      // it cannot be sent in a header
      throw InvalidArgument.of("accountId", "must be an id like acc_01ARZ3NDEKTSV4RRFFQ69G5FAV");
    }
    metadata.set("x-account-id", accountId);
  }
  for (const [key, value] of Object.entries(more ?? {})) {
    if (!/^[a-z0-9_.-]+$/.test(key)) {
      throw InvalidArgument.of("metadata", `${JSON.stringify(key)} must be of a-z, 0-9, '-', '_' and '.'`);
    }
    metadata.set(key, value);
  }
  return metadata;
}

/** The fields that requests of many methods have. */
function named(request: Message): { requestId?: string; accountId?: string } {
  return request as { requestId?: string; accountId?: string };
}
