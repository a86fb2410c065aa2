/** Following a tenant's events. */
import { create } from "@bufbuild/protobuf";

import { InvalidArgument } from "./errors.js";
import { type Event, type EventService, SubscribeRequestSchema, type SubscribeResponse } from "./gen/v1.js";
import { resumed } from "./resuming.js";
import type { ServiceCalls } from "./services.js";

/** Events in order, none after a heartbeat. `cursor` is the position after them. */
export interface Batch {
  readonly events: readonly Event[];
  readonly cursor: string;
}

/** Which events, and from where on. Filters are combined; an absent one lets everything through. */
export interface SubscribeOptions {
  /** The events after it. Without it, and without `fromOldest`: from now on. */
  readonly cursor?: string | undefined;
  /** From the oldest event that is kept. */
  readonly fromOldest?: boolean | undefined;
  /** Types or families, such as `message.*`. */
  readonly eventTypes?: readonly string[] | undefined;
  readonly accountIds?: readonly string[] | undefined;
  readonly labels?: Readonly<Record<string, string>> | undefined;
  /** Only with an administrator's key, and then required. */
  readonly tenantId?: string | undefined;
  /** A connection that says nothing for so long is replaced; the mesh sends a heartbeat every 15 seconds. */
  readonly silenceMs?: number | undefined;
  /** Ends the subscription; iterating over it rejects with its reason then. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * A tenant's events in their order, each once, for as long as they are iterated over. A broken connection is replaced
 * by one that resumes at the same position. Throws `CursorExpired` when events after it were dropped.
 */
export class Subscription implements AsyncIterable<Event> {
  readonly #events: ServiceCalls<typeof EventService>;
  readonly #options: SubscribeOptions;
  #cursor: string;

  constructor(events: ServiceCalls<typeof EventService>, options: SubscribeOptions) {
    if (options.cursor && options.fromOldest) {
      throw InvalidArgument.of("cursor", "is a place of its own: leave out fromOldest");
    }
    this.#events = events;
    this.#options = options;
    this.#cursor = options.cursor ?? "";
  }

  /**
   * The position after the event that was given last, and after those that the filter left out: store it once that
   * event is handled, and subscribe with it after a restart.
   */
  get cursor(): string {
    return this.#cursor;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Event, void, undefined> {
    for await (const { frame } of this.#frames()) {
      if (frame.case === "events") {
        for (const event of frame.value.events) {
          this.#cursor = event.cursor;
          yield event;
        }
      } else if (frame.case === "heartbeat") {
        this.#cursor = frame.value.cursor;
      }
    }
  }

  /** Events as they arrive together, to store the cursor once for all of them; empty for a heartbeat. */
  async *batches(): AsyncGenerator<Batch, void, undefined> {
    for await (const { frame } of this.#frames()) {
      const events = frame.case === "events" ? frame.value.events : [];
      this.#cursor = events.at(-1)?.cursor ?? (frame.case === "heartbeat" ? frame.value.cursor : this.#cursor);
      yield { events, cursor: this.#cursor };
    }
  }

  #frames(): AsyncGenerator<SubscribeResponse, void, undefined> {
    const { silenceMs = SILENCE_MS, signal } = this.#options;
    return resumed((ended) => this.#events.subscribe(this.#request(), { signal: ended }), { silenceMs, signal });
  }

  #request() {
    const { fromOldest, eventTypes, accountIds, labels, tenantId } = this.#options;
    const request = create(SubscribeRequestSchema, {
      tenantId: tenantId ?? "",
      eventTypes: [...(eventTypes ?? [])],
      accountIds: [...(accountIds ?? [])],
      labels: labels ?? {},
    });
    if (this.#cursor !== "") {
      request.start = { case: "cursor", value: this.#cursor };
    } else if (fromOldest) {
      request.start = { case: "fromOldest", value: true };
    }
    return request;
  }
}

const SILENCE_MS = 40_000;
