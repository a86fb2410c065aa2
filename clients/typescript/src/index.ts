/**
 * The TypeScript client of Sessionmesh.
 *
 *     await using client = connect("mesh.example.com:7600", "smk_...");
 *     const message = await client.sendText(accountId, "+4915112345678", "Hello");
 *     for await (const step of client.pair(accountId)) { ... }
 *
 * It speaks for one API key: credentials, account metadata and request ids are filled in, calls that a retry cannot
 * harm are retried, and failures are thrown as `MeshCallError`. The API's messages are in `@sessionmesh/client/v1`.
 */
export type { Sendable, SendOutcome } from "./batch.js";
export type { BulkOptions, BulkSender } from "./bulk.js";
export type { Tls } from "./channels.js";
export { type Client, connect, type ConnectOptions } from "./client.js";
export { messageRef, type Referable, textMessage, type TextOptions } from "./content.js";
export type { DownloadOptions } from "./downloads.js";
export {
  Aborted,
  AlreadyExists,
  Cancelled,
  CursorExpired,
  DataLoss,
  DeadlineExceeded,
  FailedPrecondition,
  type FieldViolation,
  InternalError,
  InvalidArgument,
  MeshCallError,
  NotFound,
  NotServed,
  OutOfRange,
  PermissionDenied,
  ResourceExhausted,
  type StatusName,
  Unauthenticated,
  Unavailable,
} from "./errors.js";
export type { CallOptions } from "./outgoing.js";
export type { ServiceCalls, Services } from "./services.js";
export type { PairOptions } from "./sessions.js";
export type { Requests } from "./streams.js";
export type { Batch, SubscribeOptions, Subscription } from "./subscriptions.js";
export type { Progress, UploadOptions } from "./uploads.js";
export { verifyWebhook, type WebhookClock, type WebhookHeaders, WebhookVerificationError } from "./webhooks.js";
