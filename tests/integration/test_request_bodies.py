"""Requests of a tenant that are large, or never end: a server takes little of them, and serves the others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from asyncpg.pgproto.pgproto import UUID
from google.protobuf.wrappers_pb2 import StringValue

from mesh_core import ids
from mesh_core.errors import ResourceExhausted
from mesh_core.rpc.auth import TENANT_SCOPES, KeyRow, Role, new_api_key
from mesh_core.rpc.server import bodies
from mesh_core.settings import ServerSettings
from tests.integration.test_server_calls import Running, failure, text
from tests.support.eventually import eventually
from tests.support.probe_service import SERVICE, Echo, add_probe_to_server, make_server
from tests.support.raw_http2 import raw_connection

MIB = 1024 * 1024
STREAMS = 24
LARGEST = ServerSettings().max_message_bytes - 100


class Tenant:
    """One with a key."""

    def __init__(self) -> None:
        self.key_id, self.secret, digest = new_api_key()
        self.row = KeyRow(Role.TENANT, ids.new_uuid(), digest, TENANT_SCOPES)
        self.authorization = f"Bearer {self.secret}"
        self.metadata = (("authorization", self.authorization),)


class Waiting(Echo):
    """Serves what says so only when it is released."""

    def __init__(self) -> None:
        self.release = asyncio.Event()
        self.inside = 0

    async def Unary(self, request: StringValue, _context: Any) -> StringValue:
        if request.value.startswith("wait"):
            self.inside += 1
            await self.release.wait()
        return text(request.value[:4])


class World:
    """A server, and two tenants that it knows."""

    def __init__(self) -> None:
        self.greedy, self.bystander = Tenant(), Tenant()
        self.servicer = Waiting()
        server = make_server(lookup=self._lookup)
        server.add(add_probe_to_server, self.servicer)
        self.running = Running(server)

    async def _lookup(self, key_id: UUID) -> KeyRow | None:
        return {tenant.key_id: tenant.row for tenant in (self.greedy, self.bystander)}.get(key_id)

    async def send(self, tenant: Tenant, value: str) -> str:
        answer = await self.running.probe.Unary(text(value), metadata=tenant.metadata, timeout=30)
        return str(answer.value)


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(bodies, "AS_THEY_COME_OF_TENANT", 2)
    monkeypatch.setattr(bodies, "IN_TURN_OF_TENANT", 1)
    monkeypatch.setattr(bodies, "BYTES_OF_TENANT", 2 * LARGEST)
    made = World()
    async with made.running:
        for tenant in (made.greedy, made.bystander):  # whose key is known is another way in
            await made.send(tenant, "warm")
        yield made
        made.servicer.release.set()


@pytest.mark.parametrize("method", ["Unary", "Down"])
async def test_bodies_that_never_end_are_taken_few_at_a_time_and_others_calls_go_on(
    world: World, method: str
) -> None:
    async with raw_connection(world.running.server.address) as connection:
        pouring = asyncio.create_task(
            connection.pour(f"/{SERVICE}/{method}", STREAMS, LARGEST, 1.0, world.greedy.authorization)
        )
        while not pouring.done():
            assert await world.send(world.bystander, "x") == "x"
        window = 64 * 1024
        assert 0 < await pouring < 3 * LARGEST + STREAMS * 2 * window


async def test_many_small_calls_at_once_are_all_served(world: World) -> None:
    answers = await asyncio.gather(*(world.send(world.greedy, "wide") for _ in range(200)))
    assert answers == ["wide"] * 200


async def test_large_requests_beyond_a_tenants_room_are_refused_with_the_quota_and_others_are_served(
    world: World,
) -> None:
    large = "wait" + "x" * (LARGEST - 100)
    served = [asyncio.create_task(world.send(world.greedy, large)) for _ in range(2)]
    await eventually(lambda: world.servicer.inside == 2, seconds=30, what="both with the handler")
    refused = await failure(world.running.probe.Unary(text(large), metadata=world.greedy.metadata))
    assert isinstance(refused, ResourceExhausted)
    assert (refused.reason, refused.quota, refused.retry_after) == ("RATE_LIMITED", "request_bytes", 1.0)
    assert await world.send(world.greedy, "tiny") == "tiny"
    assert await world.send(world.bystander, large[4:]) == "xxxx"
    world.servicer.release.set()
    assert await asyncio.gather(*served) == ["wait", "wait"]
    assert await world.send(world.greedy, large) == "wait"
