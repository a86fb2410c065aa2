/** Following a tenant's events. */
import { create } from "@bufbuild/protobuf";

import { InvalidArgument, MeshCallError } from "./errors.js";
import {
  type Event,
  type EventService,
  type Heartbeat,
  SubscribeRequestSchema,
  type SubscribeResponse,
} from "./gen/v1.js";
import { resumed } from "./resuming.js";
import type { ServiceCalls } from "./services.js";

/**
 * Events in order, none after a heartbeat. `cursor` is the position after them; of a named subscription, after the last
 * event.
 */
export interface Batch {
  readonly events: readonly Event[];
  readonly cursor: string;
}

/** Which events, and from where on. Filters are combined; an absent one lets everything through. */
export interface SubscribeOptions {
  /** The events after it. Without it, and without `fromOldest`: from now on. */
  readonly cursor?: string | undefined;
  /** The name of a subscription, which has a place and filters of its own: `acknowledge` what is done. */
  readonly subscription?: string | undefined;
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
 *
 * Of a named subscription the mesh keeps the position: `acknowledge` what is handled. Other programs may share it, each
 * with its accounts. What is not acknowledged comes again, so an event may come twice.
 */
export class Subscription implements AsyncIterable<Event> {
  readonly #events: ServiceCalls<typeof EventService>;
  readonly #options: SubscribeOptions;
  #cursor: string;
  #consumer = "";
  /** The consumer as which the last event was handed out, until it is acknowledged. */
  #unacknowledged = "";

  constructor(events: ServiceCalls<typeof EventService>, options: SubscribeOptions) {
    const { cursor, subscription, fromOldest, eventTypes, accountIds, labels } = options;
    if (cursor && fromOldest) {
      throw InvalidArgument.of("cursor", "is a place of its own: leave out fromOldest");
    }
    if (subscription && (cursor || fromOldest || eventTypes?.length || accountIds?.length || labels)) {
      throw InvalidArgument.of("subscription", "has a place and filters of its own: leave out all others");
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
          this.#handOut(event);
          yield event;
        }
      } else if (frame.case === "heartbeat") {
        this.#passHeartbeat(frame.value);
      }
    }
  }

  /** Events as they arrive together, to store the cursor once for all of them; empty for a heartbeat. */
  async *batches(): AsyncGenerator<Batch, void, undefined> {
    for await (const { frame } of this.#frames()) {
      const events = frame.case === "events" ? frame.value.events : [];
      events.slice(-1).forEach((event) => this.#handOut(event));
      if (frame.case === "heartbeat") {
        this.#passHeartbeat(frame.value);
      }
      yield { events, cursor: this.#cursor };
    }
  }

  /**
   * Every event that was handed out is done, the last one too; only of a named subscription. False when they come again
   * all the same, some of them to others: the stream that they came by has ended, or acknowledged nothing for too long.
   */
  async acknowledge(): Promise<boolean> {
    const { subscription: name, tenantId = "", signal } = this.#options;
    if (!name) {
      throw InvalidArgument.of("subscription", "is needed: the cursor is yours to keep without one");
    }
    const [consumerId, cursor] = [this.#unacknowledged, this.#cursor];
    if (consumerId === "") {
      return true;
    }
    try {
      await this.#events.acknowledgeEvents({ tenantId, name, cursor, consumerId }, { signal });
      return true;
    } catch (error) {
      if (error instanceof MeshCallError && error.reason === "CONSUMER_GONE") {
        return false;
      }
      throw error;
    } finally {
      if (this.#unacknowledged === consumerId && this.#cursor === cursor) {
        this.#unacknowledged = "";
      }
    }
  }

  #handOut(event: Event): void {
    this.#cursor = event.cursor;
    this.#unacknowledged = this.#consumer;
  }

  #passHeartbeat({ cursor, consumerId }: Heartbeat): void {
    if (this.#options.subscription) {
      this.#consumer = consumerId;
    } else {
      this.#cursor = cursor;
    }
  }

  #frames(): AsyncGenerator<SubscribeResponse, void, undefined> {
    const { silenceMs = SILENCE_MS, signal } = this.#options;
    return resumed((ended) => this.#events.subscribe(this.#request(), { signal: ended }), { silenceMs, signal });
  }

  #request() {
    const { subscription, fromOldest, eventTypes, accountIds, labels, tenantId } = this.#options;
    const request = create(SubscribeRequestSchema, {
      tenantId: tenantId ?? "",
      eventTypes: [...(eventTypes ?? [])],
      accountIds: [...(accountIds ?? [])],
      labels: labels ?? {},
    });
    if (subscription) {
      request.start = { case: "subscription", value: subscription };
    } else if (this.#cursor !== "") {
      request.start = { case: "cursor", value: this.#cursor };
    } else if (fromOldest) {
      request.start = { case: "fromOldest", value: true };
    }
    return request;
  }
}

const SILENCE_MS = 40_000;
