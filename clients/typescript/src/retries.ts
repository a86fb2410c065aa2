/** Whether, and when, a failed call is tried again. */
import { setTimeout as passed } from "node:timers/promises";

import { type MeshCallError, Unreachable } from "./errors.js";

/** The retries of one call. */
export const MAX_RETRIES = 8;

/** Milliseconds on a clock that only goes forward. */
export type Clock = () => number;

/**
 * Limits a client's retries to a fifth of its calls in the long run, so that a mesh in trouble recovers. A client that
 * was quiet may retry a few times more.
 */
export class RetryBudget {
  #tokens = INITIAL_TOKENS;
  #seen: number;

  constructor(private readonly clock: Clock = () => performance.now()) {
    this.#seen = clock();
  }

  /** A call succeeded. */
  earn(): void {
    this.#tokens = Math.min(MAX_TOKENS, this.#tokens + TOKENS_PER_SUCCESS);
  }

  /** Whether one more retry is allowed. */
  spend(): boolean {
    const now = this.clock();
    if (this.#tokens < INITIAL_TOKENS) {
      this.#tokens = Math.min(INITIAL_TOKENS, this.#tokens + ((now - this.#seen) / 1000) * TOKENS_PER_SECOND);
    }
    this.#seen = now;
    if (this.#tokens < 1) {
      return false;
    }
    this.#tokens -= 1;
    return true;
  }
}

/** The attempts of one call. */
export class Attempts {
  number = 0;
  readonly #deadline: number;

  constructor(
    private readonly budget: RetryBudget,
    timeoutMs: number,
    private readonly repeatable: boolean,
    private readonly signal?: AbortSignal,
  ) {
    this.#deadline = performance.now() + timeoutMs;
  }

  /** Milliseconds until the deadline; may be negative. */
  remainingMs(): number {
    return this.#deadline - performance.now();
  }

  /** Waits for the next attempt and is true; false at once when `failure` is final. */
  async pause(failure: MeshCallError): Promise<boolean> {
    const unreachable = failure instanceof Unreachable;
    if (unreachable ? failure.lasting : !this.repeatable) {
      return false;
    }
    const milliseconds = pauseBefore(this.number, failure);
    if (milliseconds === undefined || milliseconds >= this.remainingMs()) {
      return false;
    }
    // The first retry after a connection broke or an account moved, and a retry of a call that was never sent, are no
    // burden for the mesh.
    const free = unreachable || (MOVED_REASONS.has(failure.reason) && this.number === 0);
    if (!free && !this.budget.spend()) {
      return false;
    }
    this.number += 1;
    await pause(milliseconds, this.signal);
    return true;
  }
}

/** Waits; rejects with the signal's reason when it is aborted. */
export async function pause(milliseconds: number, signal?: AbortSignal): Promise<void> {
  try {
    await passed(milliseconds, undefined, { signal });
  } catch (error) {
    signal?.throwIfAborted();
    throw error;
  }
}

/** Whether the connection failed, and not the server of the call. */
export function isBroken(error: MeshCallError): boolean {
  return error.code === "UNAVAILABLE" && error.reason === "";
}

/**
 * Milliseconds to wait before trying again after failure number `attempt` (from 0); undefined when it is final.
 *
 * Only UNAVAILABLE is retried: where the mesh says when, or where the call was not processed at all.
 */
export function pauseBefore(attempt: number, error: MeshCallError, random = Math.random): number | undefined {
  if (error.code !== "UNAVAILABLE" || attempt >= MAX_RETRIES) {
    return undefined;
  }
  if (!CONNECTION_REASONS.has(error.reason) && error.retryAfterMs === undefined) {
    return undefined;
  }
  if (attempt === 0 && error.retryAfterMs === undefined && !(error instanceof Unreachable)) {
    return FIRST_RETRY_MS * random();
  }
  return Math.max(backoff(attempt, random), error.retryAfterMs ?? 0);
}

/** Milliseconds to wait after failure number `attempt` (from 0): 100 to 3,000, half of it at random. */
export function backoff(attempt: number, random = Math.random): number {
  return Math.min(FIRST_BACKOFF_MS * 2 ** Math.min(attempt, 16), MAX_BACKOFF_MS) * (0.5 + random() / 2);
}

/** Reasons of failures of the connection or of one server, which say nothing about load. */
const CONNECTION_REASONS: ReadonlySet<string> = new Set(["", "GOING_AWAY"]);
/** Reasons after which another server answers the call, now or soon. */
const MOVED_REASONS: ReadonlySet<string> = new Set([...CONNECTION_REASONS, "NOT_OWNER"]);
const MAX_TOKENS = 500;
const INITIAL_TOKENS = 20;
const TOKENS_PER_SUCCESS = 0.2;
const TOKENS_PER_SECOND = 1;
const FIRST_RETRY_MS = 50;
const FIRST_BACKOFF_MS = 100;
const MAX_BACKOFF_MS = 3_000;
