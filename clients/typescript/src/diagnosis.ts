/** Why no connection comes about, found out by trying: gRPC's own words are for those who know it. */
import { connect as connectTcp, isIP, type Socket } from "node:net";
import { connect as connectTls, type TLSSocket } from "node:tls";

import type { Tls } from "./channels.js";

/** Why a router cannot be reached, "" when nothing is wrong; `lasting`: waiting will not help. */
export interface Diagnosis {
  readonly sentence: string;
  readonly lasting: boolean;
}

/** Connects to all routers at the same time, and says what is wrong if none of them can be used. */
export async function diagnose(routers: readonly string[], tls: Tls | undefined): Promise<Diagnosis> {
  const addresses = routers.map(hostAndPort).filter((address) => address !== undefined);
  const diagnoses = await Promise.all(addresses.map(([host, port]) => check(host, port, tls)));
  if (diagnoses.length === 0 || diagnoses.some(({ sentence }) => sentence === "")) {
    return FINE;
  }
  return {
    sentence: `the mesh cannot be reached: ${diagnoses.map(({ sentence }) => sentence).join("; ")}`,
    lasting: diagnoses.every(({ lasting }) => lasting),
  };
}

async function check(host: string, port: number, tls: Tls | undefined): Promise<Diagnosis> {
  const where = `${host}:${port}`;
  try {
    return await (tls === undefined ? checkPlaintext(host, port) : checkTls(host, port, tls));
  } catch (error) {
    const code = error instanceof Error && "code" in error ? String(error.code) : String(error);
    const sentences: Record<string, string> = {
      ECONNREFUSED: `nothing listens at ${where}`,
      ENOTFOUND: `the name ${host} cannot be resolved`,
      EAI_AGAIN: `the name ${host} cannot be resolved now`,
      ETIMEDOUT: `${where} does not answer`,
    };
    return { sentence: sentences[code] ?? `${where} cannot be connected to (${code})`, lasting: false };
  }
}

async function checkPlaintext(host: string, port: number): Promise<Diagnosis> {
  const where = `${host}:${port}`;
  const answer = await firstAnswer(connectTcp(port, host), "connect");
  if (answer[3] === SETTINGS_FRAME) {
    return FINE; // what a gRPC server says first
  }
  const handshake = await handshaken(host, port, {}).catch(() => undefined);
  if (handshake !== undefined) {
    return { sentence: `${where} speaks TLS: connect with tls: { ca: ... }`, lasting: true };
  }
  return closedOrForeign(where, answer);
}

async function checkTls(host: string, port: number, tls: Tls): Promise<Diagnosis> {
  const where = `${host}:${port}`;
  let handshake: Handshake;
  try {
    handshake = await handshaken(host, port, tls);
  } catch (error) {
    if (error instanceof Error && "code" in error && String(error.code).startsWith("ERR_SSL_")) {
      return { sentence: `${where} does not speak TLS as this client does: connect without tls`, lasting: true };
    }
    throw error;
  }
  const { problem, answer } = handshake;
  if (problem !== "") {
    return { sentence: `the certificate of ${where} is not accepted (${problem})`, lasting: true };
  }
  if (answer[3] === SETTINGS_FRAME) {
    return FINE;
  }
  // With TLS 1.3 a server that misses a client certificate closes only after the handshake, perhaps without an alert.
  if (answer.length === 0 && tls.certificate === undefined) {
    return { sentence: `${where} asks for a certificate: tls: { certificate: ..., key: ... }`, lasting: true };
  }
  return closedOrForeign(where, answer);
}

interface Handshake {
  /** Why the certificate is not accepted; "" when it is. */
  readonly problem: string;
  /** What the server said first. */
  readonly answer: Buffer;
}

/** A TLS handshake, whoever it is with. */
async function handshaken(host: string, port: number, tls: Tls): Promise<Handshake> {
  const pem = (text: string | Uint8Array | undefined): Buffer | undefined =>
    text === undefined ? text : Buffer.from(text);
  const socket = connectTls({
    host,
    port,
    ca: pem(tls.ca),
    cert: pem(tls.certificate),
    key: pem(tls.key),
    ALPNProtocols: ["h2"],
    rejectUnauthorized: false,
    ...(isIP(host) ? {} : { servername: host }),
  });
  const answer = await firstAnswer(socket, "secureConnect");
  // Node keeps a code here, whatever its types say.
  return { problem: socket.authorized ? "" : String(socket.authorizationError), answer };
}

/**
 * The first bytes that come after the preface of HTTP/2; none when the connection ends. Rejects when none comes about.
 */
async function firstAnswer(socket: Socket | TLSSocket, ready: "connect" | "secureConnect"): Promise<Buffer> {
  try {
    return await new Promise((resolve, reject) => {
      let connected = false;
      socket.setTimeout(TIMEOUT_MS, () => reject(Object.assign(new Error("late"), { code: "ETIMEDOUT" })));
      socket.once(ready, () => {
        connected = true;
        socket.write(CLIENT_PREFACE);
      });
      socket.once("data", resolve);
      socket.once("close", () => resolve(Buffer.alloc(0)));
      socket.on("error", (error) => (connected ? resolve(Buffer.alloc(0)) : reject(error)));
    });
  } finally {
    socket.destroy();
  }
}

function closedOrForeign(where: string, answer: Buffer): Diagnosis {
  if (answer.length === 0) {
    return { sentence: `${where} closes connections at once`, lasting: false };
  }
  return { sentence: `what listens at ${where} does not speak gRPC`, lasting: true };
}

/** Undefined for a target that is no host name and port. */
function hostAndPort(router: string): [host: string, port: number] | undefined {
  const entry = router.replace(/^dns:(\/\/[^/]*\/)?/, "");
  const found = /^(?<host>\[[^\]]+\]|[^:,/]+):(?<port>\d+)$/.exec(entry)?.groups;
  return found && [String(found["host"]).replace(/^\[|\]$/g, ""), Number(found["port"])];
}

const FINE: Diagnosis = { sentence: "", lasting: false };
const TIMEOUT_MS = 1_000;
const SETTINGS_FRAME = 4;
const CLIENT_PREFACE = Buffer.concat([
  Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
  Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]),
]);
