"""What the Python client adds to requests, refuses to send, and makes of answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import pytest
from grpc import StatusCode
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

import mesh_client
from mesh_client import Client, InvalidArgument, MeshCallError, connect
from mesh_core import errors
from sessionmesh.v1 import (
    account_pb2,
    account_pb2_grpc,
    common_pb2,
    message_pb2,
    message_pb2_grpc,
    session_pb2,
)
from tests.support.fake_router import Add, break_off, fake_router, refuse


class Served(message_pb2_grpc.MessageServiceServicer, account_pb2_grpc.AccountServiceServicer):
    """Remembers what came, and does what `act` says first."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.metadata: list[dict[str, Any]] = []
        self.act: Callable[[Any], Awaitable[None]] | None = None

    async def _take(self, request: Any, context: Any) -> None:
        self.requests.append(request)
        self.metadata.append(dict(context.invocation_metadata()))
        if self.act is not None:
            await self.act(context)

    async def SendMessage(self, request: Any, context: Any) -> Any:
        await self._take(request, context)
        return message_pb2.SendMessageResponse(message=message_pb2.Message(id="msg_1"))

    async def GetAccount(self, request: Any, context: Any) -> Any:
        await self._take(request, context)
        return account_pb2.GetAccountResponse(account=account_pb2.Account(id=request.account_id))


@pytest.fixture
def served() -> Served:
    return Served()


@pytest.fixture
async def client(served: Served) -> AsyncIterator[Client]:
    services: dict[Add, object] = {
        message_pb2_grpc.add_MessageServiceServicer_to_server: served,
        account_pb2_grpc.add_AccountServiceServicer_to_server: served,
    }
    async with (
        fake_router(services) as router,
        connect(router.address, "smk_1", transport="plain") as connected,
    ):
        yield connected


async def test_a_request_that_is_sent_twice_is_two_requests(client: Client, served: Served) -> None:
    request = message_pb2.SendMessageRequest(account_id="acc_1")
    await client.messages.SendMessage(request)
    await client.messages.SendMessage(request)
    assert request.request_id == ""
    assert len({sent.request_id for sent in served.requests} - {""}) == 2


async def test_a_request_id_of_the_callers_own_is_kept(client: Client, served: Served) -> None:
    await client.send_text("acc_1", "+4915112345678", "Hello", request_id="mine")
    assert served.requests[0].request_id == "mine"


async def test_a_call_carries_key_account_and_the_callers_metadata(client: Client, served: Served) -> None:
    request = account_pb2.GetAccountRequest(account_id="acc_1")
    await client.accounts.GetAccount(request, metadata=[("x-shop", "1")])
    sent = served.metadata[0]
    assert (sent["authorization"], sent["x-account-id"], sent["x-shop"]) == ("Bearer smk_1", "acc_1", "1")
    assert "traceparent" not in sent


async def test_a_call_belongs_to_the_applications_trace(client: Client, served: Served) -> None:
    with TracerProvider().get_tracer("test").start_as_current_span("work") as span:
        await client.get_account("acc_1")
        request = account_pb2.GetAccountRequest(account_id="acc_1")
        await client.accounts.GetAccount(request, metadata=[("traceparent", "of my own")])
    context = span.get_span_context()
    ids = f"{trace.format_trace_id(context.trace_id)}-{trace.format_span_id(context.span_id)}"
    mine = f"00-{ids}-{context.trace_flags:02x}"
    assert [sent["traceparent"] for sent in served.metadata] == [mine, "of my own"]


@pytest.mark.parametrize(
    ("raised", "expected", "says"),
    [
        (
            errors.InvalidField("account.phone", "bad"),
            mesh_client.InvalidArgument,
            {"reason": "INVALID_FIELD"},
        ),
        (errors.Unauthenticated("no", "CREDENTIALS_INVALID"), mesh_client.Unauthenticated, {}),
        (errors.PermissionDenied("no", "SCOPE_MISSING"), mesh_client.PermissionDenied, {}),
        (errors.NotFound("account", "acc_1"), mesh_client.NotFound, {"resource": "account acc_1"}),
        (errors.AlreadyExists("used", "REQUEST_ID_REUSED"), mesh_client.AlreadyExists, {}),
        (errors.Aborted("changed", "ETAG_MISMATCH"), mesh_client.Aborted, {}),
        (errors.FailedPrecondition("not paired", "NOT_PAIRED"), mesh_client.FailedPrecondition, {}),
        (
            errors.ResourceExhausted("full", "QUOTA_EXCEEDED", quota="max_accounts", retry_after=1.5),
            mesh_client.ResourceExhausted,
            {"quota": "max_accounts", "retry_after": 1.5},
        ),
        (errors.OutOfRange("gone", "CURSOR_OUT_OF_RANGE"), mesh_client.CursorExpired, {}),
        (errors.Unavailable("down", "BACKEND_UNAVAILABLE"), mesh_client.Unavailable, {}),
        (errors.DeadlineExceeded("late", "DEADLINE_EXCEEDED"), mesh_client.DeadlineExceeded, {}),
        (errors.Cancelled("off", "CANCELLED"), mesh_client.Cancelled, {}),
        (errors.Unimplemented("no", "NOT_SERVED"), mesh_client.NotServed, {}),
        (
            errors.MeshError("defect", "INTERNAL", metadata={"error_id": "1"}),
            mesh_client.InternalError,
            {"metadata": {"error_id": "1"}},
        ),
    ],
    ids=lambda value: getattr(value, "__name__", "") or getattr(value, "reason", ""),
)
async def test_each_kind_of_failure_has_its_class(
    client: Client,
    served: Served,
    raised: errors.MeshError,
    expected: type[MeshCallError],
    says: dict[str, Any],
) -> None:
    async def act(context: Any) -> None:
        await refuse(context, raised)

    served.act = act
    with pytest.raises(expected) as failure:
        await client.get_account("acc_1")
    assert type(failure.value) is expected
    assert {name: getattr(failure.value, name) for name in says} == says
    assert str(failure.value).startswith(f"{raised.code.name} {raised.reason}: ")


async def test_a_failure_without_details_is_typed_too(client: Client, served: Served) -> None:
    async def act(context: Any) -> None:
        await context.abort(StatusCode.NOT_FOUND, "no such thing")

    served.act = act
    with pytest.raises(mesh_client.NotFound, match="no such thing"):
        await client.get_account("acc_1")


async def test_a_call_that_takes_too_long_is_also_a_timeout_error(client: Client, served: Served) -> None:
    async def act(context: Any) -> None:
        await asyncio.Event().wait()

    served.act = act
    request = account_pb2.GetAccountRequest(account_id="acc_1")
    with pytest.raises(TimeoutError, match=r"GetAccount had no answer within 0\.2 s") as failure:
        await client.accounts.GetAccount(request, timeout=0.2)
    assert isinstance(failure.value, mesh_client.DeadlineExceeded)


async def test_cancelling_a_task_is_no_error_of_the_mesh(client: Client, served: Served) -> None:
    begun = asyncio.Event()

    async def act(context: Any) -> None:
        begun.set()
        await asyncio.Event().wait()

    served.act = act
    task = asyncio.create_task(client.get_account("acc_1"))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_closing_the_client_ends_its_calls_with_an_error(client: Client, served: Served) -> None:
    begun = asyncio.Event()

    async def act(context: Any) -> None:
        begun.set()
        await asyncio.Event().wait()

    served.act = act
    task = asyncio.create_task(client.get_account("acc_1"))
    await begun.wait()
    await client.close()
    with pytest.raises(mesh_client.Cancelled):
        await task


async def test_a_mesh_in_trouble_gets_no_more_than_the_budget(client: Client, served: Served) -> None:
    async def act(context: Any) -> None:
        await refuse(context, errors.Unavailable("down", "BACKEND_UNAVAILABLE", retry_after=0.001))

    served.act = act
    outcomes = await asyncio.gather(
        *(client.get_account("acc_1") for _ in range(100)), return_exceptions=True
    )
    assert all(isinstance(outcome, mesh_client.Unavailable) for outcome in outcomes)
    assert 100 < len(served.requests) <= 100 + 20 + 10  # what is saved, and a little for the seconds it takes


async def test_a_connection_that_broke_is_worth_one_more_try_for_every_call(
    client: Client, served: Served
) -> None:
    failed = 0

    async def act(context: Any) -> None:
        nonlocal failed
        if failed < 200:
            failed += 1
            await break_off(context)

    served.act = act
    assert len(await asyncio.gather(*(client.get_account("acc_1") for _ in range(200)))) == 200
    assert len(served.requests) == 400


GET = account_pb2.GetAccountRequest


@pytest.mark.parametrize(
    ("request_", "options", "field"),
    [
        (GET(account_id="acc 1"), {}, "account_id"),
        (GET(account_id="acc_é"), {}, "account_id"),
        (GET(account_id="acc_1"), {"timeout": 0}, "timeout"),
        (GET(account_id="acc_1"), {"timeout": float("nan")}, "timeout"),
        (GET(account_id="acc_1"), {"metadata": [("X-Shop", "1")]}, "metadata"),
    ],
)
async def test_what_cannot_be_sent_is_refused(
    client: Client, served: Served, request_: Any, options: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidArgument) as raised:
        await client.accounts.GetAccount(request_, **options)
    assert raised.value.field_violations[0].field == field
    assert raised.value.code is grpc.StatusCode.INVALID_ARGUMENT
    assert not served.requests


async def test_what_a_request_says_is_for_the_mesh_to_judge(client: Client, served: Served) -> None:
    await client.send_text("acc_1", "nobody", "", request_id="r" * 100)
    [request] = served.requests
    assert (request.recipient, request.content.text.body, len(request.request_id)) == ("nobody", "", 100)


async def test_half_a_character_is_refused_before_it_is_sent(client: Client, served: Served) -> None:
    with pytest.raises(ValueError, match="text: has half of a surrogate pair at position 3"):
        await client.send_text("acc_1", "+4915112345678", "Hi \ud83d there")
    assert not served.requests


MESSAGE = message_pb2.Message(
    id="msg_1",
    network_message_id="3EB0",
    chat="group:1",
    direction=message_pb2.DIRECTION_INBOUND,
    sender=common_pb2.Person(address="hidden:2"),
)
REFERENCE = common_pb2.MessageRef(
    message_id="msg_1", network_message_id="3EB0", chat="group:1", sender="hidden:2"
)


@pytest.mark.parametrize(
    ("answered", "reference"),
    [
        ("msg_1", common_pb2.MessageRef(message_id="msg_1")),
        (MESSAGE, REFERENCE),
        (REFERENCE, REFERENCE),
        (
            message_pb2.Message(id="msg_1", chat="group:1", direction=message_pb2.DIRECTION_OUTBOUND),
            common_pb2.MessageRef(message_id="msg_1", chat="group:1", from_account=True),
        ),
    ],
    ids=["id", "message", "reference", "own message"],
)
async def test_a_message_is_answered_by_its_id_itself_or_a_reference(
    client: Client, served: Served, answered: Any, reference: common_pb2.MessageRef
) -> None:
    await client.send_text("acc_1", "group:1", "Yes", reply_to=answered)
    assert served.requests[0].options.reply_to == reference


async def test_another_methods_request_is_a_type_error(client: Client) -> None:
    wrong: Any = session_pb2.GetSessionRequest(account_id="acc_1")
    with pytest.raises(TypeError, match="GetAccount takes GetAccountRequest, not GetSessionRequest"):
        await client.accounts.GetAccount(wrong)
