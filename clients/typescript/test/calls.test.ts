import assert from "node:assert/strict";
import { test } from "node:test";

import { create } from "@bufbuild/protobuf";
import type { Metadata, sendUnaryData, ServerUnaryCall, UntypedHandleCall } from "@grpc/grpc-js";

import {
  CursorExpired,
  DeadlineExceeded,
  FailedPrecondition,
  InternalError,
  InvalidArgument,
  type MeshCallError,
  messageRef,
  NotFound,
  NotServed,
  PermissionDenied,
  ResourceExhausted,
  Unauthenticated,
  Unavailable,
} from "../src/index.js";
import { type Client, connect } from "../src/client.js";
import {
  AccountService,
  Direction,
  EventService,
  MessageSchema,
  MessageService,
  type SendMessageRequest,
  SendMessageRequestSchema,
  WebhookService,
} from "../src/gen/v1.js";
import { FakeRouter, GOING_AWAY, type Refusal, refused } from "./fake-router.js";

/** What came, and what each call is answered: a refusal, in turn, or else a message. */
class Mesh {
  readonly requests: SendMessageRequest[] = [];
  readonly metadata: Metadata[] = [];
  refusals: Refusal[] = [];
  answer = true;
  came: () => void = () => undefined;

  readonly handle: UntypedHandleCall = (
    call: ServerUnaryCall<SendMessageRequest, unknown>,
    respond: sendUnaryData<unknown>,
  ): void => {
    this.requests.push(call.request);
    this.metadata.push(call.metadata);
    this.came();
    const refusal = this.refusals.shift();
    if (refusal !== undefined) {
      respond(refused(refusal));
    } else if (this.answer) {
      respond(null, { message: { id: `msg_${call.request.requestId}` } });
    }
  };
}

async function withMesh(use: (client: Client, mesh: Mesh) => Promise<void>): Promise<void> {
  const mesh = new Mesh();
  const only = {
    sendMessage: mesh.handle,
    testEndpoint: mesh.handle,
    getAccount: mesh.handle,
    listEvents: mesh.handle,
  };
  const router = await FakeRouter.start([
    [MessageService, only],
    [WebhookService, only],
    [AccountService, only],
    [EventService, only],
  ]);
  const client = connect(router.address, "smk_1");
  try {
    await use(client, mesh);
  } finally {
    client.close();
    router.kill();
  }
}

const isA = (kind: new (...given: never[]) => MeshCallError, about: Partial<MeshCallError>) => (error: unknown) => {
  assert.ok(error instanceof kind, String(error));
  const told = Object.fromEntries(Object.keys(about).map((name) => [name, error[name as keyof MeshCallError]]));
  assert.deepEqual(told, about);
  return true;
};

test("a text is sent with all that a call needs", () =>
  withMesh(async (client, mesh) => {
    const metadata = { traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01" };
    const message = await client.sendText("acc_1", "+4915112345678", "Hello", { replyTo: "msg_0", metadata });
    const [request] = mesh.requests;
    assert.equal(request?.recipient, "+4915112345678");
    assert.deepEqual(request.content?.kind, { case: "text", value: request.content?.kind.value });
    assert.equal(request.options?.replyTo?.messageId, "msg_0");
    assert.match(request.requestId, /^[0-9a-f]{32}$/);
    assert.equal(message.id, `msg_${request.requestId}`);
    const sent = mesh.metadata[0]?.getMap();
    assert.equal(sent?.["authorization"], "Bearer smk_1");
    assert.equal(sent?.["x-account-id"], "acc_1");
    assert.equal(sent?.["traceparent"], metadata.traceparent);
  }));

test("a request that is sent twice is two requests, unless it has a request id", () =>
  withMesh(async (client, mesh) => {
    const request = create(SendMessageRequestSchema, { accountId: "acc_1", recipient: "+4915112345678" });
    await client.messages.sendMessage(request);
    await client.messages.sendMessage(request);
    assert.equal(request.requestId, "");
    request.requestId = "order-4711";
    await client.messages.sendMessage(request);
    const [first, second, third] = mesh.requests.map(({ requestId }) => requestId);
    assert.notEqual(first, second);
    assert.equal(third, "order-4711");
  }));

test("an unavailable mesh is tried again under the same request id", () =>
  withMesh(async (client, mesh) => {
    mesh.refusals = [{ code: "UNAVAILABLE", reason: "NO_INSTANCE", retryAfterMs: 1 }, GOING_AWAY];
    await client.sendText("acc_1", "+4915112345678", "Hello");
    assert.equal(mesh.requests.length, 3);
    assert.equal(new Set(mesh.requests.map(({ requestId }) => requestId)).size, 1);
  }));

test("a method that may not be repeated is not", () =>
  withMesh(async (client, mesh) => {
    mesh.refusals = [GOING_AWAY];
    await assert.rejects(
      client.webhooks.testEndpoint({ endpointId: "whe_1" }),
      isA(Unavailable, { reason: "GOING_AWAY" }),
    );
    assert.equal(mesh.requests.length, 1);
  }));

test("what the mesh says will not help is not tried again", () =>
  withMesh(async (client, mesh) => {
    mesh.refusals = [{ code: "UNAVAILABLE", reason: "DATABASE_UNAVAILABLE" }];
    await assert.rejects(client.getAccount("acc_1"), isA(Unavailable, { reason: "DATABASE_UNAVAILABLE" }));
    assert.equal(mesh.requests.length, 1);
  }));

test("a mesh in trouble gets no more than the budget", () =>
  withMesh(async (client, mesh) => {
    mesh.refusals = Array.from({ length: 300 }, () => ({
      code: "UNAVAILABLE",
      reason: "NO_INSTANCE",
      retryAfterMs: 0,
    }));
    const calls = Array.from({ length: 60 }, () =>
      client.getAccount("acc_1").catch((error: MeshCallError) => error.code),
    );
    assert.deepEqual(new Set(await Promise.all(calls)), new Set(["UNAVAILABLE"]));
    assert.ok(mesh.requests.length < 60 + 25, `${mesh.requests.length} calls`);
  }));

const KINDS: [Refusal, new (...given: never[]) => MeshCallError, Partial<MeshCallError>][] = [
  [
    { code: "INVALID_ARGUMENT", reason: "INVALID_FIELD", field: "recipient" },
    InvalidArgument,
    { fieldViolations: [{ field: "recipient", description: "is wrong" }] },
  ],
  [{ code: "UNAUTHENTICATED", reason: "CREDENTIALS_INVALID" }, Unauthenticated, { reason: "CREDENTIALS_INVALID" }],
  [
    { code: "PERMISSION_DENIED", reason: "SCOPE_MISSING", metadata: { scope: "SEND" } },
    PermissionDenied,
    { metadata: { scope: "SEND" } },
  ],
  [
    { code: "NOT_FOUND", reason: "RESOURCE_NOT_FOUND", resource: ["account", "acc_1"] },
    NotFound,
    { resource: "account acc_1" },
  ],
  [{ code: "FAILED_PRECONDITION", reason: "NOT_PAIRED" }, FailedPrecondition, { reason: "NOT_PAIRED" }],
  [
    { code: "RESOURCE_EXHAUSTED", reason: "RATE_LIMITED", quota: "calls", retryAfterMs: 1_500 },
    ResourceExhausted,
    { quota: "calls", retryAfterMs: 1_500 },
  ],
  [{ code: "UNIMPLEMENTED", reason: "NOT_SERVED" }, NotServed, { code: "UNIMPLEMENTED" }],
  [
    { code: "INTERNAL", reason: "INTERNAL", metadata: { error_id: "e1" } },
    InternalError,
    { metadata: { error_id: "e1" } },
  ],
  [{ code: "INTERNAL" }, InternalError, { reason: "", detail: "refused" }],
];
for (const [refusal, kind, about] of KINDS) {
  test(`${refusal.code} ${refusal.reason ?? "without details"} is ${kind.name}`, () =>
    withMesh(async (client, mesh) => {
      mesh.refusals = [refusal];
      await assert.rejects(client.getAccount("acc_1"), isA(kind, { code: refusal.code, ...about }));
      assert.equal(mesh.requests.length, 1);
    }));
}

test("an expired cursor tells where the events that are kept begin", () =>
  withMesh(async (client, mesh) => {
    mesh.refusals = [{ code: "OUT_OF_RANGE", reason: "CURSOR_OUT_OF_RANGE", metadata: { oldest_cursor: "c7" } }];
    await assert.rejects(client.events.listEvents({ cursor: "c1" }), (error) => {
      assert.ok(error instanceof CursorExpired);
      return error.oldestCursor === "c7";
    });
  }));

test("a call without an answer in time says so", () =>
  withMesh(async (client, mesh) => {
    mesh.answer = false;
    const late = client.getAccount("acc_1", { timeoutMs: 50 });
    await assert.rejects(late, isA(DeadlineExceeded, { detail: "GetAccount had no answer within 50 ms" }));
  }));

test("an aborted call rejects at once with the signal's reason", { timeout: 10_000 }, () =>
  withMesh(async (client, mesh) => {
    mesh.answer = false;
    const controller = new AbortController();
    const reason = new Error("not needed any more");
    mesh.came = () => controller.abort(reason);
    await assert.rejects(client.getAccount("acc_1", { signal: controller.signal }), reason);
    await assert.rejects(client.getAccount("acc_1", { signal: controller.signal }), reason);
  }),
);

test("what cannot be sent is refused before it is", () =>
  withMesh(async (client, mesh) => {
    const field = (name: string) => (error: unknown) =>
      error instanceof InvalidArgument && error.fieldViolations[0]?.field === name;
    await assert.rejects(client.getAccount("acc_1\n"), field("accountId"));
    await assert.rejects(client.getAccount("acc_1", { timeoutMs: Number.NaN }), field("timeoutMs"));
    await assert.rejects(client.getAccount("acc_1", { metadata: { "X-Upper": "1" } }), field("metadata"));
    await assert.rejects(client.sendText("acc_1", "+4915112345678", "half \ud83d"), field("text"));
    assert.deepEqual(mesh.requests, []);
  }));

test("a message is referred to by its id, itself, or a reference", () => {
  const inbound = create(MessageSchema, {
    id: "msg_1",
    networkMessageId: "3EB0",
    chat: "group:1",
    sender: { address: "phone:+4915112345678" },
    direction: Direction.INBOUND,
  });
  const reference = messageRef(inbound);
  assert.deepEqual(
    [reference.messageId, reference.sender, reference.fromAccount],
    ["msg_1", "phone:+4915112345678", false],
  );
  const own = messageRef(create(MessageSchema, { ...inbound, id: "msg_2", direction: Direction.OUTBOUND }));
  assert.deepEqual([own.messageId, own.sender, own.fromAccount], ["msg_2", "", true]);
  assert.equal(messageRef(reference), reference);
  assert.equal(messageRef("msg_3").messageId, "msg_3");
});
