"""Calls that reach a node which does not own their account."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import grpc.aio
import pytest
from google.protobuf.wrappers_pb2 import StringValue

from mesh_core.errors import FailedPrecondition, MeshError, NotOwner
from mesh_core.ownership.keys import OwnerState
from mesh_core.ownership.view import Owner
from mesh_core.rpc.channels import ChannelPool, open_channel
from mesh_core.rpc.peers import CallFailed, PeerPool
from mesh_core.rpc.server import Server
from mesh_core.rpc.server.status import from_rpc_error, from_status
from mesh_core.signal import Signal
from mesh_session_node.node.forwarding import OwnerForwarder
from tests.support.probe_service import (
    ADMIN,
    MESH_KEY,
    SERVICE,
    ProbeServicer,
    ProbeStub,
    add_probe_to_server,
    make_server,
)

SHARD = 7
FORGED = (("x-mesh-hop", "1"), ("x-mesh-tenant", "tnt_nobody"), ("x-google-rls-data", "epoch=999999"))


@dataclass
class Ownership:
    """What a node saw of etcd; it owns nothing itself."""

    seen: Owner | None = None
    changes: Signal = field(default_factory=Signal)

    @property
    def owners(self) -> Any:
        return self

    def owner(self, shard: int) -> Owner | None:
        assert shard == SHARD
        return self.seen

    def admits(self, _shard: int) -> bool:
        return False

    def moves_to(self, node_id: str, server: Server | str) -> None:
        address = server if isinstance(server, str) else server.address
        self.seen = Owner(node_id, address, 3, OwnerState.ACTIVE)
        self.changes.notify()


class NotMine(ProbeServicer):
    """A node without the account."""

    def __init__(self) -> None:
        self.called = asyncio.Event()

    async def Unary(self, _request: StringValue, _context: Any) -> StringValue:
        self.called.set()
        raise NotOwner("n2", 3, shard=SHARD)

    async def Down(self, _request: StringValue, _context: Any) -> AsyncIterator[StringValue]:
        raise NotOwner("n2", 3, shard=SHARD)
        yield


class Mine(ProbeServicer):
    """The owner: answers with the headers that it sees."""

    async def Unary(self, request: StringValue, context: Any) -> StringValue:
        if request.value == "fail":
            raise FailedPrecondition("not paired", "NOT_PAIRED")
        context.set_trailing_metadata((("x-last", "1"),))
        seen = [f"{key}={value}" for key, value in context.invocation_metadata() if key.startswith("x-")]
        return StringValue(value=f"{request.value} {seen}")


@dataclass
class Nodes:
    """`former` is called; `owner` owns the account."""

    former: Server
    owner: Server
    ownership: Ownership
    servicer: NotMine
    probe: ProbeStub
    peer_pool: PeerPool


@pytest.fixture
async def nodes() -> AsyncIterator[Nodes]:
    async with AsyncExitStack() as stack:
        channels = ChannelPool()
        stack.push_async_callback(channels.close)
        peer_pool = PeerPool(channels, MESH_KEY, None)
        stack.callback(peer_pool.close)
        servicer, former, owner = NotMine(), make_server(), make_server()
        for server, served in ((former, servicer), (owner, Mine())):
            server.add(add_probe_to_server, served)
            await server.start()
            stack.push_async_callback(server.stop)
        ownership = Ownership()
        former.forward_not_owned(OwnerForwarder("n1", ownership, peer_pool))
        channel = open_channel(former.address)
        stack.push_async_callback(channel.close)
        yield Nodes(former, owner, ownership, servicer, ProbeStub(channel), peer_pool)


def text(value: str) -> StringValue:
    return StringValue(value=value)


async def failure(call: Any) -> MeshError:
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await call
    return from_rpc_error(failed.value)


async def test_a_unary_call_is_answered_by_the_owner(nodes: Nodes) -> None:
    nodes.ownership.moves_to("n2", nodes.owner)
    call = nodes.probe.Unary(text("hello"), metadata=(*ADMIN, ("x-mine", "1")), timeout=5)
    assert (await call).value == "hello ['x-mine=1']"
    assert ("x-last", "1") in tuple(await call.trailing_metadata())


async def test_the_owners_error_is_the_callers(nodes: Nodes) -> None:
    nodes.ownership.moves_to("n2", nodes.owner)
    error = await failure(nodes.probe.Unary(text("fail"), metadata=ADMIN, timeout=5))
    assert (type(error), error.reason) == (FailedPrecondition, "NOT_PAIRED")


async def test_a_call_waits_for_an_account_that_changes_hands(nodes: Nodes) -> None:
    call = nodes.probe.Unary(text("hello"), metadata=ADMIN, timeout=5)
    async with asyncio.timeout(5):
        await nodes.servicer.called.wait()
        nodes.ownership.moves_to("n2", nodes.owner)
        assert (await call).value == "hello []"


async def test_a_call_for_an_account_that_nobody_owns_is_refused_before_its_deadline(nodes: Nodes) -> None:
    error = await failure(nodes.probe.Unary(text("hello"), metadata=ADMIN, timeout=1))
    assert isinstance(error, NotOwner)


async def test_a_call_whose_owner_does_not_answer_is_refused(nodes: Nodes) -> None:
    nodes.ownership.moves_to("n2", "127.0.0.1:1")
    error = await failure(nodes.probe.Unary(text("hello"), metadata=ADMIN, timeout=5))
    assert isinstance(error, NotOwner)
    assert error.retry_after is not None


async def test_a_call_that_was_sent_on_is_not_sent_on_again(nodes: Nodes) -> None:
    nodes.ownership.moves_to("n2", nodes.owner)
    address, request = nodes.former.address, text("hello").SerializeToString()
    peer = await nodes.peer_pool.peer(address)
    assert peer is not None
    with pytest.raises(CallFailed) as failed:
        await peer.call(f"/{SERVICE}/Unary", request, ADMIN, 5)
    refused = from_status(failed.value.code, failed.value.message, failed.value.trailing)
    assert isinstance(refused, NotOwner)
    assert (refused.owner, refused.epoch) == ("n2", 3)


async def test_a_stream_is_refused_with_the_owners_name(nodes: Nodes) -> None:
    nodes.ownership.moves_to("n2", nodes.owner)
    error = await failure(nodes.probe.Down(text("hello"), metadata=ADMIN, timeout=5).read())
    assert isinstance(error, NotOwner)
    assert error.owner == "n2"


async def test_forged_headers_change_nothing_and_those_of_the_mesh_go_no_further(nodes: Nodes) -> None:
    nodes.ownership.moves_to("n2", nodes.owner)
    response = await nodes.probe.Unary(text("hello"), metadata=(*ADMIN, *FORGED), timeout=5)
    assert response.value == "hello []"
