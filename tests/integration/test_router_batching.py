"""Calls that the router gathers on their way to a node: callers cannot tell them from forwarded ones."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio
from google.rpc import error_details_pb2, status_pb2
from grpc.aio import AioRpcError

from mesh_core.errors import GoingAway, MeshError, NotOwner
from mesh_core.rpc.server.batched_context import BatchedContext
from mesh_core.settings import AuthSettings
from sessionmesh.v1 import message_pb2 as pb
from sessionmesh.v1 import message_pb2_grpc
from tests.integration.test_peer_connections import ERRORS
from tests.support.router_world import ADMIN, ADMIN_KEY, RouterWorld, message_to_send, new_account

pytestmark = pytest.mark.asyncio(loop_scope="module")

APART = AuthSettings(bootstrap_key=ADMIN_KEY, mesh_key="the mesh key of nobody else")
"""A node with this takes no batched calls, as one of an older release."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a caller sees of a call that failed."""

    code: object
    message: str | None
    initial: list[tuple[str, object]]
    trailing: list[tuple[str, object]]


class Node(message_pb2_grpc.MessageServiceServicer):
    """Fails SendMessage with the error that the request names by its position, with metadata both ways."""

    def __init__(self) -> None:
        self.batched: set[bool] = set()

    async def SendMessage(self, request: pb.SendMessageRequest, context: Any) -> pb.SendMessageResponse:
        self.batched.add(isinstance(context, BatchedContext))
        await context.send_initial_metadata((("x-first", "1"), ("x-first-bin", b"\x00\xff")))
        context.set_trailing_metadata((("x-last", "2"), ("x-last-bin", b"\xfe")))
        if request.request_id == "unforeseen":
            raise ZeroDivisionError
        if request.request_id.isdigit():
            raise ERRORS[int(request.request_id)]
        return pb.SendMessageResponse(message=pb.Message(id=f"msg_{len(request.external_id)}"))


@dataclass
class Both:
    """A router, and an account on a node of each sort."""

    world: RouterWorld
    batched: str = field(default_factory=new_account)
    forwarded: str = field(default_factory=new_account)

    def send(self, account: str, request_id: str, **fields: Any) -> Any:
        stub = message_pb2_grpc.MessageServiceStub(self.world.channel)
        request = message_to_send(account, request_id, **fields)
        return stub.SendMessage(request, metadata=ADMIN, timeout=20)

    async def seen(self, account: str, request_id: str) -> Seen:
        with pytest.raises(AioRpcError) as failed:
            await self.send(account, request_id)
        error = failed.value
        return Seen(
            error.code(),
            error.details(),
            _readable(error.initial_metadata()),
            _readable(error.trailing_metadata()),
        )


def _readable(metadata: Any) -> list[tuple[str, object]]:
    return [
        (key, status_of(value) if key == "grpc-status-details-bin" else value)
        for key, value in metadata or ()
    ]


def status_of(details: bytes) -> str:
    """In words; an error id, of its own each time, left out."""
    status = status_pb2.Status.FromString(details)
    info = error_details_pb2.ErrorInfo()
    if status.details[0].Unpack(info) and info.metadata["error_id"]:
        return str(info.reason)
    return str(status)


@pytest_asyncio.fixture(loop_scope="module")
async def both(world: RouterWorld) -> tuple[Both, Node, Node]:
    both, batching, apart = Both(world), Node(), Node()
    add = message_pb2_grpc.add_MessageServiceServicer_to_server
    await (await world.node("n1", {add: batching})).own(both.batched)
    await (await world.node("n2", {add: apart}, APART)).own(both.forwarded)
    return both, batching, apart


@pytest.mark.slow
async def test_every_error_of_a_gathered_call_reaches_the_caller_as_that_of_a_forwarded_one(
    both: tuple[Both, Node, Node],
) -> None:
    calls, batching, apart = both
    for number, error in enumerate(ERRORS):
        if isinstance(error, NotOwner | GoingAway):  # the router acts on these instead of passing them on
            continue
        batched = await calls.seen(calls.batched, str(number))
        assert batched == await calls.seen(calls.forwarded, str(number)), error
        assert batched.code is (error.code if type(error) is not MeshError else MeshError.code)
    batched = await calls.seen(calls.batched, "unforeseen")
    forwarded = await calls.seen(calls.forwarded, "unforeseen")
    assert (batched.code, batched.initial, batched.trailing) == (
        forwarded.code,
        forwarded.initial,
        forwarded.trailing,
    )
    assert (batching.batched, apart.batched) == ({True}, {False})


async def test_the_answer_of_a_gathered_call_is_that_of_a_forwarded_one(
    both: tuple[Both, Node, Node],
) -> None:
    calls, _, _ = both
    answers = []
    for account in (calls.batched, calls.forwarded):
        call = calls.send(account, "fine")
        response = await call
        answers.append((response, [*await call.initial_metadata()], [*await call.trailing_metadata()]))
    assert answers[0] == answers[1]
    assert ("x-last-bin", b"\xfe") in answers[0][2]


async def test_a_large_request_travels_by_itself(both: tuple[Both, Node, Node]) -> None:
    calls, batching, _ = both
    response = await calls.send(calls.batched, "large", external_id="x" * 100_000)
    assert response.message.id == "msg_100000"
    assert batching.batched == {False}
