// Calls the mesh on behalf of one account until its standard input ends. Arguments are the folder of the protos, TARGET,
// KEY and ACCOUNT. Prints what it gets, one line each: "scan QR", "paired ADDRESS", "sent ID RECIPIENT",
// "delivered CURSOR", "received SENDER", "replied ID", "refused CODE REASON FIELD" twice, "future KIND", what it takes an
// event for whose kind it does not know, "session STATE", and then for each message that it sends and looks up again
// "done PEER", the address that answered the second call, or "failed ERROR".
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { setTimeout as passed } from "node:timers/promises";

import grpc from "@grpc/grpc-js";
import xds from "@grpc/grpc-js-xds";
import protoLoader from "@grpc/proto-loader";

const CALL_MILLISECONDS = 30_000;
const PAUSE_MILLISECONDS = 20;
const RECIPIENT = "phone:+4915112345678";
/** An event with a kind that is not in this program's protos: field 1000. */
const FUTURE_EVENT = Buffer.from([0xc2, 0x3e, 0]);

const [protos, target, key, account] = process.argv.slice(2);
if (account === undefined) {
  console.error("usage: client.js PROTOS TARGET KEY ACCOUNT");
  process.exit(64);
}
xds.register();
const definition = protoLoader.loadSync(
  ["sessionmesh/v1/event.proto", "google/rpc/error_details.proto", "google/rpc/status.proto"],
  { includeDirs: [protos], enums: String, longs: String, oneofs: true },
);
const { sessionmesh } = grpc.loadPackageDefinition(definition);
const messages = new sessionmesh.v1.MessageService(target, grpc.credentials.createInsecure());
const sessions = new sessionmesh.v1.SessionService(target, grpc.credentials.createInsecure());
const events = new sessionmesh.v1.EventService(target, grpc.credentials.createInsecure());
const credentials = new grpc.Metadata();
credentials.set("authorization", `Bearer ${key}`);
const identity = credentials.clone();
identity.set("x-account-id", account);

/** The answer to a unary call, and the address that it came from. */
function call(stub, method, request) {
  return new Promise((resolve, reject) => {
    const started = stub[method](request, identity, within(), (error, answer) =>
      error ? reject(error) : resolve({ answer, peer: started.getPeer() }),
    );
  });
}

function within() {
  return { deadline: Date.now() + CALL_MILLISECONDS };
}

/** Shows each code until somebody has scanned one; the account's own address. */
async function pair() {
  const steps = sessions.Pair({ accountId: account, requestId: randomUUID() }, identity, within());
  for await (const step of steps) {
    switch (step.step) {
      case "qr":
        console.log("scan", step.qr.text);
        break;
      case "paired":
        return step.paired.session.self.address;
      case "timedOut":
      case "refused":
        throw new Error(`not paired: ${step.step}`);
      default: // a step to wait at, or of a newer mesh
    }
  }
}

/** Sends a message, waits until it is delivered and answered, and answers in turn. */
async function talk() {
  const sent = await send(RECIPIENT);
  console.log("sent", sent.id, sent.recipient.address);
  const { cursor, received } = await deliveryAndAnswer(sent.id);
  console.log("delivered", cursor);
  console.log("received", received.sender.address);
  const reply = await send(received.chat, { messageId: received.id });
  console.log("replied", reply.id);
}

async function send(recipient, replyTo) {
  const { answer } = await call(messages, "SendMessage", {
    accountId: account,
    requestId: randomUUID(),
    recipient,
    content: { text: { body: "Hello from Node" } },
    options: { replyTo },
  });
  return answer.message;
}

/** Follows the account's events until a message is delivered and another one has come. */
async function deliveryAndAnswer(id) {
  const request = { fromOldest: true, eventTypes: ["message.*"], accountIds: [account] };
  let cursor, received;
  const frames = events.Subscribe(request, credentials, within());
  frames.on("error", () => {}); // cancelling is one
  for await (const frame of frames) {
    for (const event of frame.events?.events ?? []) {
      switch (kindOf(event)) {
        case "status": {
          const { messageId, status } = event.messageStatus;
          if (messageId === id && status === "MESSAGE_STATUS_DELIVERED") cursor = event.cursor;
          break;
        }
        case "message":
          received = event.message.message;
          break;
      }
    }
    if (cursor && received) break;
  }
  frames.cancel(); // leaving the loop does not end the call
  return { cursor, received };
}

/** What an event is to this program. Later versions of the mesh have more kinds. */
function kindOf(event) {
  switch (event.payload) {
    case "messageStatus":
      return "status";
    case "message":
      return "message";
    default:
      return "other";
  }
}

/** Asks for a message that there is not, for its code, the reason and the field in its details. */
async function refusal(messageId) {
  try {
    await call(messages, "GetMessage", { accountId: account, message: { messageId } });
    return "nothing";
  } catch (error) {
    const [packed] = error.metadata.get("grpc-status-details-bin");
    const words = [error.code];
    for (const { type_url: url, value } of definition["google.rpc.Status"].deserialize(packed).details) {
      const name = url.slice(url.lastIndexOf("/") + 1);
      if (name === "google.rpc.ErrorInfo") words.push(definition[name].deserialize(value).reason);
      if (name === "google.rpc.BadRequest") words.push(definition[name].deserialize(value).fieldViolations[0].field);
    }
    return words.join(" ");
  }
}

async function firstState() {
  const states = sessions.WatchSession({ accountId: account }, identity, within());
  states.on("error", () => {}); // cancelling is one
  const [first] = await once(states, "data");
  states.cancel();
  return first.session.state;
}

async function sendAndLookUp() {
  const { id } = await send(RECIPIENT);
  const { peer } = await call(messages, "GetMessage", { accountId: account, message: { messageId: id } });
  return peer;
}

let ended = false;
process.stdin.on("end", () => (ended = true)).resume();
console.log("paired", await pair());
await talk();
console.log("refused", await refusal("msg_01ARZ3NDEKTSV4RRFFQ69G5FAV"));
console.log("refused", await refusal("nonsense"));
console.log("future", kindOf(definition["sessionmesh.v1.Event"].deserialize(FUTURE_EVENT)));
console.log("session", await firstState());
do {
  await sendAndLookUp().then(
    (peer) => console.log("done", peer),
    (error) => console.log("failed", error.message),
  );
  await passed(PAUSE_MILLISECONDS);
} while (!ended);
messages.close();
sessions.close();
events.close();
