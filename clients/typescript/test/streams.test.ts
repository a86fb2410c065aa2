import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";

import type { MessageInitShape } from "@bufbuild/protobuf";
import type { handleUnaryCall, ServerWritableStream } from "@grpc/grpc-js";

import {
  type Client,
  connect,
  CursorExpired,
  FailedPrecondition,
  InvalidArgument,
  NotFound,
  Unauthenticated,
} from "../src/index.js";
import {
  type AcknowledgeEventsRequest,
  EventService,
  type PairRequest,
  type PairResponseSchema,
  SessionService,
  SessionState,
  type SubscribeRequest,
  type SubscribeResponseSchema,
  type WatchSessionResponseSchema,
} from "../src/gen/v1.js";
import { FakeRouter, GOING_AWAY, type Refusal, refused } from "./fake-router.js";

const EVENTS = 12;
type Frame = MessageInitShape<typeof SubscribeResponseSchema>;
type Subscribing = ServerWritableStream<SubscribeRequest, Frame>;

const cursor = (number: number): string => `cursor-${number}`;
const heartbeat = (number: number): Frame => ({ frame: { case: "heartbeat", value: { cursor: cursor(number) } } });
const events = (...numbers: number[]): Frame => ({
  frame: {
    case: "events",
    value: { events: numbers.map((number) => ({ id: `evt_${number}`, cursor: cursor(number) })) },
  },
});

/** Has events 1 to EVENTS; each stream sends four of them, in pairs, and then does what `leave` says. */
class Mesh {
  readonly subscriptions: SubscribeRequest[] = [];
  readonly attempts: PairRequest[] = [];
  leave: (call: Subscribing) => void = (call) => call.emit("error", refused(GOING_AWAY));
  refusal: Refusal | undefined;
  /** What each stream of pairing, and of a session, sends. */
  steps: MessageInitShape<typeof PairResponseSchema>[][] = [];
  sessions: MessageInitShape<typeof WatchSessionResponseSchema>[][] = [];

  readonly subscribe = (call: Subscribing): void => {
    this.subscriptions.push(call.request);
    if (this.refusal !== undefined) {
      call.emit("error", refused(this.refusal));
      return;
    }
    const { start } = call.request;
    let at = start.case === "cursor" ? Number(start.value.slice("cursor-".length)) : 0;
    call.write(heartbeat(at));
    for (let pair = 0; pair < 2 && at < EVENTS; pair += 1, at += 2) {
      call.write(events(at + 1, at + 2));
    }
    this.leave(call);
  };

  readonly pair = (call: ServerWritableStream<PairRequest, MessageInitShape<typeof PairResponseSchema>>): void => {
    this.attempts.push(call.request);
    const steps = this.steps.shift();
    if (steps === undefined) {
      call.emit("error", refused({ code: "FAILED_PRECONDITION", reason: "ALREADY_PAIRED" }));
      return;
    }
    steps.forEach((step) => call.write(step));
    if (steps.at(-1)?.step?.case === "paired") {
      call.end();
    } else {
      call.emit("error", refused(GOING_AWAY));
    }
  };

  readonly watchSession = (
    call: ServerWritableStream<unknown, MessageInitShape<typeof WatchSessionResponseSchema>>,
  ): void => {
    this.sessions.shift()?.forEach((session) => call.write(session));
    const end: Refusal = this.sessions.length > 0 ? GOING_AWAY : { code: "NOT_FOUND", reason: "RESOURCE_NOT_FOUND" };
    call.emit("error", refused(end));
  };
}

async function withMesh(use: (client: Client, mesh: Mesh) => Promise<void>): Promise<void> {
  const mesh = new Mesh();
  const getSession = (call: { request: { accountId: string } }, respond: (error: null, answer: object) => void): void =>
    respond(null, { session: { accountId: call.request.accountId } });
  const router = await FakeRouter.start([
    [EventService, { subscribe: mesh.subscribe }],
    [SessionService, { pair: mesh.pair, watchSession: mesh.watchSession, getSession: getSession as never }],
  ]);
  const client = connect(router.address, "smk_1");
  try {
    await use(client, mesh);
  } finally {
    client.close();
    router.kill();
  }
}

async function take<Item>(items: AsyncIterable<Item>, count: number): Promise<Item[]> {
  const taken: Item[] = [];
  for await (const item of items) {
    taken.push(item);
    if (taken.length === count) {
      break;
    }
  }
  return taken;
}

const LEAVINGS: Record<string, (call: Subscribing) => void> = {
  "say that they go away": (call) => call.emit("error", refused(GOING_AWAY)),
  "break off": (call) => call.emit("error", Object.assign(new Error("broken"), { code: 14, details: "broken" })),
};
for (const [how, leave] of Object.entries(LEAVINGS)) {
  test(`every event comes once and in order over streams that ${how}`, () =>
    withMesh(async (client, mesh) => {
      mesh.leave = leave;
      const seen = await take(client.subscribe({ fromOldest: true }), EVENTS);
      assert.deepEqual(
        seen.map(({ id }) => id),
        Array.from({ length: EVENTS }, (_, at) => `evt_${at + 1}`),
      );
      assert.equal(mesh.subscriptions[0]?.start.case, "fromOldest");
      assert.deepEqual(mesh.subscriptions[1]?.start, { case: "cursor", value: cursor(4) });
    }));
}

test("the cursor to store is behind what was handed out", () =>
  withMesh(async (client) => {
    const subscription = client.subscribe({ cursor: cursor(2) });
    assert.equal(subscription.cursor, cursor(2));
    for await (const event of subscription) {
      assert.equal(subscription.cursor, event.cursor);
      if (event.id === "evt_5") {
        break;
      }
    }
    assert.equal(subscription.cursor, cursor(5));
  }));

test("batches tell the cursor also when nothing happened", () =>
  withMesh(async (client) => {
    const batches = await take(client.subscribe({ cursor: cursor(2) }).batches(), 3);
    assert.deepEqual(
      batches.map(({ events: found, cursor: at }) => [found.length, at]),
      [
        [0, cursor(2)],
        [2, cursor(4)],
        [2, cursor(6)],
      ],
    );
  }));

test("leaving the loop ends the call", () =>
  withMesh(async (client, mesh) => {
    let ended: Promise<unknown> | undefined;
    mesh.leave = (call) => void (ended = once(call, "cancelled"));
    await take(client.subscribe(), 1);
    await ended;
  }));

test("aborting the signal ends a subscription with its reason", () =>
  withMesh(async (client, mesh) => {
    mesh.leave = () => undefined;
    const controller = new AbortController();
    const reason = new Error("the program ends");
    const following = (async () => {
      for await (const event of client.subscribe({ signal: controller.signal })) {
        if (event.id === "evt_4") {
          setImmediate(() => controller.abort(reason));
        }
      }
    })();
    await assert.rejects(following, reason);
  }));

test("an expired cursor and a refused key end a subscription", () =>
  withMesh(async (client, mesh) => {
    mesh.refusal = { code: "OUT_OF_RANGE", reason: "CURSOR_OUT_OF_RANGE", metadata: { oldest_cursor: cursor(9) } };
    await assert.rejects(take(client.subscribe({ cursor: cursor(1) }), 1), (error) => {
      assert.ok(error instanceof CursorExpired);
      return error.oldestCursor === cursor(9);
    });
    mesh.refusal = { code: "UNAUTHENTICATED", reason: "CREDENTIALS_INVALID" };
    await assert.rejects(take(client.subscribe(), 1), Unauthenticated);
  }));

test("filters are passed on, and a contradiction is refused", () =>
  withMesh(async (client, mesh) => {
    await take(client.subscribe({ eventTypes: ["message.*"], accountIds: ["acc_1"], labels: { shop: "1" } }), 1);
    const [request] = mesh.subscriptions;
    assert.deepEqual(
      [request?.eventTypes, request?.accountIds, request?.labels],
      [["message.*"], ["acc_1"], { shop: "1" }],
    );
    assert.throws(() => client.subscribe({ cursor: "c", fromOldest: true }), InvalidArgument);
  }));

/** A named subscription: each stream is another consumer, and has all that is not acknowledged. */
class Named {
  readonly requests: SubscribeRequest[] = [];
  readonly acknowledged: AcknowledgeEventsRequest[] = [];
  refusal: Refusal | undefined;
  #done = 0;

  readonly subscribe = (call: Subscribing): void => {
    this.requests.push(call.request);
    call.write({
      frame: { case: "heartbeat", value: { cursor: cursor(99), consumerId: `con_${this.requests.length}` } },
    });
    call.write(events(this.#done + 1, this.#done + 2));
    call.write(events(this.#done + 3, this.#done + 4));
    call.emit("error", refused(GOING_AWAY));
  };

  readonly acknowledgeEvents: handleUnaryCall<AcknowledgeEventsRequest, object> = ({ request }, respond) => {
    this.acknowledged.push(request);
    this.#done = Math.max(this.#done, Number(request.cursor.slice("cursor-".length)));
    respond(this.refusal === undefined ? null : refused(this.refusal), {});
  };
}

async function withNamed(use: (client: Client, named: Named) => Promise<void>): Promise<void> {
  const named = new Named();
  const router = await FakeRouter.start([
    [EventService, { subscribe: named.subscribe, acknowledgeEvents: named.acknowledgeEvents }],
  ]);
  const client = connect(router.address, "smk_1");
  try {
    await use(client, named);
  } finally {
    client.close();
    router.kill();
  }
}

test("a named subscription goes on behind what was acknowledged", () =>
  withNamed(async (client, named) => {
    const subscription = client.subscribe({ subscription: "orders", tenantId: "tnt_1" });
    const seen: string[] = [];
    for await (const { id } of subscription) {
      seen.push(id);
      if (seen.length % 2 === 1) {
        assert.equal(await subscription.acknowledge(), true);
      }
      if (seen.length === 8) {
        break;
      }
    }
    // The one that was not acknowledged came again.
    assert.deepEqual(
      seen,
      [1, 2, 3, 4, 4, 5, 6, 7].map((number) => `evt_${number}`),
    );
    assert.ok(named.requests.every(({ start }) => start.case === "subscription" && start.value === "orders"));
    const [first] = named.acknowledged;
    assert.deepEqual([first?.name, first?.tenantId, first?.cursor], ["orders", "tnt_1", cursor(1)]);
    const consumers = named.acknowledged.map(({ consumerId }) => consumerId);
    assert.deepEqual(consumers, ["con_1", "con_1", "con_2", "con_2"]);
  }));

test("a batch is acknowledged once", () =>
  withNamed(async (client, named) => {
    const subscription = client.subscribe({ subscription: "orders" });
    for await (const batch of subscription.batches()) {
      await subscription.acknowledge();
      assert.equal(await subscription.acknowledge(), true, "there is nothing more to say");
      if (batch.cursor === cursor(4)) {
        break;
      }
    }
    assert.deepEqual(
      named.acknowledged.map((request) => request.cursor),
      [cursor(2), cursor(4)],
    );
  }));

test("one is told that what one acknowledges comes again", () =>
  withNamed(async (client, named) => {
    named.refusal = { code: "FAILED_PRECONDITION", reason: "CONSUMER_GONE" };
    const subscription = client.subscribe({ subscription: "orders" });
    await take(subscription, 1);
    assert.equal(await subscription.acknowledge(), false);
    named.refusal = { code: "FAILED_PRECONDITION", reason: "EVENT_NOT_SENT" };
    await take(subscription, 1);
    await assert.rejects(subscription.acknowledge(), FailedPrecondition);
  }));

test("only named subscriptions are acknowledged, and they have no filters but their own", () =>
  withNamed(async (client) => {
    await assert.rejects(client.subscribe().acknowledge(), InvalidArgument);
    for (const other of [
      { cursor: "c" },
      { fromOldest: true },
      { eventTypes: ["message.*"] },
      { labels: { a: "b" } },
    ]) {
      assert.throws(() => client.subscribe({ subscription: "orders", ...other }), InvalidArgument);
    }
  }));

const qr = (text: string) => ({ attemptId: "pai_1", step: { case: "qr", value: { text } } }) as const;
const paired = { attemptId: "pai_1", step: { case: "paired", value: { session: { accountId: "acc_1" } } } } as const;

test("an attempt to pair goes on when its stream ends, and repeats no step", () =>
  withMesh(async (client, mesh) => {
    mesh.steps = [[qr("1"), qr("2")], [qr("2"), qr("3")], [paired]];
    const steps = [];
    for await (const { step } of client.pair("acc_1", { patienceMs: 90_000 })) {
      steps.push(step.case === "qr" ? step.value.text : step.case);
    }
    assert.deepEqual(steps, ["1", "2", "3", "paired"]);
    assert.deepEqual(
      mesh.attempts.map(({ attemptId }) => attemptId),
      ["", "pai_1", "pai_1"],
    );
    assert.equal(mesh.attempts[0]?.timeout?.seconds, 90n);
  }));

test("pairing that succeeded just when the stream broke is told", () =>
  withMesh(async (client, mesh) => {
    mesh.steps = [[qr("1")]];
    const steps = await take(client.pair("acc_1", { phone: "+4915112345678" }), 2);
    assert.deepEqual(
      steps.map(({ step }) => step.case),
      ["qr", "paired"],
    );
    assert.equal(mesh.attempts[0]?.phone, "+4915112345678");
  }));

test("an account that is paired already is an error", () =>
  withMesh(async (client) => {
    await assert.rejects(take(client.pair("acc_1"), 1), FailedPrecondition);
  }));

test("a watch goes on with the next owner and repeats nothing", () =>
  withMesh(async (client, mesh) => {
    const state = (of: SessionState) => ({ session: { accountId: "acc_1", state: of } });
    mesh.sessions = [
      [state(SessionState.CONNECTING), state(SessionState.CONNECTED)],
      [state(SessionState.CONNECTED), state(SessionState.BACKOFF)],
    ];
    const states: SessionState[] = [];
    const watched = (async () => {
      for await (const session of client.watchSession("acc_1")) {
        states.push(session.state);
      }
    })();
    await assert.rejects(watched, NotFound);
    assert.deepEqual(states, [SessionState.CONNECTING, SessionState.CONNECTED, SessionState.BACKOFF]);
  }));
