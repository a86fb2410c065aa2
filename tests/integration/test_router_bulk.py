"""SendMessages and BatchSendMessages through the router: split by owner, merged, and sent again when owners
change.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from google.rpc import error_details_pb2
from grpc import StatusCode
from grpc.aio import EOF

from mesh_core.errors import MeshError, NotFound, NotOwner
from mesh_core.rpc.server.status import details_of
from sessionmesh.internal.v1 import node_pb2, node_pb2_grpc
from sessionmesh.internal.v1.routing_pb2 import ItemFrame
from sessionmesh.v1 import message_pb2_grpc
from sessionmesh.v1.message_pb2 import (
    BatchSendMessagesRequest,
    Message,
    SendMessageRequest,
    SendMessagesRequest,
)
from tests.support.router_world import ADMIN, Node, RouterWorld, failing, message_to_send, new_account

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Bulk(node_pb2_grpc.NodeServiceServicer):
    """Accepts every item, unless `refuse` gives an error for it; hangs on it where that raises `Hang`."""

    def __init__(self, refuse: Callable[[SendMessageRequest], MeshError | None] | None = None) -> None:
        self.accepted: list[tuple[str, str]] = []
        self.refused = asyncio.Event()
        self.received = asyncio.Event()
        self.hanging = False
        self.release = asyncio.Event()
        self.calls = 0
        self._refuse = refuse

    async def AcceptMessages(
        self, request: node_pb2.AcceptMessagesRequest, context: Any
    ) -> node_pb2.AcceptMessagesResponse:
        self.calls += 1
        self.received.set()
        if self.hanging:
            await self.release.wait()
        response = node_pb2.AcceptMessagesResponse()
        for item in request.messages:
            result = response.results.add(account_id=item.account_id, request_id=item.request_id)
            error = self._refuse(item) if self._refuse else None
            if error is not None:
                result.error.ParseFromString(details_of(error))
                self.refused.set()
            else:
                self.accepted.append((item.account_id, item.request_id))
                result.message.CopyFrom(Message(id=f"msg_{item.request_id}"))
        return response


async def bulk_node(world: RouterWorld, name: str, bulk: Bulk) -> Node:
    return await world.node(name, {node_pb2_grpc.add_NodeServiceServicer_to_server: bulk})


def frame(*items: tuple[str, str]) -> SendMessagesRequest:
    return SendMessagesRequest(messages=[message_to_send(*item) for item in items])


def open_stream(world: RouterWorld, timeout: float | None = 30) -> Any:
    stub = message_pb2_grpc.MessageServiceStub(world.channel)
    return stub.SendMessages(metadata=ADMIN, timeout=timeout)


async def results(call: Any, count: int) -> dict[tuple[str, str], Any]:
    found: dict[tuple[str, str], Any] = {}
    while len(found) < count:
        response = await call.read()
        assert response is not EOF, f"only {found}"
        found |= {(result.account_id, result.request_id): result for result in response.results}
    return found


def reason(result: Any) -> str:
    info = error_details_pb2.ErrorInfo()
    for packed in result.error.details:
        if packed.Unpack(info):
            return str(info.reason)
    return ""


async def test_items_go_to_their_owners_and_every_result_comes_back(world: RouterWorld) -> None:
    one, two = new_account(), new_account()
    first, second = Bulk(), Bulk()
    await (await bulk_node(world, "n1", first)).own(one)
    await (await bulk_node(world, "n2", second)).own(two)
    call = open_stream(world)
    await call.write(frame((one, "a"), (two, "b"), (one, "c")))
    await call.write(frame((two, "d")))
    found = await results(call, 4)
    assert {name: result.message.id for name, result in found.items()} == {
        (one, "a"): "msg_a",
        (two, "b"): "msg_b",
        (one, "c"): "msg_c",
        (two, "d"): "msg_d",
    }
    assert sorted(first.accepted) == sorted([(one, "a"), (one, "c")])
    await call.done_writing()
    assert await call.read() is EOF
    assert await call.code() is StatusCode.OK


async def test_a_bad_item_is_refused_alone(world: RouterWorld) -> None:
    account = new_account()
    await (await bulk_node(world, "n1", Bulk())).own(account)
    call = open_stream(world)
    await call.write(frame(("acc_nonsense", "a"), (account, "b")))
    found = await results(call, 2)
    assert reason(found["acc_nonsense", "a"]) == "INVALID_FIELD"
    assert found[account, "b"].message.id == "msg_b"
    call.cancel()


async def test_an_item_refused_by_a_former_owner_goes_to_the_new_one(world: RouterWorld) -> None:
    account = new_account()
    former, present = Bulk(lambda _: NotOwner("n2", 2)), Bulk()
    await (await bulk_node(world, "n1", former)).own(account, epoch=1)
    successor = await bulk_node(world, "n2", present)
    call = open_stream(world)
    await call.write(frame((account, "a")))
    await call.done_writing()
    async with asyncio.timeout(10):
        await former.refused.wait()
    await successor.own(account, epoch=2)
    assert (await results(call, 1))[account, "a"].message.id == "msg_a"
    assert await call.read() is EOF


async def test_items_in_flight_at_a_killed_node_go_to_the_new_owner(world: RouterWorld) -> None:
    account = new_account()
    former, present = Bulk(), Bulk()
    former.hanging = True
    dying = await bulk_node(world, "n1", former)
    await dying.own(account, epoch=1)
    successor = await bulk_node(world, "n2", present)
    call = open_stream(world)
    await call.write(frame(*[(account, str(n)) for n in range(10)]))
    async with asyncio.timeout(10):
        await former.received.wait()
    await dying.kill()
    await successor.own(account, epoch=2)
    assert len(await results(call, 10)) == 10
    assert len(present.accepted) == 10
    call.cancel()


@pytest.mark.slow
async def test_items_without_an_owner_are_refused_in_time(world: RouterWorld) -> None:
    account = new_account()
    call = open_stream(world, timeout=3)
    await call.write(frame((account, "a")))
    assert reason((await results(call, 1))[account, "a"]) == "NOT_OWNER"
    call.cancel()


async def test_a_frame_that_is_too_large_is_refused(world: RouterWorld) -> None:
    call = open_stream(world)
    await call.write(frame(*[(new_account(), str(n)) for n in range(1001)]))
    refused = await failing(call.read())
    assert (refused.code, refused.field) == (StatusCode.INVALID_ARGUMENT, "messages")


@pytest.mark.parametrize("bound", ["MAX_IN_FLIGHT", "MAX_IN_FLIGHT_BYTES"])
async def test_a_frame_is_not_read_before_there_is_room_for_it_beside_those_without_a_result(
    world: RouterWorld, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    account, other = new_account(), new_account()
    first = frame((account, "a"), (account, "b"))
    most = {"MAX_IN_FLIGHT": 2, "MAX_IN_FLIGHT_BYTES": first.ByteSize() * 3 // 2}
    monkeypatch.setattr(f"mesh_router.proxy.bulk.{bound}", most[bound])
    slow = Bulk()
    slow.hanging = True
    await (await bulk_node(world, "n1", slow)).own(account)
    await (await bulk_node(world, "n2", Bulk())).own(other)
    call = open_stream(world)
    await call.write(first)
    await slow.received.wait()
    await call.write(frame((account, "c")))
    for turn in range(10):
        await batch(world, (other, str(turn)))
    assert slow.calls == 1
    slow.release.set()
    assert set(await results(call, 3)) == {(account, "a"), (account, "b"), (account, "c")}
    call.cancel()


async def batch(world: RouterWorld, *items: tuple[str, str], timeout: float = 30) -> list[Any]:
    """The results of one BatchSendMessages."""
    stub = message_pb2_grpc.MessageServiceStub(world.channel)
    request = BatchSendMessagesRequest(messages=frame(*items).messages)
    return list((await stub.BatchSendMessages(request, metadata=ADMIN, timeout=timeout)).results)


async def test_a_batch_is_answered_in_its_order(world: RouterWorld) -> None:
    one, two = new_account(), new_account()
    await (await bulk_node(world, "n1", Bulk())).own(one)
    await (await bulk_node(world, "n2", Bulk())).own(two)
    items = [(one, "a"), (two, "b"), ("acc_nonsense", "c"), (one, "d"), (two, "e")]
    found = await batch(world, *items)
    assert [(result.account_id, result.request_id) for result in found] == items
    assert [result.message.id for result in found] == ["msg_a", "msg_b", "", "msg_d", "msg_e"]
    assert reason(found[2]) == "INVALID_FIELD"


async def test_what_an_owner_refuses_of_a_batch_is_refused_alone(world: RouterWorld) -> None:
    account = new_account()
    refusing = Bulk(lambda item: NotFound("account", account) if item.request_id == "a" else None)
    await (await bulk_node(world, "n1", refusing)).own(account)
    refused, accepted = await batch(world, (account, "a"), (account, "b"))
    assert (refused.error.code, reason(refused)) == (StatusCode.NOT_FOUND.value[0], "RESOURCE_NOT_FOUND")
    assert accepted.message.id == "msg_b"


async def test_a_batch_follows_an_account_to_its_new_owner(world: RouterWorld) -> None:
    account = new_account()
    former, present = Bulk(lambda _: NotOwner("n2", 2)), Bulk()
    await (await bulk_node(world, "n1", former)).own(account, epoch=1)
    successor = await bulk_node(world, "n2", present)
    call = asyncio.create_task(batch(world, (account, "a")))
    async with asyncio.timeout(10):
        await former.refused.wait()
    await successor.own(account, epoch=2)
    assert [result.message.id for result in await call] == ["msg_a"]


@pytest.mark.slow
async def test_what_a_batch_cannot_settle_by_its_deadline_fails_alone(world: RouterWorld) -> None:
    quick, slow, nobodys = new_account(), new_account(), new_account()
    hanging = Bulk()
    hanging.hanging = True
    await (await bulk_node(world, "n1", Bulk())).own(quick)
    await (await bulk_node(world, "n2", hanging)).own(slow)
    found = await batch(world, (slow, "a"), (quick, "b"), (nobodys, "c"), timeout=2)
    assert [reason(result) for result in found] == ["DEADLINE_EXCEEDED", "", "NOT_OWNER"]
    assert found[1].message.id == "msg_b"


async def test_an_item_that_names_two_accounts_is_sent_to_neither(world: RouterWorld) -> None:
    first, last = new_account(), new_account()
    nodes = [Bulk(), Bulk()]
    await (await bulk_node(world, "n1", nodes[0])).own(first)
    await (await bulk_node(world, "n2", nodes[1])).own(last)
    twice = [message_to_send(one, "a").SerializeToString() for one in (first, last)]
    call: Any = world.channel.unary_unary("/sessionmesh.v1.MessageService/BatchSendMessages")
    request = ItemFrame(items=[b"".join(twice)]).SerializeToString()
    refused = await failing(call(request, metadata=ADMIN, timeout=10))
    assert (refused.code, refused.field) == (StatusCode.INVALID_ARGUMENT, "account_id")
    assert [node.accepted for node in nodes] == [[], []]


@pytest.mark.parametrize("size", [0, 1001])
async def test_a_batch_has_at_least_one_message_and_at_most_a_thousand(world: RouterWorld, size: int) -> None:
    account = new_account()
    refused = await failing(batch(world, *[(account, str(n)) for n in range(size)]))
    assert (refused.code, refused.field) == (StatusCode.INVALID_ARGUMENT, "messages")
