/** Checks what `connect` is given: the target and the API key. */
import { InvalidArgument } from "./errors.js";

/** The routers of a target, each host:port or a gRPC target. Throws `InvalidArgument` with what is expected. */
export function routersOf(target: string | readonly string[]): readonly string[] {
  const given = typeof target !== "string" ? target : SCHEME.test(target) ? [target] : target.split(",");
  const entries = given.map((entry) => entry.trim());
  if (!entries.some((entry) => entry !== "")) {
    throw InvalidArgument.of("target", "is empty: give the router's address, host:port");
  }
  entries.forEach(check);
  return [...new Set(entries)];
}

/** Throws `InvalidArgument` for what can be no key, without repeating it: it may be a secret. */
export function checkApiKey(apiKey: string): void {
  if (apiKey === "") {
    throw InvalidArgument.of("apiKey", "is empty");
  }
  if (!/^[\x21-\x7e]+$/.test(apiKey)) {
    throw InvalidArgument.of("apiKey", "has blanks, line ends or other characters that no key has");
  }
}

function check(entry: string): void {
  const quoted = JSON.stringify(entry);
  if (entry.startsWith("xds:")) {
    throw InvalidArgument.of("target", `${quoted}: gRPC for Node has no route lookup; give a router's address`);
  }
  if (SCHEME.test(entry)) {
    return;
  }
  if (entry.includes("://")) {
    throw InvalidArgument.of("target", `${quoted} must be host:port, without ${entry.split(":")[0]}://`);
  }
  const port = Number(HOST_PORT.exec(entry)?.groups?.["port"]);
  if (!(port > 0 && port < 65536)) {
    throw InvalidArgument.of("target", `${quoted} is not host:port`);
  }
}

const SCHEME = /^(dns|ipv4|ipv6|unix):(?!\d+$)/;
const HOST_PORT = /^(?:\[[0-9a-fA-F:.%\w]+\]|[^\s:/,[\]@]+):(?<port>\d{1,5})$/;
