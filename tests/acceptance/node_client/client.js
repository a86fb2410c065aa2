// Calls the mesh on behalf of one account until its standard input ends. Arguments are the folder of the protos, TARGET,
// KEY and ACCOUNT. Prints what it gets, one line each: "sent ID", "refused CODE REASON", "session STATE", and then for
// each message that it sends and looks up again "done PEER", the address that answered the second call, or
// "failed ERROR".
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { setTimeout as passed } from "node:timers/promises";

import grpc from "@grpc/grpc-js";
import xds from "@grpc/grpc-js-xds";
import protoLoader from "@grpc/proto-loader";

const CALL_MILLISECONDS = 20_000;
const PAUSE_MILLISECONDS = 20;

const [protos, target, key, account] = process.argv.slice(2);
if (account === undefined) {
  console.error("usage: client.js PROTOS TARGET KEY ACCOUNT");
  process.exit(64);
}
xds.register();
const definition = protoLoader.loadSync(
  ["sessionmesh/v1/message.proto", "sessionmesh/v1/session.proto", "google/rpc/error_details.proto", "google/rpc/status.proto"],
  { includeDirs: [protos], enums: String, longs: String },
);
const { sessionmesh } = grpc.loadPackageDefinition(definition);
const messages = new sessionmesh.v1.MessageService(target, grpc.credentials.createInsecure());
const sessions = new sessionmesh.v1.SessionService(target, grpc.credentials.createInsecure());
const identity = new grpc.Metadata();
identity.set("authorization", `Bearer ${key}`);
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

async function send() {
  const { answer } = await call(messages, "SendMessage", {
    accountId: account,
    requestId: randomUUID(),
    recipient: { phone: "+4915112345678" },
    content: { text: { body: "Hello from Node" } },
  });
  return answer.message.id;
}

/** Asks for a message that cannot exist, for its code and the reason in its details. */
async function refusal() {
  try {
    await call(messages, "GetMessage", { accountId: account, messageId: "msg_01ARZ3NDEKTSV4RRFFQ69G5FAV" });
    return "nothing";
  } catch (error) {
    const [packed] = error.metadata.get("grpc-status-details-bin");
    const { details } = definition["google.rpc.Status"].deserialize(packed);
    const info = details.find((detail) => detail.type_url.endsWith("/google.rpc.ErrorInfo"));
    return `${error.code} ${definition["google.rpc.ErrorInfo"].deserialize(info.value).reason}`;
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
  const { peer } = await call(messages, "GetMessage", { accountId: account, messageId: await send() });
  return peer;
}

let ended = false;
process.stdin.on("end", () => (ended = true)).resume();
console.log("sent", await send());
console.log("refused", await refusal());
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
