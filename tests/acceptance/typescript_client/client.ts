// Calls the mesh on behalf of one account until its standard input ends. Arguments are ADDRESS, KEY and ACCOUNT. Prints
// what it gets, one line each: "scan QR", "paired ADDRESS", "sent ID RECIPIENT", "delivered CURSOR", "received SENDER",
// "replied ID", "refused CODE REASON FIELD" twice, "future KIND", what it takes an event for whose kind it does not
// know, "session STATE", and then for each message that it sends and looks up again "done ADDRESS" or "failed ERROR".
import { randomUUID } from "node:crypto";
import { setTimeout as passed } from "node:timers/promises";

import { fromBinary, type MessageInitShape } from "@bufbuild/protobuf";
import { ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";

import { BadRequestSchema, ErrorInfoSchema } from "./stubs/google/rpc/error_details_pb.js";
import type { MessageRefSchema } from "./stubs/sessionmesh/v1/common_pb.js";
import { type Event, EventSchema, EventService } from "./stubs/sessionmesh/v1/event_pb.js";
import { type Message, MessageService, MessageStatus } from "./stubs/sessionmesh/v1/message_pb.js";
import { SessionService, SessionState } from "./stubs/sessionmesh/v1/session_pb.js";

const CALL_MILLISECONDS = 30_000;
const PAUSE_MILLISECONDS = 20;
const RECIPIENT = "phone:+4915112345678";
/** An event with a kind that is not in this program's stubs: field 1000. */
const FUTURE_EVENT = Uint8Array.of(0xc2, 0x3e, 0);

const [address, key, accountId] = process.argv.slice(2);
if (address === undefined || key === undefined || accountId === undefined) {
  console.error("usage: client.js ADDRESS KEY ACCOUNT");
  process.exit(64);
}
const transport = createGrpcTransport({ baseUrl: `http://${address}` });
const messages = createClient(MessageService, transport);
const sessions = createClient(SessionService, transport);
const events = createClient(EventService, transport);
const credentials = { authorization: `Bearer ${key}` };
const call = { headers: { ...credentials, "x-account-id": accountId }, timeoutMs: CALL_MILLISECONDS };

/** Shows each code until somebody has scanned one; the account's own address. */
async function pair(): Promise<string | undefined> {
  for await (const { step } of sessions.pair({ accountId, requestId: randomUUID() }, call)) {
    switch (step.case) {
      case "qr":
        console.log("scan", step.value.text);
        break;
      case "paired":
        return step.value.session?.self?.address;
      case "timedOut":
      case "refused":
        throw new Error(`not paired: ${step.case}`);
      default: // a step to wait at, or of a newer mesh
    }
  }
  throw new Error("the stream ended");
}

/** Sends a message, waits until it is delivered and answered, and answers in turn. */
async function talk(): Promise<void> {
  const sent = await send(RECIPIENT);
  console.log("sent", sent.id, sent.recipient?.address);
  const [cursor, received] = await deliveryAndAnswer(sent.id);
  console.log("delivered", cursor);
  console.log("received", received.sender?.address);
  const reply = await send(received.chat, { messageId: received.id });
  console.log("replied", reply.id);
}

async function send(recipient: string, replyTo?: MessageInitShape<typeof MessageRefSchema>): Promise<Message> {
  const { message } = await messages.sendMessage(
    {
      accountId,
      requestId: randomUUID(),
      recipient,
      content: { kind: { case: "text", value: { body: "Hello from TypeScript" } } },
      options: { replyTo },
    },
    call,
  );
  if (message === undefined) {
    throw new Error("answered without a message");
  }
  return message;
}

/** Follows the account's events until a message is delivered and another one has come. */
async function deliveryAndAnswer(id: string): Promise<[string, Message]> {
  const start = { case: "fromOldest", value: true } as const;
  const request = { start, eventTypes: ["message.*"], accountIds: [accountId] };
  let cursor: string | undefined;
  let received: Message | undefined;
  const enough = new AbortController();
  const options = { headers: credentials, timeoutMs: CALL_MILLISECONDS, signal: enough.signal };
  for await (const { frame } of events.subscribe(request, options)) {
    for (const event of frame.case === "events" ? frame.value.events : []) {
      const { payload } = event;
      if (payload.case === "message") {
        received = payload.value.message;
      } else if (
        payload.case === "messageStatus" &&
        payload.value.messageId === id &&
        payload.value.status === MessageStatus.DELIVERED
      ) {
        cursor = event.cursor;
      }
    }
    if (cursor !== undefined && received !== undefined) {
      enough.abort(); // leaving the loop does not end the call
      return [cursor, received];
    }
  }
  throw new Error("the stream ended");
}

/** What an event is to this program. Later versions of the mesh have more kinds. */
function kindOf({ payload }: Event): string {
  switch (payload.case) {
    case "messageStatus":
      return "status";
    case "message":
      return "message";
    default:
      return "other";
  }
}

/** Asks for a message that there is not, for its code, the reason and the field in its details. */
async function refusal(messageId: string): Promise<string> {
  try {
    await messages.getMessage({ accountId, message: { messageId } }, call);
    return "nothing";
  } catch (error) {
    const refused = ConnectError.from(error);
    const reasons = refused.findDetails(ErrorInfoSchema).map(({ reason }) => reason);
    const fields = refused.findDetails(BadRequestSchema).map(({ fieldViolations }) => fieldViolations[0]?.field);
    return [refused.code, ...reasons, ...fields].join(" ");
  }
}

async function firstState(): Promise<string> {
  const enough = new AbortController();
  for await (const { session } of sessions.watchSession({ accountId }, { ...call, signal: enough.signal })) {
    enough.abort();
    return `SESSION_STATE_${SessionState[session?.state ?? 0]}`;
  }
  return "none";
}

async function sendAndLookUp(): Promise<void> {
  const { id } = await send(RECIPIENT);
  await messages.getMessage({ accountId, message: { messageId: id } }, call);
}

let ended = false;
process.stdin.on("end", () => (ended = true)).resume();
console.log("paired", await pair());
await talk();
console.log("refused", await refusal("msg_01ARZ3NDEKTSV4RRFFQ69G5FAV"));
console.log("refused", await refusal("nonsense"));
console.log("future", kindOf(fromBinary(EventSchema, FUTURE_EVENT)));
console.log("session", await firstState());
do {
  await sendAndLookUp().then(
    () => console.log("done", address),
    (error: unknown) => console.log("failed", ConnectError.from(error).message),
  );
  await passed(PAUSE_MILLISECONDS);
} while (!ended);
process.exit(0); // the timers of streams that were left early would go on for CALL_MILLISECONDS
