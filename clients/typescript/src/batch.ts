/** Sends some messages in one call; each has a result of its own. */
import type { MessageInitShape } from "@bufbuild/protobuf";

import type { Caller } from "./caller.js";
import { failureOfStatus, InternalError, type MeshCallError } from "./errors.js";
import { type Message, MessageService, type SendMessageRequest, type SendMessageRequestSchema } from "./gen/v1.js";
import { type CallOptions, prepared } from "./outgoing.js";
import { pauseBefore } from "./retries.js";

/** A message to send. */
export type Sendable = MessageInitShape<typeof SendMessageRequestSchema>;

/** The result of one request: the message as accepted, or the error that refused it. */
export type SendOutcome = {
  /** As it was sent, with its request id. */
  readonly request: SendMessageRequest;
} & (
  | { readonly message: Message; readonly error?: undefined }
  | { readonly message?: undefined; readonly error: MeshCallError }
);

/**
 * The result of each request, in their order. Rejects with `MeshCallError` when none has one. Those that may be
 * accepted elsewhere, or a little later, are sent again within the timeout.
 */
export async function sendBatch(
  caller: Caller,
  requests: Iterable<Sendable>,
  options: CallOptions,
): Promise<SendOutcome[]> {
  const sent = Array.from(requests, (request) => prepared(MessageService.method.sendMessage, request));
  const outcomes: SendOutcome[] = [];
  const attempts = caller.attempts(true, options);
  let open = sent.map((_, at) => at);
  for (;;) {
    const messages = open.map((at) => sent[at] as SendMessageRequest);
    let answer;
    try {
      const timeoutMs = Math.max(1, attempts.remainingMs());
      answer = await caller.call(MessageService.method.batchSendMessages, { messages }, { ...options, timeoutMs });
    } catch (error) {
      if (outcomes.length === 0) {
        throw error;
      }
      return outcomes;
    }
    const again: number[] = [];
    const failures: MeshCallError[] = [];
    answer.results.forEach(({ outcome }, index) => {
      const at = open[index] as number;
      const request = sent[at] as SendMessageRequest;
      if (outcome.case === "message") {
        outcomes[at] = { request, message: outcome.value };
        return;
      }
      const error = outcome.case === "error" ? failureOfStatus(outcome.value) : NEITHER;
      outcomes[at] = { request, error };
      if (pauseBefore(attempts.number, error) !== undefined) {
        again.push(at);
        failures.push(error);
      }
    });
    const longest = failures.reduce<MeshCallError | undefined>(
      (found, next) => ((found?.retryAfterMs ?? -1) >= (next.retryAfterMs ?? 0) ? found : next),
      undefined,
    );
    if (longest === undefined || !(await attempts.pause(longest))) {
      return outcomes;
    }
    open = again;
  }
}

const NEITHER = new InternalError("UNKNOWN", "the mesh answered with neither message nor error");
