/** A router in this process, whose methods do what a test says. */
import { create, type DescMethod, type DescService, fromBinary, toBinary } from "@bufbuild/protobuf";
import { anyPack, durationFromMs } from "@bufbuild/protobuf/wkt";
import {
  Metadata,
  Server,
  ServerCredentials,
  type ServiceDefinition,
  status,
  type UntypedServiceImplementation,
} from "@grpc/grpc-js";

import {
  BadRequestSchema,
  ErrorInfoSchema,
  QuotaFailureSchema,
  ResourceInfoSchema,
  RetryInfoSchema,
} from "../src/gen/google/rpc/error_details_pb.js";
import { type Status, StatusSchema } from "../src/gen/google/rpc/status_pb.js";

/** What the mesh says of a refusal. */
export interface Refusal {
  readonly code: keyof typeof status;
  readonly reason?: string;
  readonly metadata?: Record<string, string>;
  readonly field?: string;
  readonly resource?: readonly [type: string, name: string];
  readonly retryAfterMs?: number;
  readonly quota?: string;
}

/** A refusal as `google.rpc.Status`. */
export function statusOf({ code, reason, metadata, field, resource, retryAfterMs, quota }: Refusal): Status {
  const details = [
    reason !== undefined &&
      anyPack(ErrorInfoSchema, create(ErrorInfoSchema, { reason, domain: "sessionmesh", metadata })),
    field !== undefined &&
      anyPack(BadRequestSchema, create(BadRequestSchema, { fieldViolations: [{ field, description: "is wrong" }] })),
    resource !== undefined &&
      anyPack(ResourceInfoSchema, create(ResourceInfoSchema, { resourceType: resource[0], resourceName: resource[1] })),
    retryAfterMs !== undefined &&
      anyPack(RetryInfoSchema, create(RetryInfoSchema, { retryDelay: durationFromMs(retryAfterMs) })),
    quota !== undefined &&
      anyPack(QuotaFailureSchema, create(QuotaFailureSchema, { violations: [{ subject: quota }] })),
  ];
  return create(StatusSchema, {
    code: status[code],
    message: "refused",
    details: details.filter((packed) => packed !== false),
  });
}

/** The same as a method of gRPC's server rejects with it. */
export function refused(refusal: Refusal): Error & { code: status; metadata: Metadata } {
  const metadata = new Metadata();
  metadata.set("grpc-status-details-bin", Buffer.from(toBinary(StatusSchema, statusOf(refusal))));
  return Object.assign(new Error("refused"), { code: status[refusal.code], details: "refused", metadata });
}

/** The mesh when a server of it drains. */
export const GOING_AWAY: Refusal = { code: "UNAVAILABLE", reason: "GOING_AWAY", retryAfterMs: 0 };

/** A running router; `address` is for `connect`. */
export class FakeRouter implements AsyncDisposable {
  readonly #server: Server;

  private constructor(
    server: Server,
    readonly port: number,
  ) {
    this.#server = server;
  }

  get address(): string {
    return `127.0.0.1:${this.port}`;
  }

  /** Serves the methods of each service by gRPC's kind of handlers; on a free port unless one is given. */
  static async start(
    services: readonly (readonly [DescService, UntypedServiceImplementation])[],
    port = 0,
    credentials = ServerCredentials.createInsecure(),
  ): Promise<FakeRouter> {
    const server = new Server();
    services.forEach(([service, methods]) => server.addService(definitionOf(service), methods));
    const bound = await new Promise<number>((resolve, reject) =>
      server.bindAsync(`127.0.0.1:${port}`, credentials, (error, at) => (error ? reject(error) : resolve(at))),
    );
    return new FakeRouter(server, bound);
  }

  /** Ends it and all its connections at once, as SIGKILL would. */
  kill(): void {
    this.#server.forceShutdown();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.kill();
  }
}

function definitionOf(service: DescService): ServiceDefinition {
  return Object.fromEntries(service.methods.map((method) => [method.localName, methodOf(method)]));
}

function methodOf(method: DescMethod): ServiceDefinition[string] {
  return {
    path: `/${method.parent.typeName}/${method.name}`,
    requestStream: method.methodKind === "client_streaming" || method.methodKind === "bidi_streaming",
    responseStream: method.methodKind === "server_streaming" || method.methodKind === "bidi_streaming",
    requestSerialize: (message) => Buffer.from(toBinary(method.input, message)),
    requestDeserialize: (bytes) => fromBinary(method.input, bytes),
    responseSerialize: (message) => Buffer.from(toBinary(method.output, create(method.output, message))),
    responseDeserialize: (bytes) => fromBinary(method.output, bytes),
  };
}
