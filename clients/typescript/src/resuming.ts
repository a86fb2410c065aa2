/** Streams that resume: when one breaks, the next one starts where it was. */
import { type MeshCallError, failureOf, Unavailable } from "./errors.js";
import { backoff, pause } from "./retries.js";

/** How streams are followed. */
export interface Following {
  /** Milliseconds without a response after which a stream is replaced. */
  readonly silenceMs?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * The responses of one stream after the other; `open` opens each where the last one ended.
 *
 * A stream is replaced when it breaks, when its server drains, and when nothing comes for too long. A failure before
 * the first response of all, and one for another reason, is thrown.
 */
export async function* resumed<Response>(
  open: (signal: AbortSignal) => AsyncIterable<Response>,
  { silenceMs, signal }: Following,
): AsyncGenerator<Response, void, undefined> {
  let answered = false;
  let failures = 0;
  for (;;) {
    let failure: MeshCallError;
    const watch = new SilenceWatch(silenceMs, signal);
    try {
      for await (const response of open(watch.signal)) {
        answered = true;
        failures = 0;
        watch.stop(); // while the response is handled, however long that takes, nothing is awaited
        yield response;
        watch.start();
      }
      return;
    } catch (error) {
      signal?.throwIfAborted();
      failure = watch.failure ?? failureOf(error);
    } finally {
      watch.stop();
    }
    if (!answered || !isRetryable(failure)) {
      throw failure;
    }
    if (failures > 0) {
      await pause(Math.max(backoff(failures), failure.retryAfterMs ?? 0), signal);
    }
    failures += 1;
  }
}

/** Ends a stream by its signal when nothing comes for too long. */
class SilenceWatch {
  failure: Unavailable | undefined;
  readonly signal: AbortSignal;
  readonly #controller = new AbortController();
  readonly #milliseconds: number | undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor(milliseconds: number | undefined, outer: AbortSignal | undefined) {
    this.#milliseconds = milliseconds;
    this.signal = outer === undefined ? this.#controller.signal : AbortSignal.any([outer, this.#controller.signal]);
    this.start();
  }

  start(): void {
    if (this.#milliseconds !== undefined) {
      this.#timer = setTimeout(() => this.#end(), this.#milliseconds);
    }
  }

  stop(): void {
    clearTimeout(this.#timer);
  }

  #end(): void {
    this.failure = new Unavailable("UNAVAILABLE", `nothing came for ${this.#milliseconds} ms`);
    this.#controller.abort(this.failure);
  }
}

function isRetryable(failure: MeshCallError): boolean {
  // A status without a reason comes from the connection or a proxy, not from the mesh.
  return failure.code === "UNAVAILABLE" || (CONNECTION_STATUSES.has(failure.code) && failure.reason === "");
}

const CONNECTION_STATUSES: ReadonlySet<string> = new Set(["CANCELLED", "DEADLINE_EXCEEDED", "INTERNAL", "UNKNOWN"]);
