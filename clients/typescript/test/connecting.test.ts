import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createServer as createHttpServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { test } from "node:test";

import { type handleUnaryCall, ServerCredentials } from "@grpc/grpc-js";

import { connect, FailedPrecondition, InvalidArgument, Unavailable } from "../src/index.js";
import { AccountService, type GetAccountRequest } from "../src/gen/v1.js";
import { FakeRouter } from "./fake-router.js";

/** A folder with ca.pem, other.pem, server.crt, server.key, client.crt and client.key, for 127.0.0.1. */
const CERTIFICATES = process.env["MESH_TEST_CERTIFICATES"] ?? "";
const withCertificates = { skip: CERTIFICATES === "" && "MESH_TEST_CERTIFICATES names no folder" };
const file = (name: string): Buffer => readFileSync(join(CERTIFICATES, name));

const FREE_PORT = 1; // nobody but root could listen there, and nobody does

/** A router that answers with its name as the account's. */
async function router(name: string, port = 0, credentials?: ServerCredentials): Promise<FakeRouter> {
  const getAccount: handleUnaryCall<GetAccountRequest, object> = (_, respond) =>
    respond(null, { account: { id: name } });
  return await FakeRouter.start([[AccountService, { getAccount }]], port, credentials);
}

const serverCredentials = (asking: boolean): ServerCredentials =>
  ServerCredentials.createSsl(
    file("ca.pem"),
    [{ private_key: file("server.key"), cert_chain: file("server.crt") }],
    asking,
  );

async function refusal(target: string | string[], options: Parameters<typeof connect>[2] = {}): Promise<string> {
  const client = connect(target, "smk_1", options);
  try {
    await client.getAccount("acc_1", { timeoutMs: 300 });
  } catch (error) {
    assert.ok(error instanceof Unavailable, String(error));
    return error.detail;
  } finally {
    client.close();
  }
  return "nothing";
}

test("the routers of a list take turns, and a dead one is not noticed", async () => {
  await using one = await router("one");
  await using two = await router("two");
  const client = connect(`${one.address},${two.address}`, "smk_1");
  const ask = async (): Promise<string> => (await client.getAccount("acc_1")).id;
  const seen = new Set<string>();
  while (seen.size < 2) {
    seen.add(await ask()); // the second is connected a moment after the first
  }
  assert.deepEqual(new Set([await ask(), await ask()]), seen);
  one.kill();
  assert.deepEqual([await ask(), await ask(), await ask()], ["two", "two", "two"]);
  client.close();
});

test("a router that starts late is waited for", async () => {
  const port = await router("gone").then((gone) => (gone.kill(), gone.port));
  const client = connect(`127.0.0.1:${port}`, "smk_1");
  const answer = client.getAccount("acc_1");
  await using _late = await router("late", port);
  assert.equal((await answer).id, "late");
  client.close();
});

test("a closed client says so", async () => {
  const client = connect(`127.0.0.1:${FREE_PORT}`, "smk_1");
  client.close();
  await assert.rejects(client.getAccount("acc_1"), FailedPrecondition);
});

test("what is wrong with an address is said in words", async () => {
  assert.equal(
    await refusal(`127.0.0.1:${FREE_PORT}`),
    `the mesh cannot be reached: nothing listens at 127.0.0.1:${FREE_PORT}`,
  );
  const both = await refusal([`127.0.0.1:${FREE_PORT}`, `[::1]:${FREE_PORT}`]);
  assert.match(both, /nothing listens at 127\.0\.0\.1:1; /);
});

test("another program at the address is not waited for", async () => {
  const other = createHttpServer((_, response) => response.end()).listen(0, "127.0.0.1");
  await new Promise((resolve) => other.once("listening", resolve));
  const { port } = other.address() as AddressInfo;
  const said = await refusal(`127.0.0.1:${port}`);
  assert.match(said, /does not speak gRPC|closes connections at once/);
  other.close();
});

test(
  "TLS is spoken, with an authority of one's own and a certificate where one is asked for",
  withCertificates,
  async () => {
    await using asking = await router("asking", 0, serverCredentials(true));
    const tls = { ca: file("ca.pem"), certificate: file("client.crt"), key: file("client.key") };
    const client = connect(asking.address, "smk_1", { tls });
    assert.equal((await client.getAccount("acc_1")).id, "asking");
    client.close();
    assert.match(await refusal(asking.address, { tls: { ca: tls.ca } }), /asks for a certificate/);
  },
);

test("what is wrong with TLS is said in words", withCertificates, async () => {
  await using secure = await router("secure", 0, serverCredentials(false));
  await using plain = await router("plain");
  assert.match(await refusal(secure.address), /speaks TLS: connect with tls/);
  assert.match(await refusal(plain.address, { tls: { ca: file("ca.pem") } }), /does not speak TLS/);
  assert.match(await refusal(secure.address, { tls: { ca: file("other.pem") } }), /certificate of .* is not accepted/);
});

test("every form of target is taken", () => {
  const targets = [
    "mesh.example.com:7600",
    "127.0.0.1:7600",
    "[::1]:7600",
    "a:1,b:2",
    ["a:1", "b:2"],
    "dns:///mesh:7600",
    "unix:/run/mesh",
  ];
  targets.forEach((target) => connect(target, "smk_1").close());
});

for (const [target, said] of [
  ["", /is empty/],
  ["mesh", /is not host:port/],
  ["mesh:0", /is not host:port/],
  ["http://mesh:7600", /without http:\/\//],
  ["xds:///sessionmesh", /no route lookup/],
  [["a:1", "mesh:port"], /is not host:port/],
] as const) {
  test(`the target ${JSON.stringify(target)} is refused at once`, () => {
    assert.throws(
      () => connect(target, "smk_1"),
      (error) => error instanceof InvalidArgument && said.test(error.message),
    );
  });
}

test("a key that can be none is refused and not repeated", () => {
  for (const key of ["", "smk 1", "smk_1\n", "smk_ü"]) {
    assert.throws(
      () => connect("mesh:7600", key),
      (error) => error instanceof InvalidArgument && !error.message.includes("smk"),
    );
  }
});
