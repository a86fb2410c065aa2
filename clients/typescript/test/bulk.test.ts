import assert from "node:assert/strict";
import { test } from "node:test";

import type { sendUnaryData, ServerDuplexStream, ServerUnaryCall } from "@grpc/grpc-js";

import {
  type BulkOptions,
  type BulkSender,
  Cancelled,
  type Client,
  connect,
  DeadlineExceeded,
  InvalidArgument,
  NotFound,
  type SendOutcome,
  textMessage,
  Unauthenticated,
  Unavailable,
} from "../src/index.js";
import {
  type BatchSendMessagesRequest,
  MessageService,
  type SendMessageRequest,
  type SendMessagesRequest,
} from "../src/gen/v1.js";
import { FakeRouter, GOING_AWAY, type Refusal, refused, statusOf } from "./fake-router.js";

type Stream = ServerDuplexStream<SendMessagesRequest, object>;

/** Remembers each message by request id, as the mesh does; `answer` may do otherwise for one frame. */
class Mesh {
  readonly stored = new Map<string, string>();
  readonly seen: string[] = [];
  readonly frames: number[] = [];
  answer: (frame: SendMessagesRequest, call: Stream) => boolean = () => false;
  outcome: (request: SendMessageRequest) => Refusal | undefined = () => undefined;

  readonly sendMessages = (call: Stream): void => {
    call.on("data", (frame: SendMessagesRequest) => {
      this.frames.push(frame.messages.length);
      if (!this.answer(frame, call)) {
        call.write({ results: frame.messages.map((request) => this.result(request)) });
      }
    });
    call.on("end", () => call.end());
  };

  readonly batchSendMessages = (
    call: ServerUnaryCall<BatchSendMessagesRequest, object>,
    respond: sendUnaryData<object>,
  ): void => {
    this.frames.push(call.request.messages.length);
    respond(null, { results: call.request.messages.map((request) => this.result(request)) });
  };

  result({ accountId, requestId, ...request }: SendMessageRequest): object {
    this.seen.push(requestId);
    const refusal = this.outcome({ accountId, requestId, ...request } as SendMessageRequest);
    if (refusal !== undefined) {
      return { accountId, requestId, outcome: { case: "error", value: statusOf(refusal) } };
    }
    if (!this.stored.has(requestId)) {
      this.stored.set(requestId, `msg_${this.stored.size}`);
    }
    return { accountId, requestId, outcome: { case: "message", value: { id: this.stored.get(requestId) } } };
  }
}

async function withMesh(use: (client: Client, mesh: Mesh, router: FakeRouter) => Promise<void>): Promise<void> {
  const mesh = new Mesh();
  const router = await FakeRouter.start([[MessageService, served(mesh)]]);
  const client = connect(router.address, "smk_1");
  try {
    await use(client, mesh, router);
  } finally {
    client.close();
    router.kill();
  }
}

const served = ({ sendMessages, batchSendMessages }: Mesh) => ({ sendMessages, batchSendMessages });

async function withBulk(options: BulkOptions, use: (bulk: BulkSender, mesh: Mesh) => Promise<void>): Promise<void> {
  await withMesh(async (client, mesh) => {
    const bulk = client.bulk(options);
    try {
      await use(bulk, mesh);
    } finally {
      await bulk.close();
    }
  });
}

const text = (number: number) =>
  textMessage(`acc_${number % 7}`, "+4915112345678", "Hello", { requestId: `request-${number}` });
const texts = (count: number) => Array.from({ length: count }, (_, number) => text(number));

test("each message has the result that is its own", () =>
  withBulk({}, async (bulk, mesh) => {
    const messages = await Promise.all(
      texts(2_500).map(async (request) => [request.requestId, (await bulk.send(request)).id]),
    );
    assert.deepEqual(new Map(messages as [string, string][]), mesh.stored);
    assert.ok(Math.max(...mesh.frames) <= 1_000);
    assert.ok(mesh.frames.length < 20, `${mesh.frames.length} frames`);
  }));

test("no more are on the stream than may be in flight", () =>
  withBulk({ maxInFlight: 10 }, async (bulk, mesh) => {
    const held: object[] = [];
    let open = 0;
    let most = 0;
    mesh.answer = (frame, call) => {
      open += frame.messages.length;
      most = Math.max(most, open);
      held.push(...frame.messages.map((request) => mesh.result(request)));
      setImmediate(() => {
        const results = held.splice(0, 3);
        open -= results.length;
        call.write({ results });
        if (held.length > 0) {
          mesh.answer({ messages: [] } as unknown as SendMessagesRequest, call);
        }
      });
      return true;
    };
    await Promise.all(texts(100).map((request) => bulk.send(request)));
    assert.equal(most, 10);
  }));

test("results come for any iterable, wrong requests included, and no faster than they are read", () =>
  withBulk({ maxInFlight: 5 }, async (bulk) => {
    let taken = 0;
    async function* requests() {
      for (const request of texts(40)) {
        taken += 1;
        yield taken === 20 ? { ...request, accountId: "x".repeat(1_100_000) } : request;
      }
    }
    const outcomes: SendOutcome[] = [];
    for await (const outcome of bulk.results(requests())) {
      outcomes.push(outcome);
      assert.ok(taken <= outcomes.length + 5, `${taken} taken, ${outcomes.length} read`);
    }
    assert.equal(outcomes.length, 40);
    const [wrong, ...none] = outcomes.filter(({ error }) => error !== undefined);
    assert.ok(wrong?.error instanceof InvalidArgument);
    assert.deepEqual(none, []);
  }));

test("what the producer throws comes through", () =>
  withBulk({}, async (bulk) => {
    const failure = new Error("the list cannot be read");
    async function* requests() {
      yield text(1);
      throw failure;
    }
    await assert.rejects(async () => {
      for await (const _ of bulk.results(requests()));
    }, failure);
  }));

test("a refused item has its own typed error", () =>
  withBulk({}, async (bulk, mesh) => {
    mesh.outcome = ({ requestId }) =>
      requestId === "request-3"
        ? { code: "NOT_FOUND", reason: "RESOURCE_NOT_FOUND", resource: ["account", "acc_3"] }
        : undefined;
    const results = await Promise.allSettled(texts(6).map((request) => bulk.send(request)));
    assert.deepEqual(
      results.map(({ status }) => status === "rejected"),
      [false, false, false, true, false, false],
    );
    const refusal = results[3] as PromiseRejectedResult;
    assert.ok(refusal.reason instanceof NotFound);
    assert.equal(refusal.reason.resource, "account acc_3");
  }));

test("an item whose account moves is sent again", () =>
  withBulk({}, async (bulk, mesh) => {
    const moves = new Set(["request-1", "request-4"]);
    mesh.outcome = ({ requestId }) =>
      moves.delete(requestId) ? { code: "UNAVAILABLE", reason: "NOT_OWNER", retryAfterMs: 1 } : undefined;
    await Promise.all(texts(6).map((request) => bulk.send(request)));
    assert.equal(mesh.seen.filter((requestId) => requestId === "request-1").length, 2);
    assert.equal(mesh.stored.size, 6);
  }));

test("a stream that breaks loses and doubles nothing", () =>
  withBulk({ maxInFlight: 40 }, async (bulk, mesh) => {
    let frames = 0;
    mesh.answer = (frame, call) => {
      frames += 1;
      if (frames % 3 !== 0) {
        return false;
      }
      frame.messages.forEach((request) => mesh.result(request)); // accepted, and nobody is told
      call.emit("error", refused(GOING_AWAY));
      return true;
    };
    const messages = await Promise.all(texts(200).map((request) => bulk.send(request)));
    assert.equal(new Set(messages.map(({ id }) => id)).size, 200);
    assert.equal(mesh.stored.size, 200);
    assert.ok(mesh.seen.length > 200, "some were sent again");
  }));

test("a router that is killed and comes back loses nothing", () =>
  withMesh(async (client, mesh, router) => {
    await using bulk = client.bulk();
    await bulk.send(text(0));
    router.kill();
    const sent = texts(50)
      .slice(1)
      .map((request) => bulk.send(request));
    await using _again = await FakeRouter.start([[MessageService, served(mesh)]], router.port);
    await Promise.all(sent);
    assert.equal(mesh.stored.size, 50);
  }));

test("a result that does not come in time is a typed error with the request id", () =>
  withBulk({ timeoutMs: 60 }, async (bulk, mesh) => {
    mesh.answer = () => true;
    await assert.rejects(bulk.send(text(1)), (error) => {
      assert.ok(error instanceof DeadlineExceeded);
      return error.metadata["request_id"] === "request-1" && /may have been accepted/.test(error.message);
    });
  }));

test("a key that is refused fails every item at once", () =>
  withBulk({}, async (bulk, mesh) => {
    mesh.answer = (_, call) => call.emit("error", refused({ code: "UNAUTHENTICATED", reason: "CREDENTIALS_INVALID" }));
    const results = await Promise.allSettled(texts(5).map((request) => bulk.send(request)));
    assert.ok(results.every((result) => result.status === "rejected" && result.reason instanceof Unauthenticated));
  }));

test("the same request id twice at a time is refused", () =>
  withBulk({}, async (bulk) => {
    const first = bulk.send(text(1));
    await assert.rejects(bulk.send(text(1)), InvalidArgument);
    await first;
    await bulk.send(text(1)); // and may be asked again later
  }));

test("closing rejects what has no result, and a closed sender takes nothing", () =>
  withBulk({}, async (bulk, mesh) => {
    mesh.answer = () => true;
    const open = assert.rejects(bulk.send(text(1)), Cancelled);
    await bulk.close();
    await open;
    await assert.rejects(bulk.send(text(2)), /the bulk sender is closed/);
  }));

test("a small list goes in one call and has its results in order", () =>
  withMesh(async (client, mesh) => {
    mesh.outcome = ({ requestId }) =>
      requestId === "request-2" ? { code: "NOT_FOUND", reason: "RESOURCE_NOT_FOUND" } : undefined;
    const outcomes = await client.sendMany(texts(5));
    assert.deepEqual(mesh.frames, [5]);
    assert.deepEqual(
      outcomes.map(({ request }) => request.requestId),
      texts(5).map(({ requestId }) => requestId),
    );
    assert.ok(outcomes[2]?.error instanceof NotFound);
    assert.equal(outcomes[4]?.message?.id, mesh.stored.get("request-4"));
  }));

test("of a small list only what moved is sent again", () =>
  withMesh(async (client, mesh) => {
    const moves = new Set(["request-1"]);
    mesh.outcome = ({ requestId }) =>
      moves.delete(requestId) ? { code: "UNAVAILABLE", reason: "NOT_OWNER", retryAfterMs: 1 } : undefined;
    const outcomes = await client.sendMany(texts(4));
    assert.deepEqual(mesh.frames, [4, 1]);
    assert.ok(outcomes.every(({ message }) => message !== undefined));
  }));

test("a small list that cannot be sent at all is an error", async () => {
  const client = connect("127.0.0.1:1", "smk_1");
  await assert.rejects(client.sendMany(texts(2), { timeoutMs: 100 }), Unavailable);
  client.close();
});
