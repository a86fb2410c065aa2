/** How every call is made: with what metadata, over which connection, and how often. */
import {
  type DescMessage,
  type DescMethod,
  type DescMethodUnary,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import { MethodOptions_IdempotencyLevel as Idempotency } from "@bufbuild/protobuf/wkt";
import type { CallOptions as GrpcOptions, Client as GrpcClient, Metadata } from "@grpc/grpc-js";

import type { Routers } from "./channels.js";
import { DeadlineExceeded, failureOf, type MeshCallError } from "./errors.js";
import { type CallOptions, callMetadata, checkedTimeout, prepared } from "./outgoing.js";
import { Attempts, RetryBudget } from "./retries.js";

/** What can be ended. */
export interface Cancellable {
  cancel(): void;
}

/** What the calls of one client have in common. */
export class Caller {
  readonly budget = new RetryBudget();

  constructor(
    readonly routers: Routers,
    private readonly apiKey: string,
  ) {}

  /** Credentials, the account where the request names one, and `more`. */
  metadata(request?: MessageShape<DescMessage>, more?: CallOptions["metadata"]): Metadata {
    return callMetadata(this.apiKey, request, more);
  }

  /** The attempts of one call that starts now; without a timeout it has `missing` milliseconds. */
  attempts(repeatable: boolean, options: CallOptions, missing?: number): Attempts {
    return new Attempts(this.budget, checkedTimeout(options.timeoutMs, missing), repeatable, options.signal);
  }

  /** A unary call, repeated where that is safe and helps. Rejects with `MeshCallError`. */
  async call<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
    options: CallOptions = {},
  ): Promise<MessageShape<O>> {
    const sent = prepared(method, request);
    const metadata = this.metadata(sent, options.metadata);
    const attempts = this.attempts(isRepeatable(method), options);
    for (;;) {
      try {
        const client = await this.routers.connected(attempts.remainingMs(), options.signal);
        const response = await unary(client, method, sent, metadata, attempts.remainingMs(), options.signal);
        this.budget.earn();
        return response;
      } catch (error) {
        options.signal?.throwIfAborted();
        await this.retry(attempts, named(failureOf(error), method, options));
      }
    }
  }

  /** Resolves when it is time for the next attempt; rejects with `failure` when there is none. */
  async retry(attempts: Attempts, failure: MeshCallError): Promise<void> {
    if (!(await attempts.pause(failure))) {
      throw failure;
    }
  }
}

/** Whether sending a request twice acts once, as its `idempotency_level` promises. */
export function isRepeatable(method: DescMethod): boolean {
  return method.idempotency !== Idempotency.IDEMPOTENCY_UNKNOWN;
}

/** The method's path, and how its messages become bytes. */
export function wire<I extends DescMessage, O extends DescMessage>(
  method: DescMethod & { input: I; output: O },
): [path: string, serialize: (message: MessageShape<I>) => Buffer, deserialize: (bytes: Buffer) => MessageShape<O>] {
  return [
    `/${method.parent.typeName}/${method.name}`,
    (message) => bufferOf(toBinary(method.input, message)),
    (bytes) => fromBinary(method.output, bytes),
  ];
}

/** The same bytes as Node's kind of them. */
export function bufferOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** gRPC's options for a call that may take so long. */
export function grpcOptions(timeoutMs: number | undefined): GrpcOptions {
  return timeoutMs === undefined ? {} : { deadline: Date.now() + timeoutMs };
}

/** Cancels `call` when the signal is aborted; what is returned ends that. */
export function cancelledBy(signal: AbortSignal | undefined, call: Cancellable): () => void {
  const cancel = (): void => call.cancel();
  signal?.addEventListener("abort", cancel);
  return () => signal?.removeEventListener("abort", cancel);
}

function unary<I extends DescMessage, O extends DescMessage>(
  client: GrpcClient,
  method: DescMethodUnary<I, O>,
  request: MessageShape<I>,
  metadata: Metadata,
  timeoutMs: number,
  signal: AbortSignal | undefined,
): Promise<MessageShape<O>> {
  return new Promise((resolve, reject) => {
    const [path, serialize, deserialize] = wire(method);
    const options = grpcOptions(timeoutMs);
    const call = client.makeUnaryRequest(
      path,
      serialize,
      deserialize,
      request,
      metadata,
      options,
      (error, response) => {
        release();
        if (error !== null) {
          reject(error);
        } else {
          resolve(response as MessageShape<O>);
        }
      },
    );
    const release = cancelledBy(signal, call);
  });
}

/** gRPC's words for a deadline name neither the method nor the timeout that was given. */
function named(failure: MeshCallError, method: DescMethod, options: CallOptions): MeshCallError {
  if (!(failure instanceof DeadlineExceeded) || failure.reason !== "") {
    return failure;
  }
  const detail = `${method.name} had no answer within ${checkedTimeout(options.timeoutMs)} ms`;
  return new DeadlineExceeded("DEADLINE_EXCEEDED", detail);
}
