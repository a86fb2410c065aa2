"""What callers ask of the webhook service's database holds up neither deliveries nor other tenants."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import grpc
import pytest
import pytest_asyncio

from mesh_core.database import callers
from mesh_core.errors import DeadlineExceeded
from mesh_core.events import reader
from mesh_core.rpc.server.status import from_rpc_error
from sessionmesh.v1.event_pb2 import Event, ListEventsRequest
from sessionmesh.v1.webhook_pb2 import ListEndpointsRequest
from tests.support.eventually import eventually
from tests.support.running import Running
from tests.support.webhook_world import Receiver, Tenant, World, client, open_world, receiver, service

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def world(module_postgres_url: str, etcd: str) -> AsyncIterator[World]:
    async with open_world(module_postgres_url, etcd) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def running(world: World) -> AsyncIterator[Running]:
    async with service(world, MESH_DATABASE_POOL_SIZE="6") as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def hooks() -> AsyncIterator[Receiver]:
    async with receiver() as made:
        yield made


async def searching(pool: asyncpg.Pool) -> int:
    """Statements that sleep."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
    return int(await pool.fetchval(query) or 0)


async def waiting(pool: asyncpg.Pool) -> int:
    """Statements that wait for a lock."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    return int(await pool.fetchval(query) or 0)


def search_for_long(monkeypatch: pytest.MonkeyPatch, tenant: Tenant, seconds: float) -> None:
    """Let the tenant's searches for its oldest event take a minute, of which they get so many seconds."""
    monkeypatch.setattr(callers, "SEARCH_SECONDS", seconds)
    slow = f"pg_sleep(CASE WHEN $1::uuid = '{tenant.uuid}' THEN 60 ELSE 0 END)"
    found = f"SELECT xid AS position, seq AS place FROM event_horizon, {slow}"
    monkeypatch.setattr(reader, "OLDEST", found)


async def test_searches_of_one_tenant_hold_up_no_webhook_and_no_other_tenant(
    world: World, running: Running, hooks: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    greedy, other, stranger = [await world.tenant() for _ in range(3)]
    async with client(running.address, greedy.api_key) as busy, client(running.address, other.api_key) as api:
        await api.create(hooks.url)
        search_for_long(monkeypatch, greedy, 60.0)
        listing = busy.events.ListEvents
        calls = [asyncio.create_task(busy.call(listing, ListEventsRequest()), name="list") for _ in range(20)]
        await eventually(lambda: searching(world.pool))
        await other.commit(Event(type="a.b"))
        await hooks.wait_for(1)
        await api.call(api.events.ListEvents, ListEventsRequest())
        async with client(running.address, stranger.api_key) as new:  # whose key was never seen
            await new.call(new.webhooks.ListEndpoints, ListEndpointsRequest())
        assert await searching(world.pool) == 2
        for call in calls:
            call.cancel()


async def test_creations_that_wait_for_their_tenant_s_row_hold_one_connection(
    world: World, running: Running, hooks: Receiver
) -> None:
    greedy, other = await world.tenant(), await world.tenant()
    async with client(running.address, greedy.api_key) as busy, client(running.address, other.api_key) as api:
        await busy.create(hooks.url)
        async with world.pool.acquire() as connection, connection.transaction():
            await connection.execute("SELECT FROM webhook_tenant WHERE tenant = $1 FOR UPDATE", greedy.uuid)
            creating = [asyncio.create_task(busy.create(hooks.url), name="create") for _ in range(20)]
            await eventually(lambda: waiting(world.pool))
            await api.create(hooks.url)
            assert await waiting(world.pool) <= 1, "each is told in time that it waited too long"
            await busy.call(busy.webhooks.ListEndpoints, ListEndpointsRequest())
        await asyncio.gather(*creating, return_exceptions=True)


async def test_a_listing_of_events_that_takes_too_long_is_told_so(
    world: World, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant = await world.tenant()
    search_for_long(monkeypatch, tenant, 0.1)
    async with client(running.address, tenant.api_key) as api:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await api.call(api.events.ListEvents, ListEventsRequest())
        error = from_rpc_error(caught.value)
        assert isinstance(error, DeadlineExceeded)
        assert error.reason == "SEARCH_TOO_LONG"
        monkeypatch.undo()
        await api.call(api.events.ListEvents, ListEventsRequest())
