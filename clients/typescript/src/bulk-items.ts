/** The messages of a bulk sender that have no result yet: which wait to be sent, and which for an answer. */
import { toBinary } from "@bufbuild/protobuf";

import { DeadlineExceeded, InvalidArgument, type MeshCallError } from "./errors.js";
import { type Message, type SendMessageRequest, SendMessageRequestSchema } from "./gen/v1.js";

const MAX_FRAME_MESSAGES = 1_000;
const MAX_FRAME_BYTES = 1024 * 1024;

/** One message. */
export interface Item {
  readonly key: string;
  readonly request: SendMessageRequest;
  readonly bytes: number;
  attempts: number;
  resolve(message: Message): void;
  reject(error: MeshCallError): void;
}

/** Tells those who wait that something has changed. */
export class Change {
  #waiting: (() => void)[] = [];

  /** Resolves at the next `tell`. */
  next(): Promise<void> {
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  tell(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    waiting.forEach((resolve) => resolve());
  }
}

/** Each item waits, is in flight, or pauses before it is sent again. */
export class Items {
  readonly change = new Change();
  readonly #byKey = new Map<string, Item>();
  readonly #inFlight = new Map<string, Item>();
  #waiting: Item[] = [];

  constructor(
    private readonly maxInFlight: number,
    private readonly timeoutMs: number,
  ) {}

  /** How many have no result. */
  get count(): number {
    return this.#byKey.size;
  }

  /** Whether a frame can be sent now. */
  get due(): boolean {
    return this.#waiting.length > 0 && this.#inFlight.size < this.maxInFlight;
  }

  /** The result of a message that waits from now on. Throws `InvalidArgument`; `late` says what its timeout means. */
  add(request: SendMessageRequest, late: () => string): Promise<Message> {
    const { accountId, requestId } = request;
    const key = keyOf(accountId, requestId);
    const bytes = toBinary(SendMessageRequestSchema, request).length;
    if (bytes > MAX_FRAME_BYTES) {
      throw InvalidArgument.of("content", `must be at most ${MAX_FRAME_BYTES} bytes`);
    }
    if (this.#byKey.has(key)) {
      throw InvalidArgument.of("requestId", "is that of another message of the account on its way");
    }
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        const metadata = { account_id: accountId, request_id: requestId };
        item.reject(new DeadlineExceeded("DEADLINE_EXCEEDED", late(), { metadata }));
      }, this.timeoutMs);
      const finish = (): void => {
        clearTimeout(timer);
        this.#byKey.delete(key); // a later result is ignored, and the key may be used again
        this.#inFlight.delete(key);
        this.change.tell();
      };
      const item: Item = {
        key,
        request,
        bytes,
        attempts: 0,
        resolve: (message) => (finish(), resolve(message)),
        reject: (error) => (finish(), reject(error)),
      };
      this.#byKey.set(key, item);
      this.wait(item);
    });
  }

  /** Makes an item wait behind all others, unless it has a result. */
  wait(item: Item): void {
    if (this.#isOpen(item)) {
      this.#waiting.push(item);
      this.change.tell();
    }
  }

  /** The messages of the next frame, in flight from now on. */
  nextFrame(): SendMessageRequest[] {
    const room = Math.min(MAX_FRAME_MESSAGES, this.maxInFlight - this.#inFlight.size);
    let bytes = 0;
    let end = 0;
    while (end < this.#waiting.length && end < room && bytes < MAX_FRAME_BYTES) {
      bytes += (this.#waiting[end] as Item).bytes;
      end += 1;
    }
    const items = this.#waiting.splice(0, end).filter((item) => this.#isOpen(item));
    items.forEach((item) => this.#inFlight.set(item.key, item));
    return items.map(({ request }) => request);
  }

  /** Makes what was in flight on a broken stream wait again, before everything else. */
  takeBack(): void {
    this.#waiting = [...this.#inFlight.values(), ...this.#waiting];
    this.#inFlight.clear();
    this.change.tell();
  }

  /** The item in flight that a result belongs to; it is not in flight any more. */
  answered(accountId: string, requestId: string): Item | undefined {
    const item = this.#inFlight.get(keyOf(accountId, requestId));
    if (item !== undefined) {
      this.#inFlight.delete(item.key);
      this.change.tell();
    }
    return item;
  }

  /** Gives every item an error as its result. */
  failAll(error: MeshCallError): void {
    [...this.#byKey.values()].forEach((item) => item.reject(error));
  }

  #isOpen(item: Item): boolean {
    return this.#byKey.get(item.key) === item;
  }
}

function keyOf(accountId: string, requestId: string): string {
  return `${accountId} ${requestId}`;
}
