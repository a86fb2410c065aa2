/** Failed calls as errors, one class for each thing that a caller may do about it. */
import { fromBinary, type DescMessage, type MessageShape } from "@bufbuild/protobuf";
import { anyUnpack, durationMs } from "@bufbuild/protobuf/wkt";
import { Metadata, status, type ServiceError } from "@grpc/grpc-js";

import {
  BadRequestSchema,
  ErrorInfoSchema,
  QuotaFailureSchema,
  ResourceInfoSchema,
  RetryInfoSchema,
} from "./gen/google/rpc/error_details_pb.js";
import { StatusSchema, type Status } from "./gen/google/rpc/status_pb.js";

/** gRPC's name of a status, such as `NOT_FOUND`. */
export type StatusName = keyof typeof status;

/** A field of the request and what is wrong with it. */
export interface FieldViolation {
  readonly field: string;
  readonly description: string;
}

/** What a failure tells besides its code and words. */
export interface FailureDetails {
  readonly reason?: string;
  readonly metadata?: Readonly<Record<string, string>>;
  readonly fieldViolations?: readonly FieldViolation[];
  readonly resource?: string;
  readonly retryAfterMs?: number | undefined;
  readonly quota?: string;
}

/** A call failed. */
export class MeshCallError extends Error {
  /** gRPC's status. */
  readonly code: StatusName;
  /** What the mesh says of it; `message` has code and reason before it. */
  readonly detail: string;
  /** A name of `ErrorReason`; "" when the failure is not the mesh's own, such as a connection that broke. */
  readonly reason: string;
  /** What belongs to the reason. */
  readonly metadata: Readonly<Record<string, string>>;
  readonly fieldViolations: readonly FieldViolation[];
  /** Type and name of what it is about, such as `account acc_...`. */
  readonly resource: string;
  /** When to try again; undefined when trying again does not help. */
  readonly retryAfterMs: number | undefined;
  /** The limit that was reached. */
  readonly quota: string;

  constructor(code: StatusName, detail: string, more: FailureDetails = {}) {
    super(`${code}${more.reason ? ` ${more.reason}` : ""}: ${detail}`);
    this.name = new.target.name;
    this.code = code;
    this.detail = detail;
    this.reason = more.reason ?? "";
    this.metadata = more.metadata ?? {};
    this.fieldViolations = more.fieldViolations ?? [];
    this.resource = more.resource ?? "";
    this.retryAfterMs = more.retryAfterMs;
    this.quota = more.quota ?? "";
  }
}

/** The request is wrong, and stays so: `fieldViolations` say where. Found by the client or the mesh. */
export class InvalidArgument extends MeshCallError {
  /** What the client itself says of one field, before anything is sent. */
  static of(field: string, description: string): InvalidArgument {
    const fieldViolations = [{ field, description }];
    return new InvalidArgument("INVALID_ARGUMENT", `${field}: ${description}`, {
      reason: "INVALID_FIELD",
      fieldViolations,
    });
  }
}

/** The key is missing, unknown, revoked or expired. */
export class Unauthenticated extends MeshCallError {}

/** The key is good, but not for this: `metadata.scope` is what it lacks. */
export class PermissionDenied extends MeshCallError {}

/** There is no such `resource`, or it is another tenant's. */
export class NotFound extends MeshCallError {}

/** A `resource` with that name exists, or the request id was used for something else. */
export class AlreadyExists extends MeshCallError {}

/** The resource was changed by somebody else: read it again, and decide anew. */
export class Aborted extends MeshCallError {}

/** Right in itself, but not now: `reason` says what must change first, such as NOT_PAIRED. */
export class FailedPrecondition extends MeshCallError {}

/** A limit was reached: `quota` names it where it has a name, `retryAfterMs` says when to try again. */
export class ResourceExhausted extends MeshCallError {}

/** Beyond what is kept. */
export class OutOfRange extends MeshCallError {}

/** The events behind a cursor are no longer kept; those from `oldestCursor` on are. */
export class CursorExpired extends OutOfRange {
  /** Where the events that are kept begin. */
  get oldestCursor(): string {
    return this.metadata["oldest_cursor"] ?? "";
  }
}

/**
 * The mesh, or the part of it that the call needs, could not be reached or is busy moving, for as long as trying made
 * sense. A call that changes something may have been carried out: repeat it with the same request id.
 */
export class Unavailable extends MeshCallError {}

/** No router could be connected to: the call was never sent. */
export class Unreachable extends Unavailable {
  constructor(
    detail: string,
    /** Waiting does not help: somebody has to change an address or a setting. */
    readonly lasting: boolean,
  ) {
    super("UNAVAILABLE", detail);
  }
}

/** No answer within the timeout. A call that changes something may have been carried out. */
export class DeadlineExceeded extends MeshCallError {}

/** The call was ended from the other side, or by closing the client. */
export class Cancelled extends MeshCallError {}

/** This mesh does not have the method. */
export class NotServed extends MeshCallError {}

/** What arrived is not what was announced. */
export class DataLoss extends MeshCallError {}

/** A defect of the mesh; `metadata.error_id` is the id under which it was logged. */
export class InternalError extends MeshCallError {}

/** The failure behind gRPC's own error. */
export function failureOf(error: unknown): MeshCallError {
  if (error instanceof MeshCallError) {
    return error;
  }
  if (!isServiceError(error)) {
    throw error; // a defect of ours, or of a callback: not the call's
  }
  const [packed] = error.metadata.get("grpc-status-details-bin");
  if (packed instanceof Buffer) {
    return failureOfStatus(fromBinary(StatusSchema, packed), error.code);
  }
  return make(error.code, error.details, {});
}

/** The failure that a status tells of, such as that of one item of a bulk call; `code` is gRPC's where there is one. */
export function failureOfStatus(found: Status, code: number = found.code): MeshCallError {
  const info = detail(found, ErrorInfoSchema);
  const resource = detail(found, ResourceInfoSchema);
  const retry = detail(found, RetryInfoSchema)?.retryDelay;
  return make(code, found.message, {
    reason: info?.reason,
    metadata: info?.metadata,
    fieldViolations: detail(found, BadRequestSchema)?.fieldViolations.map(({ field, description }) => ({
      field,
      description,
    })),
    resource: resource && `${resource.resourceType} ${resource.resourceName}`,
    retryAfterMs: retry && durationMs(retry),
    quota: detail(found, QuotaFailureSchema)?.violations[0]?.subject,
  });
}

function detail<Schema extends DescMessage>(found: Status, schema: Schema): MessageShape<Schema> | undefined {
  for (const packed of found.details) {
    const unpacked = anyUnpack(packed, schema);
    if (unpacked !== undefined) {
      return unpacked;
    }
  }
  return undefined;
}

function make(code: number, message: string, details: FailureDetails): MeshCallError {
  const name = (status[code] ?? "UNKNOWN") as StatusName;
  const kind = details.reason === "CURSOR_OUT_OF_RANGE" ? CursorExpired : (CLASSES[name] ?? MeshCallError);
  return new kind(name, message, details);
}

function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && "code" in error && "metadata" in error && error.metadata instanceof Metadata;
}

const CLASSES: { readonly [name in StatusName]?: typeof MeshCallError } = {
  INVALID_ARGUMENT: InvalidArgument,
  UNAUTHENTICATED: Unauthenticated,
  PERMISSION_DENIED: PermissionDenied,
  NOT_FOUND: NotFound,
  ALREADY_EXISTS: AlreadyExists,
  ABORTED: Aborted,
  FAILED_PRECONDITION: FailedPrecondition,
  RESOURCE_EXHAUSTED: ResourceExhausted,
  OUT_OF_RANGE: OutOfRange,
  UNAVAILABLE: Unavailable,
  DEADLINE_EXCEEDED: DeadlineExceeded,
  CANCELLED: Cancelled,
  UNIMPLEMENTED: NotServed,
  DATA_LOSS: DataLoss,
  INTERNAL: InternalError,
  UNKNOWN: InternalError,
};
