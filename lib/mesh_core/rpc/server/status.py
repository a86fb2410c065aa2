"""Errors as callers see them: `MeshError` to gRPC status with google.rpc details, and back."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Iterable
from functools import cache
from typing import Any, TypeVar

import grpc
import grpc.aio
import structlog
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode

from mesh_core import errors
from mesh_core.database.unavailable import REFUSALS
from mesh_core.errors import MeshError
from mesh_core.metrics import Open, counters

logger = structlog.get_logger(__name__)

DOMAIN = "sessionmesh"
DETAILS_KEY = "grpc-status-details-bin"

_LIMITS_HIT = counters(
    "mesh_limits_hit_total",
    "Calls and items of calls refused for a limit of any kind, by its name in QuotaFailure.",
    answers="Which limits do callers reach?",
    limit=Open("limits of docs/limits.md", 50),
)

Trailing = tuple[tuple[str, str | bytes], ...]


def details_of(error: MeshError) -> bytes:
    """The serialised google.rpc.Status of `error`: ErrorInfo always, the rest where the error has it."""
    status = status_pb2.Status(code=error.code.value[0], message=error.message)
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=error.metadata)
    status.details.add().Pack(info)
    if error.retry_after is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromNanoseconds(int(error.retry_after * 1e9))
        status.details.add().Pack(retry)
    if isinstance(error, errors.InvalidField):
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=error.field, description=error.description
        )
        status.details.add().Pack(error_details_pb2.BadRequest(field_violations=[violation]))
    elif isinstance(error, errors.NotFound) or (isinstance(error, errors.AlreadyExists) and error.resource):
        resource = error_details_pb2.ResourceInfo(resource_type=error.resource, resource_name=error.name)
        status.details.add().Pack(resource)
    elif isinstance(error, errors.ResourceExhausted) and error.quota is not None:
        exceeded = error_details_pb2.QuotaFailure.Violation(subject=error.quota, description=error.message)
        status.details.add().Pack(error_details_pb2.QuotaFailure(violations=[exceeded]))
    serialised: bytes = status.SerializeToString()
    return serialised


def trailing_metadata(error: MeshError) -> Trailing:
    """What goes with the status code and message of `error`."""
    return ((DETAILS_KEY, details_of(error)),)


def ended(
    code: StatusCode, failure: MeshError | None, context: grpc.aio.ServicerContext[Any, Any]
) -> status_pb2.Status:
    """How a call ended: by `failure`, or by what its handler told gRPC itself."""
    if failure is not None:
        return status_pb2.Status.FromString(details_of(failure))
    if code is not StatusCode.OK:
        for key, value in context.trailing_metadata():
            if key == DETAILS_KEY and isinstance(value, bytes):
                return status_pb2.Status.FromString(value)
    message = context.details() if code is not StatusCode.OK else ""
    return status_pb2.Status(code=code.value[0], message=_text(message))


def count_limit(error: MeshError) -> None:
    """Count an error of one's own if it is that a limit was reached."""
    if isinstance(error, errors.ResourceExhausted):
        _LIMITS_HIT.labels((error.quota or error.reason).partition(":")[0]).inc()


def as_mesh_error(error: BaseException, method: str) -> MeshError:
    """What to answer the caller of `method` whose handler raised `error`.

    A backing server that does not answer becomes UNAVAILABLE; anything not foreseen is logged whole under an
    id, and answered INTERNAL with that id.
    """
    if isinstance(error, MeshError):
        count_limit(error)
        return error
    if isinstance(error, grpc.aio.AioRpcError):
        known = from_rpc_error(error)
        if known.reason != "INTERNAL" or "error_id" in known.metadata:
            return known
    elif isinstance(error, _backend_errors()):
        logger.warning("backing server unavailable", method=method, error=repr(error))
        return errors.Unavailable(
            "a backing server does not answer", "BACKEND_UNAVAILABLE", retry_after=_BACKEND_RETRY
        )
    error_id = secrets.token_hex(8)
    if isinstance(error, grpc.aio.InternalError):  # as a rule the caller is gone, which is nobody's failure
        logger.debug("call broken off", method=method, error_id=error_id, error=str(error))
    else:
        logger.error("call failed", method=method, error_id=error_id, exc_info=error)
    return MeshError(f"internal error {error_id}", "INTERNAL", metadata={"error_id": error_id})


def from_rpc_error(error: grpc.aio.AioRpcError) -> MeshError:
    """The domain error behind a failed call to another part of the mesh, or what its code alone says."""
    return from_status(error.code(), error.details() or "", error.trailing_metadata() or ())


def from_status(code: StatusCode, message: str, trailing: Iterable[tuple[str, str | bytes]]) -> MeshError:
    """The same of a status in its parts."""
    for key, value in trailing:
        if key == DETAILS_KEY and isinstance(value, bytes):
            known = from_details(value)
            if known is not None:
                return known
    if code in _REASONS:
        kind, reason = _REASONS[code]
        return kind(message, reason)
    return MeshError(f"{code.name}: {message}", "INTERNAL")


def from_details(serialised: bytes) -> MeshError | None:
    """The error of a serialised google.rpc.Status; None when it is not one of ours."""
    status = status_pb2.Status.FromString(serialised)
    info = _find(status.details, error_details_pb2.ErrorInfo())
    if info is None or info.domain != DOMAIN:
        return None
    retry = _find(status.details, error_details_pb2.RetryInfo())
    error = _rebuild(status, info)
    error.message = status.message
    error.metadata = dict(info.metadata)
    error.retry_after = None if retry is None else retry.retry_delay.ToNanoseconds() / 1e9
    return error


def _rebuild(status: status_pb2.Status, info: error_details_pb2.ErrorInfo) -> MeshError:
    kind = _KINDS.get(status.code, MeshError)
    if bad := _find(status.details, error_details_pb2.BadRequest()):
        violation = bad.field_violations[0]
        return errors.InvalidField(violation.field, violation.description, info.reason)
    if resource := _find(status.details, error_details_pb2.ResourceInfo()):
        if kind is errors.AlreadyExists:
            return errors.AlreadyExists(
                status.message, info.reason, resource=resource.resource_type, name=resource.resource_name
            )
        return errors.NotFound(resource.resource_type, resource.resource_name)
    if kind is errors.ResourceExhausted:
        quota = _find(status.details, error_details_pb2.QuotaFailure())
        subject = quota.violations[0].subject if quota else None
        return errors.ResourceExhausted(status.message, info.reason, quota=subject)
    if info.reason == "NOT_OWNER":
        return errors.NotOwner(info.metadata["owner"], int(info.metadata["epoch"] or 0))
    if info.reason == "GOING_AWAY":
        return errors.GoingAway(info.metadata.get("resume_token", ""))
    if kind in (errors.NotFound, errors.InvalidField):
        return errors.InvalidArgument(status.message, info.reason)
    return kind(status.message, info.reason)


Detail = TypeVar("Detail", bound=Message)


def _find(details: Iterable[any_pb2.Any], wanted: Detail) -> Detail | None:
    return next((wanted for packed in details if packed.Unpack(wanted)), None)


@cache
def _backend_errors() -> tuple[type[BaseException], ...]:
    import redis.exceptions  # not every process that maps errors uses Redis, and it is slow to import

    return (
        *REFUSALS,
        redis.exceptions.ConnectionError,
        redis.exceptions.TimeoutError,
        redis.exceptions.ReadOnlyError,
        ConnectionError,
        TimeoutError,
        socket.gaierror,
    )


def _text(given: str | bytes | None) -> str:
    return given.decode(errors="replace") if isinstance(given, bytes) else given or ""


_BACKEND_RETRY = 1.0
_KINDS: dict[int, type[MeshError]] = {
    kind.code.value[0]: kind
    for kind in (
        errors.InvalidArgument,
        errors.Unauthenticated,
        errors.PermissionDenied,
        errors.NotFound,
        errors.AlreadyExists,
        errors.Aborted,
        errors.FailedPrecondition,
        errors.ResourceExhausted,
        errors.OutOfRange,
        errors.Unavailable,
        errors.DeadlineExceeded,
        errors.Cancelled,
        errors.Unimplemented,
    )
}
_REASONS: dict[StatusCode, tuple[type[MeshError], str]] = {
    StatusCode.UNAVAILABLE: (errors.Unavailable, "BACKEND_UNAVAILABLE"),
    StatusCode.DEADLINE_EXCEEDED: (errors.DeadlineExceeded, "DEADLINE_EXCEEDED"),
    StatusCode.CANCELLED: (errors.Cancelled, "CANCELLED"),
    StatusCode.UNIMPLEMENTED: (errors.Unimplemented, "NOT_SERVED"),
    StatusCode.RESOURCE_EXHAUSTED: (errors.ResourceExhausted, "MESSAGE_TOO_LARGE"),
}
