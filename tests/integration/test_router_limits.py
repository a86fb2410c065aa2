"""Limits through a router and behind it: each call and each message is counted once."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from google.protobuf.field_mask_pb2 import FieldMask
from grpc import StatusCode

from mesh_core.rpc.auth import TENANT_SCOPES
from mesh_core.rpc.channels import open_channel
from mesh_core.rpc.limits import Entry, relayed_metadata
from mesh_core.settings import LimitsSettings, RedisSettings, ServerSettings
from sessionmesh.internal.v1 import node_pb2, node_pb2_grpc
from sessionmesh.v1 import (
    message_pb2,
    message_pb2_grpc,
    session_pb2,
    session_pb2_grpc,
    tenant_pb2,
)
from sessionmesh.v1.message_pb2 import BatchSendMessagesRequest
from tests.conftest import Databases, LoopThread
from tests.integration.test_router_bulk import Bulk, frame, reason, results
from tests.integration.test_router_proxy import Messages, Sessions
from tests.support.router_world import (
    ADMIN,
    AUTH,
    MESH_KEY,
    RouterWorld,
    bearer,
    failing,
    message_to_send,
    new_account,
    router_world,
    tenant_key,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")
MOST = 3
LIMITS = LimitsSettings(account=(f"message={MOST}/600s", f"query={MOST}/600s"))


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def router(
    databases: Databases, server_loop: LoopThread, etcd: str, redis_server: str
) -> AsyncIterator[RouterWorld]:
    """The router of the module, with limits."""
    name = server_loop.run(databases.create_migrated())
    cluster = f"test-{uuid.uuid4().hex[:12]}"
    redis = RedisSettings(url=redis_server)
    async with router_world(databases.url(name), etcd, cluster, redis=redis, limits=LIMITS) as running:
        yield running
    server_loop.run(databases.drop_soon(name))


@pytest_asyncio.fixture(loop_scope="module")
async def limited_node(world: RouterWorld, redis_server: str) -> AsyncIterator[tuple[str, Any]]:
    """An account, and a node that owns it and has the same limits as the router."""
    entry = Entry.of(ServerSettings(), AUTH, RedisSettings(url=redis_server), LIMITS)
    account = new_account()
    services: dict[Any, object] = {
        message_pb2_grpc.add_MessageServiceServicer_to_server: Listing(),
        session_pb2_grpc.add_SessionServiceServicer_to_server: Sessions(one_frame),
        node_pb2_grpc.add_NodeServiceServicer_to_server: Bulk(),
    }
    node = await world.node("n1", services, entry=entry)
    await node.own(account)
    yield account, node
    await entry.close()


class Listing(Messages):
    """Lists, too."""

    async def ListMessages(
        self, _request: message_pb2.ListMessagesRequest, _context: Any
    ) -> message_pb2.ListMessagesResponse:
        return message_pb2.ListMessagesResponse()


async def one_frame(_request: Any, _context: Any) -> AsyncIterator[Any]:
    yield session_pb2.WatchSessionResponse()


def messages(channel: Any) -> Any:
    return message_pb2_grpc.MessageServiceStub(channel)


def send(channel: Any, account: str, key: str, **fields: Any) -> Any:
    request = message_to_send(account, uuid.uuid4().hex, **fields)
    return messages(channel).SendMessage(request, metadata=bearer(key), timeout=10)


def listing(channel: Any, account: str, key: str) -> Any:
    request = message_pb2.ListMessagesRequest(account_id=account)
    return messages(channel).ListMessages(request, metadata=bearer(key), timeout=10)


async def watch(channel: Any, account: str, key: str) -> None:
    request = session_pb2.WatchSessionRequest(account_id=account)
    stub: Any = session_pb2_grpc.SessionServiceStub(channel)
    async for _ in stub.WatchSession(request, metadata=bearer(key), timeout=10):
        pass


async def large(channel: Any, account: str, key: str) -> None:
    """Too large to be batched with others."""
    labels = {f"label-{number}": "x" * 250 for number in range(300)}
    await send(channel, account, key, labels=labels)


@pytest.mark.parametrize("call", [send, listing, watch, large])
@pytest.mark.parametrize("way", ["through the router", "to the node"])
async def test_each_call_is_counted_once_where_it_enters(
    world: RouterWorld, limited_node: tuple[str, Any], call: Any, way: str
) -> None:
    account, node = limited_node
    key = await tenant_key(world)
    channel = world.channel if way == "through the router" else open_channel(node.server.address)
    for _ in range(MOST):
        await call(channel, account, key)
    refused = await failing(call(channel, account, key))
    assert (refused.code, refused.reason) == (StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED")
    assert 0 < refused.retry_after <= 200
    assert refused.quota == f"account:{account}"
    if channel is not world.channel:
        await channel.close()


async def test_router_and_node_share_one_count(world: RouterWorld, limited_node: tuple[str, Any]) -> None:
    account, node = limited_node
    key = await tenant_key(world)
    async with open_channel(node.server.address) as direct:
        for channel in (world.channel, direct, world.channel):
            await send(channel, account, key)
        for channel in (world.channel, direct):
            assert (await failing(send(channel, account, key))).reason == "RATE_LIMITED"


async def test_each_message_of_a_stream_counts_and_those_over_the_limit_are_refused_one_by_one(
    world: RouterWorld, limited_node: tuple[str, Any]
) -> None:
    account, _ = limited_node
    key = await tenant_key(world)
    call = messages(world.channel).SendMessages(metadata=bearer(key), timeout=30)
    await call.write(frame((account, "a"), (account, "b")))
    assert {reason(result) for result in (await results(call, 2)).values()} == {""}
    await call.write(frame((account, "c"), (account, "d"), (account, "e")))
    found = await results(call, 3)
    assert {name[1]: reason(result) for name, result in found.items()} == {
        "c": "",
        "d": "RATE_LIMITED",
        "e": "RATE_LIMITED",
    }
    await call.done_writing()


async def test_nobody_sends_uncounted_by_speaking_to_a_node_as_the_router_does(
    world: RouterWorld, limited_node: tuple[str, Any]
) -> None:
    account, node = limited_node
    key = await tenant_key(world)
    request = node_pb2.AcceptMessagesRequest(messages=frame((account, "a")).messages)
    async with open_channel(node.server.address) as direct:
        stub: Any = node_pb2_grpc.NodeServiceStub(direct)
        refused = await failing(stub.AcceptMessages(request, metadata=bearer(key), timeout=10))
        assert (refused.code, refused.reason) == (StatusCode.PERMISSION_DENIED, "SCOPE_MISSING")
        relayed = (*bearer(key), *relayed_metadata(MESH_KEY))
        assert len((await stub.AcceptMessages(request, metadata=relayed, timeout=10)).results) == 1


async def test_each_message_of_a_batch_counts(world: RouterWorld, limited_node: tuple[str, Any]) -> None:
    account, _ = limited_node
    key = await tenant_key(world)
    request = BatchSendMessagesRequest(messages=frame(*((account, name) for name in "abcde")).messages)
    answer = await messages(world.channel).BatchSendMessages(request, metadata=bearer(key), timeout=30)
    assert [reason(result) for result in answer.results] == [""] * MOST + ["RATE_LIMITED"] * 2


async def test_calls_per_second_of_a_tenant_holds_for_all_its_keys(
    world: RouterWorld, limited_node: tuple[str, Any]
) -> None:
    account, _ = limited_node
    key = await tenant_key(world)
    own = await world.tenants.GetTenant(tenant_pb2.GetTenantRequest(), metadata=bearer(key))
    settings = tenant_pb2.TenantSettings(calls_per_second=1)
    await world.tenants.UpdateTenant(
        tenant_pb2.UpdateTenantRequest(
            tenant_id=own.tenant.id,
            tenant=tenant_pb2.Tenant(settings=settings),
            update_mask=FieldMask(paths=["settings.calls_per_second"]),
        ),
        metadata=ADMIN,
    )
    keys = [await another_key(world, own.tenant.id) for _ in range(2)]
    await send(world.channel, account, keys[0])
    refused = await failing(send(world.channel, account, keys[1]))
    assert (refused.reason, refused.quota) == ("RATE_LIMITED", f"tenant:{own.tenant.id}")


async def another_key(world: RouterWorld, tenant_id: str) -> str:
    request = tenant_pb2.CreateApiKeyRequest(
        request_id=uuid.uuid4().hex, tenant_id=tenant_id, scopes=sorted(TENANT_SCOPES)
    )
    return str((await world.tenants.CreateApiKey(request, metadata=ADMIN)).secret)
