"""Errors on the wire: every domain error arrives as what it was."""

from __future__ import annotations

import asyncpg
import grpc
import pytest
import redis.exceptions
import structlog
from google.rpc import error_details_pb2, status_pb2
from grpc.aio import AioRpcError, Metadata

from mesh_core import errors
from mesh_core.errors import MeshError
from mesh_core.rpc.server import status

EVERY_KIND = [
    errors.InvalidArgument("bad", "INVALID_PAGE_TOKEN"),
    errors.InvalidField("content.text.body", "must not be empty"),
    errors.Unauthenticated("who?", "CREDENTIALS_MISSING"),
    errors.PermissionDenied("no", "SCOPE_MISSING", metadata={"scope": "SEND"}),
    errors.NotFound("account", "acc_x"),
    errors.AlreadyExists("reused", "REQUEST_ID_REUSED"),
    errors.Aborted("stale", "ETAG_MISMATCH"),
    errors.FailedPrecondition("not yet", "NOT_PAIRED"),
    errors.ResourceExhausted("too fast", "RATE_LIMITED", retry_after=1.5),
    errors.ResourceExhausted("too much", "QUOTA_EXCEEDED", quota="media.bytes"),
    errors.OutOfRange("old", "CURSOR_OUT_OF_RANGE", metadata={"oldest": "abc"}),
    errors.Unavailable("away", "BACKEND_UNAVAILABLE", retry_after=0.25),
    errors.NotOwner("node-1", 7),
    errors.NotOwner(),
    errors.GoingAway("token"),
    errors.GoingAway("token", message="the account moves", retry_after=0.2),
    errors.DeadlineExceeded("late", "DEADLINE_EXCEEDED"),
    errors.Cancelled("gone", "CANCELLED"),
    errors.Unimplemented("later", "NOT_SERVED"),
    MeshError("internal error 1", "INTERNAL", metadata={"error_id": "1"}),
]


def failed_call(code: grpc.StatusCode, message: str, *trailing: tuple[str, str | bytes]) -> AioRpcError:
    return AioRpcError(code, Metadata(), Metadata(*trailing), message)


def facts(error: MeshError) -> dict[str, object]:
    extra = ("field", "description", "resource", "name", "quota", "owner", "epoch", "resume_token")
    return {name: getattr(error, name) for name in extra if hasattr(error, name)}


@pytest.mark.parametrize("error", EVERY_KIND, ids=lambda error: f"{type(error).__name__}-{error.reason}")
def test_an_error_arrives_as_what_it_was(error: MeshError) -> None:
    call = failed_call(error.code, error.message, *status.trailing_metadata(error))
    arrived = status.from_rpc_error(call)
    assert type(arrived) is type(error)
    assert (arrived.code, arrived.message, arrived.reason) == (error.code, error.message, error.reason)
    assert (arrived.metadata, arrived.retry_after) == (error.metadata, error.retry_after)
    assert facts(arrived) == facts(error)


@pytest.mark.parametrize("error", EVERY_KIND, ids=lambda error: f"{type(error).__name__}-{error.reason}")
def test_every_error_carries_error_info_of_our_domain(error: MeshError) -> None:
    packed = status_pb2.Status.FromString(status.details_of(error))
    info = error_details_pb2.ErrorInfo()
    assert packed.details[0].Unpack(info)
    assert (info.domain, info.reason) == ("sessionmesh", error.reason)
    assert packed.code == error.code.value[0]


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.ConnectionDoesNotExistError("gone"),
        asyncpg.CannotConnectNowError("starting"),
        asyncpg.AdminShutdownError("stopping"),
        asyncpg.TooManyConnectionsError("full"),
        asyncpg.ReadOnlySQLTransactionError("failed over"),
        asyncpg.QueryCanceledError("too slow"),
        asyncpg.InterfaceError("connection is closed"),
        redis.exceptions.ConnectionError("refused"),
        redis.exceptions.TimeoutError("slow"),
        ConnectionRefusedError(),
        TimeoutError(),
        failed_call(grpc.StatusCode.UNAVAILABLE, "etcd is away"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_backing_server_that_is_away_is_unavailable(error: Exception) -> None:
    answered = status.as_mesh_error(error, "/a/b")
    assert type(answered) is errors.Unavailable
    assert answered.reason == "BACKEND_UNAVAILABLE"


@pytest.mark.parametrize(
    "error",
    [
        ValueError("secret"),
        asyncpg.UniqueViolationError("a defect of ours"),
        asyncpg.DataError("wrong argument"),
        failed_call(grpc.StatusCode.PERMISSION_DENIED, "etcd refused us"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_nobody_foresaw_is_logged_under_the_id_that_the_caller_gets(error: Exception) -> None:
    with structlog.testing.capture_logs() as logs:
        answered = status.as_mesh_error(error, "/a/b")
    assert answered.code is grpc.StatusCode.INTERNAL
    assert answered.reason == "INTERNAL"
    assert "secret" not in answered.message
    (entry,) = logs
    assert entry["error_id"] == answered.metadata["error_id"]
    assert entry["exc_info"] is error
    assert entry["method"] == "/a/b"


def test_details_of_somebody_else_are_not_taken_for_ours() -> None:
    foreign = status_pb2.Status(code=5, message="no")
    foreign.details.add().Pack(error_details_pb2.ErrorInfo(reason="X", domain="elsewhere"))
    assert status.from_details(foreign.SerializeToString()) is None
