/** Streaming calls. */
import { once } from "node:events";

import type {
  DescMessage,
  DescMethodBiDiStreaming,
  DescMethodClientStreaming,
  DescMethodServerStreaming,
  MessageInitShape,
  MessageShape,
} from "@bufbuild/protobuf";
import { create } from "@bufbuild/protobuf";
import type { ClientDuplexStream, ClientReadableStream, ClientWritableStream } from "@grpc/grpc-js";

import { type Caller, cancelledBy, grpcOptions, isRepeatable, wire } from "./caller.js";
import { failureOf } from "./errors.js";
import { type CallOptions, prepared } from "./outgoing.js";
import type { Attempts } from "./retries.js";

/** Requests of a call that takes a stream of them. */
export type Requests<Schema extends DescMessage> =
  Iterable<MessageInitShape<Schema>> | AsyncIterable<MessageInitShape<Schema>>;

/** Without a timeout, a stream may take this long to be opened again; it lasts as long as it lasts. */
const OPENING_MS = 30_000;

/**
 * The responses to one request. The call begins when the first is asked for, and ends with the loop over them. It is
 * retried when it fails before its first response, where that is safe. Throws `MeshCallError`.
 */
export async function* serverStream<I extends DescMessage, O extends DescMessage>(
  caller: Caller,
  method: DescMethodServerStreaming<I, O>,
  request: MessageInitShape<I>,
  options: CallOptions = {},
): AsyncGenerator<MessageShape<O>, void, undefined> {
  const sent = prepared(method, request);
  const attempts = caller.attempts(isRepeatable(method), options, OPENING_MS);
  let answered = false;
  for (;;) {
    try {
      for await (const response of serverStreamOnce(caller, method, sent, attempts, options)) {
        answered = true;
        yield response;
      }
      caller.budget.earn();
      return;
    } catch (error) {
      options.signal?.throwIfAborted();
      const failure = failureOf(error);
      if (answered) {
        throw failure;
      }
      await caller.retry(attempts, failure);
    }
  }
}

/**
 * The same as one attempt of several, which all end at their deadline where there is a timeout. Throws gRPC's error,
 * too.
 */
export async function* serverStreamOnce<I extends DescMessage, O extends DescMessage>(
  caller: Caller,
  method: DescMethodServerStreaming<I, O>,
  request: MessageShape<I>,
  attempts: Attempts,
  options: CallOptions,
): AsyncGenerator<MessageShape<O>, void, undefined> {
  const metadata = caller.metadata(request, options.metadata);
  const client = await caller.routers.connected(attempts.remainingMs(), options.signal);
  const limit = grpcOptions(options.timeoutMs && attempts.remainingMs());
  yield* responses<MessageShape<O>>(
    client.makeServerStreamRequest(...wire(method), request, metadata, limit),
    options.signal,
  );
}

/**
 * The response to a stream of requests. It is sent once. Rejects with `MeshCallError`, or with what `requests` throws.
 */
export async function clientStream<I extends DescMessage, O extends DescMessage>(
  caller: Caller,
  method: DescMethodClientStreaming<I, O>,
  requests: Requests<I>,
  options: CallOptions = {},
): Promise<MessageShape<O>> {
  const attempts = caller.attempts(false, options);
  try {
    return await clientStreamOnce(caller, method, messages(method.input, requests), attempts, options);
  } catch (error) {
    options.signal?.throwIfAborted();
    throw failureOf(error);
  }
}

/** The same as one attempt of several, with the deadline of all of them. Rejects with gRPC's error, too. */
export async function clientStreamOnce<I extends DescMessage, O extends DescMessage>(
  caller: Caller,
  method: DescMethodClientStreaming<I, O>,
  requests: AsyncIterable<MessageShape<I>>,
  attempts: Attempts,
  options: CallOptions,
): Promise<MessageShape<O>> {
  const client = await caller.routers.connected(attempts.remainingMs(), options.signal);
  const metadata = caller.metadata(undefined, options.metadata);
  let call!: ClientWritableStream<MessageShape<I>>;
  const answer = new Promise<MessageShape<O>>((resolve, reject) => {
    call = client.makeClientStreamRequest(
      ...wire(method),
      metadata,
      grpcOptions(attempts.remainingMs()),
      (error, response) => (error === null ? resolve(response as MessageShape<O>) : reject(error)),
    );
  });
  const release = cancelledBy(options.signal, call);
  try {
    // A refusal comes before all is sent; requests that cannot be made end the call at once.
    return await Promise.race([answer, send(call, requests).then(() => answer)]);
  } catch (error) {
    options.signal?.throwIfAborted();
    throw error;
  } finally {
    release();
    call.cancel();
  }
}

/**
 * The responses to a stream of requests, which are sent as they come. The call begins when the first response is asked
 * for, is sent once, and ends with the loop over it. Throws `MeshCallError`, or what `requests` throws.
 */
export async function* bidiStream<I extends DescMessage, O extends DescMessage>(
  caller: Caller,
  method: DescMethodBiDiStreaming<I, O>,
  requests: Requests<I>,
  options: CallOptions = {},
): AsyncGenerator<MessageShape<O>, void, undefined> {
  const attempts = caller.attempts(false, options, OPENING_MS);
  let failed: { error: unknown } | undefined;
  try {
    const client = await caller.routers.connected(attempts.remainingMs(), options.signal);
    const limit = grpcOptions(options.timeoutMs && attempts.remainingMs());
    const metadata = caller.metadata(undefined, options.metadata);
    const call: ClientDuplexStream<MessageShape<I>, MessageShape<O>> = client.makeBidiStreamRequest(
      ...wire(method),
      metadata,
      limit,
    );
    send(call, messages(method.input, requests)).catch((error: unknown) => {
      failed = { error };
      call.cancel();
    });
    yield* responses<MessageShape<O>>(call, options.signal);
  } catch (error) {
    options.signal?.throwIfAborted();
    if (failed !== undefined) {
      throw failed.error;
    }
    throw failureOf(error);
  }
}

/** The messages of a call, which ends with the loop over them. Throws gRPC's error. */
async function* responses<Response>(
  call: ClientReadableStream<Response> | ClientDuplexStream<never, Response>,
  signal: AbortSignal | undefined,
): AsyncGenerator<Response, void, undefined> {
  call.on("error", () => undefined); // also one that comes after the loop
  const release = cancelledBy(signal, call);
  try {
    yield* call as AsyncIterable<Response>;
  } finally {
    release();
    call.cancel();
  }
}

/** Sends the requests, each when there is room for it, until they or the call end. Rejects with what they throw. */
async function send<Request>(
  call: ClientWritableStream<Request> | ClientDuplexStream<Request, never>,
  requests: AsyncIterable<Request>,
): Promise<void> {
  const iterator = requests[Symbol.asyncIterator]();
  let ended = false;
  let wake: () => void = () => undefined;
  // gRPC tells no writer that the call has ended: only its status does.
  call.on("status", () => {
    ended = true;
    wake();
  });
  /** What `step` gives, or undefined once the call has ended. */
  function unlessEnded<Result>(step: Promise<Result>): Promise<Result | undefined> {
    return new Promise((resolve, reject) => {
      wake = () => resolve(undefined);
      step.then(resolve, reject);
    });
  }
  while (!ended) {
    const next = await unlessEnded(iterator.next());
    if (next?.done) {
      call.end();
      return;
    }
    if (next !== undefined && !call.write(next.value)) {
      await unlessEnded(once(call, "drain"));
    }
  }
  void iterator.return?.();
}

async function* messages<Schema extends DescMessage>(
  schema: Schema,
  requests: Requests<Schema>,
): AsyncGenerator<MessageShape<Schema>, void, undefined> {
  for await (const request of requests) {
    yield create(schema, request) as MessageShape<Schema>;
  }
}
