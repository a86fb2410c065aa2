/** Sends many messages, batched into frames on one stream; each has a result of its own. */
import type { Sendable, SendOutcome } from "./batch.js";
import { Change, Items } from "./bulk-items.js";
import type { Caller } from "./caller.js";
import {
  Cancelled,
  FailedPrecondition,
  failureOf,
  failureOfStatus,
  InvalidArgument,
  MeshCallError,
  Unavailable,
  Unreachable,
} from "./errors.js";
import { type Message, MessageService, type SendResult } from "./gen/v1.js";
import { checkedTimeout, prepared } from "./outgoing.js";
import { backoff, pause, pauseBefore } from "./retries.js";
import { bidiStream } from "./streams.js";

/** How many messages are sent at a time, and for how long. */
export interface BulkOptions {
  /** Messages on the stream without a result: 5,000 unless it is given. */
  readonly maxInFlight?: number | undefined;
  /** A message has its result within so long, whatever it takes: 60 seconds unless it is given. */
  readonly timeoutMs?: number | undefined;
}

/**
 * Sends messages of any accounts over one stream, for `await using`, which waits for all results, or `drain` and
 * `close`.
 *
 * Messages without a result on a broken stream are sent again under the same request ids, so none is lost and none sent
 * twice. The order is not kept: await a message before sending one that must come after it.
 */
export class BulkSender implements AsyncDisposable {
  readonly #caller: Caller;
  readonly #items: Items;
  readonly #maxInFlight: number;
  readonly #timeoutMs: number;
  readonly #closing = new AbortController();
  #streams: Promise<void> | undefined;
  #number = 0;
  #failures = 0;
  #failure: MeshCallError | undefined;

  constructor(caller: Caller, { maxInFlight = 5_000, timeoutMs }: BulkOptions) {
    if (!(maxInFlight >= 1)) {
      throw InvalidArgument.of("maxInFlight", "must be at least 1");
    }
    this.#caller = caller;
    this.#maxInFlight = maxInFlight;
    this.#timeoutMs = checkedTimeout(timeoutMs, TIMEOUT_MS);
    this.#items = new Items(maxInFlight, this.#timeoutMs);
  }

  /**
   * The message as accepted. Rejects with the `MeshCallError` that refused it, `InvalidArgument` for what fits into no
   * frame. All that is given is taken: `results` takes no more than there is room for.
   */
  async send(request: Sendable): Promise<Message> {
    if (this.#closing.signal.aborted) {
      throw new FailedPrecondition("FAILED_PRECONDITION", "the bulk sender is closed");
    }
    const result = this.#items.add(prepared(MessageService.method.sendMessage, request), () => this.#late());
    this.#streams ??= this.#run();
    return await result;
  }

  /** Sends all of `requests` and gives each one's result as it comes; a refused one's is its error. */
  async *results(requests: Iterable<Sendable> | AsyncIterable<Sendable>): AsyncGenerator<SendOutcome, void, undefined> {
    const outcomes: SendOutcome[] = [];
    const change = new Change();
    let open = 0; // without a result, or with one that nobody has read
    let fed = false;
    let left = false;
    const feed = async (): Promise<void> => {
      for await (const given of requests) {
        const request = prepared(MessageService.method.sendMessage, given);
        open += 1;
        void this.#outcome(request).then((outcome) => {
          outcomes.push(outcome);
          change.tell();
        });
        while (open >= this.#maxInFlight && !left) {
          await change.next();
        }
        if (left) {
          return;
        }
      }
    };
    const feeding = feed().finally(() => {
      fed = true;
      change.tell();
    });
    feeding.catch(() => undefined); // it is thrown below, when it is this one's turn
    try {
      while (!fed || open > 0) {
        const outcome = outcomes.shift();
        if (outcome === undefined) {
          await change.next();
          continue;
        }
        open -= 1;
        change.tell();
        yield outcome;
      }
      await feeding;
    } finally {
      left = true;
      change.tell();
    }
  }

  /** Waits until every message has its result. */
  async drain(): Promise<void> {
    while (this.#items.count > 0) {
      await this.#items.change.next();
    }
  }

  /** Stops sending; messages without a result are rejected with `Cancelled`. */
  async close(): Promise<void> {
    this.#closing.abort();
    this.#items.failAll(new Cancelled("CANCELLED", "the bulk sender was closed before the result came"));
    this.#items.change.tell();
    await this.#streams;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.drain();
    await this.close();
  }

  async #outcome(request: SendOutcome["request"]): Promise<SendOutcome> {
    try {
      return { request, message: await this.send(request) };
    } catch (error) {
      return { request, error: failureOf(error) };
    }
  }

  /** One stream after the other until `close`. */
  async #run(): Promise<void> {
    const { signal } = this.#closing;
    while (!signal.aborted) {
      if (!this.#items.due) {
        await this.#items.change.next();
        continue;
      }
      try {
        await this.#useStream();
      } catch (error) {
        if (!signal.aborted) {
          await this.#recover(failureOf(error));
        }
      }
    }
  }

  /** From the first frame until the stream ends, which it does by an error. */
  async #useStream(): Promise<never> {
    this.#number += 1;
    const frames = this.#frames(this.#number);
    const { sendMessages } = MessageService.method;
    const options = { signal: this.#closing.signal };
    try {
      for await (const { results } of bidiStream(this.#caller, sendMessages, frames, options)) {
        results.forEach((result) => this.#setResult(result));
      }
      throw new Unavailable("UNAVAILABLE", "the stream has ended");
    } finally {
      this.#number += 1; // the frames of this one end
      this.#items.takeBack();
    }
  }

  async *#frames(number: number) {
    while (number === this.#number) {
      if (this.#items.due) {
        yield { messages: this.#items.nextFrame() };
      } else {
        await this.#items.change.next();
      }
    }
  }

  #setResult({ accountId, requestId, outcome }: SendResult): void {
    const item = this.#items.answered(accountId, requestId);
    this.#failures = 0;
    this.#failure = undefined;
    if (item === undefined) {
      return;
    }
    if (outcome.case === "message") {
      this.#caller.budget.earn();
      item.resolve(outcome.value);
    } else if (outcome.case === "error") {
      const error = failureOfStatus(outcome.value);
      const milliseconds = pauseBefore(item.attempts, error);
      if (milliseconds === undefined || !this.#caller.budget.spend()) {
        item.reject(error);
      } else {
        item.attempts += 1;
        setTimeout(() => this.#items.wait(item), milliseconds);
      }
    }
  }

  /** Waits before the next stream, or fails all items when another stream would not help. */
  async #recover(failure: MeshCallError): Promise<void> {
    this.#failure = failure;
    if (!RETRYABLE.has(failure.code) || (failure instanceof Unreachable && failure.lasting)) {
      this.#items.failAll(failure);
      return;
    }
    if (this.#failures > 0) {
      const milliseconds = Math.max(backoff(this.#failures), failure.retryAfterMs ?? 0);
      await pause(milliseconds, this.#closing.signal).catch(() => undefined);
    }
    this.#failures += 1;
  }

  #late(): string {
    const last = this.#failure ? `; the last failure was ${this.#failure.message}` : "";
    return (
      `no result within ${this.#timeoutMs} ms: the message may have been accepted, ` +
      `which sending it again under the same request id tells${last}`
    );
  }
}

/** Statuses after which another stream is opened; request ids make sending again harmless. */
const RETRYABLE: ReadonlySet<string> = new Set([
  "UNAVAILABLE",
  "CANCELLED",
  "DEADLINE_EXCEEDED",
  "INTERNAL",
  "UNKNOWN",
]);
const TIMEOUT_MS = 60_000;
