"""Failed calls as exceptions, one class for each thing that a caller may do about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode
from grpc.aio import AioRpcError


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """A field of the request and what is wrong with it."""

    field: str
    description: str


@dataclass(eq=False)
class MeshCallError(Exception):
    """A call failed.

    `reason` is a name of `ErrorReason` without its prefix, "" when the failure is not the mesh's own, such as
    a connection that could not be made. `retry_after` is in seconds, None when retrying does not help.
    """

    code: StatusCode
    message: str
    reason: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    field_violations: tuple[FieldViolation, ...] = ()
    resource: str = ""
    retry_after: float | None = None
    quota: str = ""

    def __str__(self) -> str:
        return f"{self.code.name} {self.reason}".strip() + f": {self.message}"


class InvalidArgument(MeshCallError, ValueError):
    """The request is wrong, and stays so: `field_violations` say where. Found by the client or the mesh."""

    @classmethod
    def of(cls, field: str, description: str) -> InvalidArgument:
        """What the client itself says of one field, before anything is sent."""
        return cls(
            StatusCode.INVALID_ARGUMENT,
            f"{field}: {description}",
            "INVALID_FIELD",
            field_violations=(FieldViolation(field, description),),
        )


class Unauthenticated(MeshCallError):
    """The key is missing, unknown, revoked or expired."""


class PermissionDenied(MeshCallError):
    """The key is good, but not for this: `metadata["scope"]` is what it lacks."""


class NotFound(MeshCallError):
    """There is no such `resource`, or it is another tenant's."""


class AlreadyExists(MeshCallError):
    """A `resource` with that name exists, or the request id was used for something else."""


class Aborted(MeshCallError):
    """The resource was changed by somebody else: read it again, and decide anew."""


class FailedPrecondition(MeshCallError):
    """Right in itself, but not now: `reason` says what must change first, such as NOT_PAIRED."""


class ResourceExhausted(MeshCallError):
    """A limit was reached: `quota` names it where it has a name, `retry_after` says when to try again."""


class OutOfRange(MeshCallError):
    """Beyond what is kept."""


class CursorExpired(OutOfRange):
    """The events behind a cursor are no longer kept; those from `oldest_cursor` on are."""

    @property
    def oldest_cursor(self) -> str:
        """Where the events that are kept begin."""
        return self.metadata.get("oldest_cursor", "")


class Unavailable(MeshCallError):
    """The mesh, or the part of it that the call needs, could not be reached or is busy moving.

    The client has retried for as long as that made sense. A call that changes something may have been carried
    out: repeat it with the same request id.
    """


class DeadlineExceeded(MeshCallError, TimeoutError):
    """No answer within the timeout. A call that changes something may have been carried out."""


class Cancelled(MeshCallError):
    """The call was ended from the other side, or by closing the client."""


class NotServed(MeshCallError):
    """This mesh does not have the method."""


class DataLoss(MeshCallError):
    """What arrived is not what was announced."""


class InternalError(MeshCallError):
    """A defect of the mesh; `metadata["error_id"]` is the id under which it was logged."""


def call_error(error: AioRpcError) -> MeshCallError:
    """The failure behind gRPC's own exception."""
    return error_of(error.code(), error.details() or "", error.trailing_metadata() or ())


def error_of(
    code: StatusCode, message: str, trailing: Iterable[tuple[str, str | bytes]] = ()
) -> MeshCallError:
    """The failure that a call's code, message and trailing metadata tell of."""
    for key, value in trailing:
        if key == "grpc-status-details-bin" and isinstance(value, bytes):
            try:
                return _of_status(code, message, status_pb2.Status.FromString(value))
            except DecodeError:
                break
    return _CLASSES.get(code, MeshCallError)(code, message)


def item_error(status: status_pb2.Status) -> MeshCallError:
    """The failure of one item of a bulk call."""
    return _of_status(_CODES.get(status.code, StatusCode.UNKNOWN), status.message, status)


def _of_status(code: StatusCode, message: str, status: status_pb2.Status) -> MeshCallError:
    found = MeshCallError(code, message)
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    resource, retry = error_details_pb2.ResourceInfo(), error_details_pb2.RetryInfo()
    quota = error_details_pb2.QuotaFailure()
    for packed in status.details:
        if packed.Unpack(info):
            found.reason, found.metadata = info.reason, dict(info.metadata)
        elif packed.Unpack(bad):
            found.field_violations = tuple(
                FieldViolation(violation.field, violation.description) for violation in bad.field_violations
            )
        elif packed.Unpack(resource):
            found.resource = f"{resource.resource_type} {resource.resource_name}"
        elif packed.Unpack(retry):
            found.retry_after = retry.retry_delay.ToNanoseconds() / 1e9
        elif packed.Unpack(quota) and quota.violations:
            found.quota = quota.violations[0].subject
    kind = CursorExpired if found.reason == "CURSOR_OUT_OF_RANGE" else _CLASSES.get(code, MeshCallError)
    return kind(**vars(found))


_CODES = {code.value[0]: code for code in StatusCode}
_CLASSES: dict[StatusCode, type[MeshCallError]] = {
    StatusCode.INVALID_ARGUMENT: InvalidArgument,
    StatusCode.UNAUTHENTICATED: Unauthenticated,
    StatusCode.PERMISSION_DENIED: PermissionDenied,
    StatusCode.NOT_FOUND: NotFound,
    StatusCode.ALREADY_EXISTS: AlreadyExists,
    StatusCode.ABORTED: Aborted,
    StatusCode.FAILED_PRECONDITION: FailedPrecondition,
    StatusCode.RESOURCE_EXHAUSTED: ResourceExhausted,
    StatusCode.OUT_OF_RANGE: OutOfRange,
    StatusCode.UNAVAILABLE: Unavailable,
    StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    StatusCode.CANCELLED: Cancelled,
    StatusCode.UNIMPLEMENTED: NotServed,
    StatusCode.DATA_LOSS: DataLoss,
    StatusCode.INTERNAL: InternalError,
    StatusCode.UNKNOWN: InternalError,
}
