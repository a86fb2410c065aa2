"""Failed calls, with what the mesh says about them."""

from __future__ import annotations

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

    def __str__(self) -> str:
        return f"{self.code.name} {self.reason}".strip() + f": {self.message}"


def call_error(error: AioRpcError) -> MeshCallError:
    """The failure behind gRPC's own exception."""
    found = MeshCallError(error.code(), error.details() or "")
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin" and isinstance(value, bytes):
            _add_details(found, value)
    return found


def _add_details(error: MeshCallError, serialised: bytes) -> None:
    try:
        status = status_pb2.Status.FromString(serialised)
    except DecodeError:
        return
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    resource, retry = error_details_pb2.ResourceInfo(), error_details_pb2.RetryInfo()
    for packed in status.details:
        if packed.Unpack(info):
            error.reason, error.metadata = info.reason, dict(info.metadata)
        elif packed.Unpack(bad):
            error.field_violations = tuple(
                FieldViolation(violation.field, violation.description) for violation in bad.field_violations
            )
        elif packed.Unpack(resource):
            error.resource = f"{resource.resource_type} {resource.resource_name}"
        elif packed.Unpack(retry):
            error.retry_after = retry.retry_delay.ToNanoseconds() / 1e9
