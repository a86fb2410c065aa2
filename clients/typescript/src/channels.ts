/** gRPC channels to the routers of a mesh. */
import { setTimeout as passed } from "node:timers/promises";

import {
  type ChannelCredentials,
  type ChannelOptions,
  Client as GrpcClient,
  connectivityState,
  credentials,
} from "@grpc/grpc-js";

import { diagnose } from "./diagnosis.js";
import { FailedPrecondition, Unreachable } from "./errors.js";

/**
 * PEM contents. Without `ca` the authorities that Node trusts count; certificate and key are for meshes that ask
 * callers for theirs.
 */
export interface Tls {
  readonly ca?: string | Uint8Array;
  readonly certificate?: string | Uint8Array;
  readonly key?: string | Uint8Array;
}

/** A connection to each router: calls are spread over the connected ones in turn; a lost connection is made again. */
export class Routers {
  readonly #clients: readonly GrpcClient[];
  readonly #routers: readonly string[];
  readonly #tls: Tls | undefined;
  #turn = 0;
  #connecting: Promise<void> | undefined;
  #closed = false;

  constructor(routers: readonly string[], tls: Tls | undefined) {
    this.#routers = routers;
    this.#tls = tls;
    const credentials = channelCredentials(tls);
    this.#clients = routers.map((router) => new GrpcClient(router, credentials, channelOptions(router)));
  }

  /**
   * A connected router's client. Throws `Unreachable` once connecting to each of them has failed, at the latest after
   * `timeoutMs`, with what is wrong, and the signal's reason when it is aborted.
   */
  async connected(timeoutMs: number, signal?: AbortSignal): Promise<GrpcClient> {
    const client = this.#nextReady() ?? (await this.#connectedLater(timeoutMs, signal));
    signal?.throwIfAborted();
    if (client !== undefined) {
      return client;
    }
    const { sentence, lasting } = await diagnose(this.#routers, this.#tls);
    throw new Unreachable(sentence || `no connection to ${this.#routers.join(", ")}`, lasting);
  }

  /** Closes the connections; calls on them end with `Cancelled`. */
  close(): void {
    this.#closed = true;
    this.#clients.forEach((client) => client.close());
  }

  #nextReady(): GrpcClient | undefined {
    if (this.#closed) {
      throw new FailedPrecondition("FAILED_PRECONDITION", "the client is closed");
    }
    // Asking for the state makes a lost connection connect again, so all are asked each time.
    const ready = this.#clients.filter(
      (client) => client.getChannel().getConnectivityState(true) === connectivityState.READY,
    );
    this.#turn += 1;
    return ready[this.#turn % ready.length];
  }

  async #connectedLater(timeoutMs: number, signal: AbortSignal | undefined): Promise<GrpcClient | undefined> {
    // All callers wait for the same attempt, which goes on when one of them gives up.
    this.#connecting ??= oneConnects(this.#clients.map((client) => client.getChannel())).finally(() => {
      this.#connecting = undefined;
    });
    const over = new AbortController();
    const until = signal === undefined ? over.signal : AbortSignal.any([signal, over.signal]);
    const late = passed(Math.min(Math.max(timeoutMs, 0), MAX_TIMER_MS), undefined, { signal: until });
    await Promise.race([this.#connecting, late.catch(() => undefined)]);
    over.abort();
    return this.#nextReady();
  }
}

function channelCredentials(tls: Tls | undefined): ChannelCredentials {
  if (tls === undefined) {
    return credentials.createInsecure();
  }
  return credentials.createSsl(buffer(tls.ca), buffer(tls.key), buffer(tls.certificate));
}

function buffer(pem: string | Uint8Array | undefined): Buffer | null {
  return pem === undefined ? null : Buffer.from(pem);
}

function channelOptions(router: string): ChannelOptions {
  return router.startsWith("dns:") ? { ...OPTIONS, "grpc.service_config": ROUND_ROBIN } : OPTIONS;
}

type Channel = ReturnType<GrpcClient["getChannel"]>;

/** Resolves when one of the channels is connected, or connecting has failed on each. */
async function oneConnects(channels: readonly Channel[]): Promise<void> {
  const attempts = channels.map(connects);
  await Promise.race([Promise.all(attempts), firstTrue(attempts)]);
}

/** Whether connecting to a channel that is not connected succeeds. */
function connects(channel: Channel): Promise<boolean> {
  return new Promise((resolve) => {
    function look(): void {
      const state = channel.getConnectivityState(true);
      if (state === connectivityState.READY) {
        resolve(true);
      } else if (state === connectivityState.TRANSIENT_FAILURE || state === connectivityState.SHUTDOWN) {
        resolve(false);
      } else {
        channel.watchConnectivityState(state, Date.now() + ATTEMPT_MS, (error) => (error ? resolve(false) : look()));
      }
    }
    look();
  });
}

function firstTrue(attempts: readonly Promise<boolean>[]): Promise<void> {
  return new Promise((resolve) => attempts.forEach((attempt) => void attempt.then((is) => is && resolve())));
}

const OPTIONS: ChannelOptions = {
  "grpc.max_receive_message_length": 8 * 1024 * 1024,
  "grpc.max_send_message_length": 8 * 1024 * 1024,
  "grpc.keepalive_time_ms": 5_000,
  "grpc.keepalive_timeout_ms": 3_000,
  "grpc.keepalive_permit_without_calls": 1,
  "grpc.initial_reconnect_backoff_ms": 100,
  "grpc.max_reconnect_backoff_ms": 2_000,
  "grpc.dns_min_time_between_resolutions_ms": 2_000,
  // With the 64 KiB that Node begins with, a download at 40 ms of round trip goes at 0.9 MB/s, with these at 14.
  "grpc-node.flow_control_window": 2 * 1024 * 1024,
  "grpc.use_local_subchannel_pool": 1, // closing the client closes its connection
};
const ROUND_ROBIN = JSON.stringify({ loadBalancingConfig: [{ round_robin: {} }] });
const ATTEMPT_MS = 20_000;
const MAX_TIMER_MS = 2 ** 31 - 1;
