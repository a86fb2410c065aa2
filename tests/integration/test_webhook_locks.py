"""What the functions of the webhooks wait for: no two of them for each other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
import pytest_asyncio
from asyncpg.pgproto.pgproto import UUID

from mesh_core.ids import new_uuid
from mesh_webhook.deliveries import claims, clock, maintenance
from mesh_webhook.deliveries.claims import Completion
from mesh_webhook.deliveries.settings import WebhookSettings
from mesh_webhook.endpoints.endpoint_store import delete_pending
from tests.support.eventually import eventually
from tests.support.webhook_tables import BAD, NOBODY, OK, Tables, empty_tables

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def pool(module_postgres_url: str) -> AsyncIterator[asyncpg.Pool]:
    async with asyncpg.create_pool(module_postgres_url, min_size=1, max_size=8) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def tables(pool: asyncpg.Pool) -> AsyncIterator[Tables]:
    async with empty_tables(pool) as made:
        yield made


async def waiting(pool: asyncpg.Pool, function: str) -> bool:
    """Whether a call of the function waits for a lock."""
    return await waits(pool, f"SELECT {function}(%")


async def waits(pool: asyncpg.Pool, statement: str) -> bool:
    """Whether a statement like that waits for a lock."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE $1"
    return bool(await pool.fetchval(query, statement))


@pytest.mark.parametrize("table", ["webhook_queue", "webhook_health"])
async def test_a_claim_waits_for_no_endpoint_and_leaves_out_one_that_is_locked(
    tables: Tables, table: str
) -> None:
    busy, free = [await tables.endpoint(rate_per_second=100) for _ in range(2)]
    for endpoint in (busy, free):
        await tables.owe(endpoint)
    async with tables.pool.acquire() as connection, connection.transaction():
        await connection.execute(f"SELECT FROM {table} WHERE endpoint = $1 FOR UPDATE", busy)
        async with asyncio.timeout(10):
            assert [one.endpoint for one in await tables.claim()] == [free]
    assert [one.endpoint for one in await tables.claim()] == [busy], "the next claim has it"


async def test_an_endpoint_with_a_rate_and_no_health_is_claimed(tables: Tables) -> None:
    await tables.owe(await tables.endpoint(rate_per_second=100))
    await tables.pool.execute("DELETE FROM webhook_health")
    assert len(await tables.claim()) == 1


async def test_completions_lock_health_by_endpoint_also_of_those_that_are_only_held(tables: Tables) -> None:
    first, second = sorted([await tables.endpoint() for _ in range(2)])
    for endpoint in (second, first):
        await tables.owe(endpoint)
    claimed = sorted(await tables.claim(), key=lambda one: one.endpoint, reverse=True)
    held = [Completion(one.id, one.token, OK, None, 60.0) for one in claimed]
    async with tables.pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT FROM webhook_health WHERE endpoint = $1 FOR UPDATE", first)
        completing = asyncio.create_task(claims.complete(tables.pool, held))
        await eventually(lambda: waiting(tables.pool, "webhook_complete"))
        lock = "SELECT FROM webhook_health WHERE endpoint = $1 FOR UPDATE NOWAIT"
        await connection.execute(lock, second)
    assert len(await completing) == 2


async def deliveries_in_the_other_order(tables: Tables) -> tuple[UUID, UUID]:
    """Two of one endpoint, by id: whoever looks for what is due finds the second one before the first."""
    first, second = sorted(await tables.owe(await tables.endpoint(), 2))
    for delivery, hours in ((second, 5), (first, 6)):
        await tables.pool.execute(
            "UPDATE webhook_delivery SET due_at = now() + make_interval(hours => $2) WHERE id = $1",
            delivery,
            hours,
        )
    return first, second


LOCK = "SELECT FROM webhook_delivery WHERE id = $1 FOR UPDATE"


async def test_completions_lock_deliveries_by_id(tables: Tables) -> None:
    await tables.owe(await tables.endpoint(), 2)
    first, second = sorted(await tables.claim(), key=lambda one: one.id)
    done = [Completion(one.id, one.token, OK, None) for one in (second, first)]
    async with tables.pool.acquire() as connection, connection.transaction():
        await connection.execute(LOCK, first.id)
        completing = asyncio.create_task(claims.complete(tables.pool, done), name="complete")
        await eventually(lambda: waiting(tables.pool, "webhook_complete"))
        await connection.execute(f"{LOCK} NOWAIT", second.id)
    assert len(await completing) == 2


async def test_a_clock_that_is_mended_locks_deliveries_by_id(tables: Tables) -> None:
    first, second = await deliveries_in_the_other_order(tables)
    await tables.pool.execute("UPDATE webhook_clock SET latest = now() + interval '6 hours'")
    async with tables.pool.acquire() as connection, connection.transaction():
        await connection.execute(LOCK, first)
        mending = asyncio.create_task(
            clock.mend(tables.pool, WebhookSettings(retry_schedule=(0, 60, 600))), name="mend"
        )
        await eventually(lambda: waits(tables.pool, "UPDATE webhook_delivery d SET due_at%"))
        await connection.execute(f"{LOCK} NOWAIT", second)
        await connection.execute(
            "UPDATE webhook_delivery SET due_at = now() + interval '1 minute', tries = 1, state = 3"
            " WHERE id = $1",
            first,
        )
    await mending
    assert (await tables.delivery(second))["due_at"] <= datetime.now(UTC)
    assert (await tables.delivery(first))["due_at"] > datetime.now(UTC), (
        "what changed meanwhile is left alone"
    )


async def test_deliveries_of_a_deleted_endpoint_are_locked_by_id(tables: Tables) -> None:
    first, second = await deliveries_in_the_other_order(tables)
    endpoint = (await tables.delivery(first))["endpoint"]
    async with tables.pool.acquire() as connection, connection.transaction():
        await connection.execute(LOCK, first)
        deleting = asyncio.create_task(delete_pending(tables.pool, endpoint), name="delete")
        await eventually(lambda: waits(tables.pool, "DELETE FROM webhook_delivery%"))
        await connection.execute(f"{LOCK} NOWAIT", second)
    assert await deleting == 2


async def test_owed_deliveries_lock_queues_by_endpoint_whatever_the_order_of_their_events(
    tables: Tables,
) -> None:
    first, second = sorted([await tables.endpoint() for _ in range(2)])
    for endpoint in (first, second):
        await tables.owe(endpoint)
    for seq in (1, 2):
        await tables.pool.execute(
            "INSERT INTO webhook_owed (tenant, xid, seq, event, event_type, labels, body, traceparent)"
            " VALUES ($1, '7', $2, $3, 'a.b', '{}', '{}', '')",
            tables.tenant,
            seq,
            new_uuid(),
        )
    async with tables.pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT FROM webhook_queue WHERE endpoint = $1 FOR UPDATE", first)
        settling = asyncio.create_task(settle(tables, [1, 2], [second, first]))
        await eventually(lambda: waiting(tables.pool, "webhook_settle"))
        lock = "SELECT FROM webhook_queue WHERE endpoint = $1 FOR UPDATE NOWAIT"
        await connection.execute(lock, second)
    assert await settling
    assert await tables.count() == 4


async def settle(tables: Tables, seqs: list[int], endpoints: list[UUID]) -> bool:
    """Makes one delivery of each of the owed events with xid 7."""
    done: bool = await tables.pool.fetchval(
        "SELECT webhook_settle($1, $2::xid8[], $3, $4, $5, $6, $7, $8)",
        tables.tenant,
        [7 for _ in seqs],
        seqs,
        [NOBODY for _ in seqs],
        [None for _ in seqs],
        [new_uuid() for _ in seqs],
        endpoints,
        [*range(1, len(seqs) + 1)],
    )
    return done


async def test_claims_and_completions_of_failing_endpoints_with_a_rate_stop_each_other_never(
    tables: Tables,
) -> None:
    for _ in range(8):
        await tables.owe(await tables.endpoint(rate_per_second=100_000), 40)
    done: set[UUID] = set()

    async def work() -> None:
        while len(done) < 8 * 40:
            claimed = await tables.claim(most=2)
            failed = [Completion(one.id, one.token, BAD, None) for one in claimed]
            done.update(await claims.complete(tables.pool, failed))

    async with asyncio.timeout(30):
        await asyncio.gather(*[work() for _ in range(4)])


async def test_a_delivery_that_is_locked_does_not_hold_up_the_expiry_of_others(tables: Tables) -> None:
    busy, old = await tables.owe(await tables.endpoint(), 2)
    await tables.pool.execute("UPDATE webhook_delivery SET create_time = now() - interval '9 days'")
    async with tables.pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT FROM webhook_delivery WHERE id = $1 FOR UPDATE", busy)
        async with asyncio.timeout(10):
            assert await maintenance.expire_deliveries(tables.pool, -timedelta(days=1)) == 1
    assert (await tables.delivery(old))["last_error"] == "not delivered in time"
