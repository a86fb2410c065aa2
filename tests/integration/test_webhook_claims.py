"""Claims, completions, the fan-out's position, and housekeeping, on the tables themselves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
import pytest_asyncio
from asyncpg.pgproto.pgproto import UUID

from mesh_webhook.deliveries import claims, maintenance
from mesh_webhook.deliveries.claims import Completion
from mesh_webhook.deliveries.completions import CompletionWriter
from mesh_webhook.deliveries.http_sender import AttemptResult
from mesh_webhook.endpoints import disabling
from sessionmesh.v1 import webhook_pb2
from tests.support.webhook_tables import BAD, OK, Tables, empty_tables

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def pool(module_postgres_url: str) -> AsyncIterator[asyncpg.Pool]:
    async with asyncpg.create_pool(module_postgres_url, min_size=1, max_size=8) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def tables(pool: asyncpg.Pool) -> AsyncIterator[Tables]:
    async with empty_tables(pool) as made:
        yield made


async def test_a_delivery_is_claimed_once_until_its_claim_lapses(tables: Tables) -> None:
    [owed] = await tables.owe(await tables.endpoint())
    [claimed] = await tables.claim(lease=3600)
    assert claimed.id == owed
    assert not await tables.claim()
    await tables.pool.execute("UPDATE webhook_delivery SET due_at = now() WHERE id = $1", owed)
    await tables.pool.execute("UPDATE webhook_queue SET due_at = now()")
    [again] = await tables.claim()
    assert again.id == owed
    assert again.token != claimed.token


async def test_a_lapsed_claim_cannot_complete_what_another_holds(tables: Tables) -> None:
    [owed] = await tables.owe(await tables.endpoint())
    [late] = await tables.claim(lease=0)
    [present] = await tables.claim()
    assert not await claims.complete(tables.pool, [Completion(owed, late.token, BAD, None)])
    assert (await tables.delivery(owed))["state"] == webhook_pb2.DELIVERY_STATE_PENDING
    assert await claims.complete(tables.pool, [Completion(owed, present.token, OK, None)]) == {owed}
    row = await tables.delivery(owed)
    assert (row["state"], row["attempts"]) == (webhook_pb2.DELIVERY_STATE_SUCCEEDED, 1)
    assert await tables.pool.fetchval("SELECT count(*) FROM webhook_attempt") == 1


async def test_a_completion_counts_once(tables: Tables) -> None:
    [owed] = await tables.owe(await tables.endpoint())
    [claimed] = await tables.claim()
    completion = Completion(owed, claimed.token, BAD, 3600.0)
    assert await claims.complete(tables.pool, [completion]) == {owed}
    assert not await claims.complete(tables.pool, [completion])
    row = await tables.delivery(owed)
    assert (row["attempts"], row["state"], row["last_status"]) == (1, webhook_pb2.DELIVERY_STATE_PENDING, 500)
    assert row["due_at"] > datetime.now(UTC) + timedelta(minutes=50)


async def test_an_answer_that_cannot_be_stored_costs_no_other_completion_of_its_batch(tables: Tables) -> None:
    owed = await tables.owe(await tables.endpoint(), 3)
    odd = AttemptResult(None, "a NUL \0 or \ud800", b"", None, BAD.start_time, 0.01)
    completed = [
        Completion(one.id, one.token, odd if one.id == owed[1] else OK, 3600.0)
        for one in await tables.claim()
    ]
    writer = CompletionWriter(tables.pool)
    writing = asyncio.create_task(writer.run())
    assert await asyncio.gather(*[writer.complete(one) for one in completed]) == [True, True, True]
    writing.cancel()
    assert [(await tables.delivery(one))["last_error"] for one in owed] == [
        "",
        "the answer cannot be stored",
        "",
    ]


async def test_rivals_never_claim_the_same_delivery(tables: Tables) -> None:
    owed = await tables.owe(await tables.endpoint(), 100) + await tables.owe(await tables.endpoint(), 100)
    claims = await asyncio.gather(*[tables.claim(most=20) for _ in range(8)])
    claimed = [one.id for claim in claims for one in claim]
    claimed += [one.id for one in await tables.claim(most=1000)]
    assert sorted(claimed) == sorted(owed)


async def test_paused_disabled_and_held_endpoints_are_left_alone(tables: Tables) -> None:
    for state in (webhook_pb2.ENDPOINT_STATE_PAUSED, webhook_pb2.ENDPOINT_STATE_DISABLED):
        await tables.owe(await tables.endpoint(state=state))
    held = await tables.endpoint()
    await tables.owe(held)
    await tables.pool.execute(
        "UPDATE webhook_health SET hold_until = now() + interval '1 minute' WHERE endpoint = $1", held
    )
    assert not await tables.claim()


async def test_a_rate_claims_a_second_of_deliveries_at_once_and_no_more(tables: Tables) -> None:
    endpoint = await tables.endpoint(rate_per_second=5)
    await tables.owe(endpoint, 50)
    claimed = await tables.claim(lease=60)
    assert len(claimed) == 5
    claimed_at = (await tables.delivery(claimed[0].id))["due_at"] - timedelta(seconds=60)
    paced_until = await tables.pool.fetchval("SELECT paced_until FROM webhook_health")
    assert paced_until == claimed_at + timedelta(seconds=1), "the second is used up"

    await tables.pool.execute("UPDATE webhook_health SET paced_until = now() + interval '1 hour'")
    assert not await tables.claim()
    await tables.pool.execute("UPDATE webhook_health SET paced_until = now() - interval '1 hour'")
    await tables.pool.execute("UPDATE webhook_queue SET due_at = now()")
    assert len(await tables.claim()) == 5, "unused time is not saved up"


async def test_a_position_moves_with_its_deliveries_or_not_at_all(tables: Tables) -> None:
    endpoint = await tables.endpoint()
    assert await tables.advance((0, 0), (5, 1), endpoint)
    assert not await tables.advance((0, 0), (5, 1), endpoint)
    assert await tables.count() == 1
    assert await tables.advance((5, 1), (6, 1), endpoint)
    assert await tables.count() == 1, "one event is owed to one endpoint once"


async def test_of_rival_fan_outs_one_writes(tables: Tables) -> None:
    endpoint = await tables.endpoint()
    answers = await asyncio.gather(*[tables.advance((0, 0), (5, 1), endpoint) for _ in range(6)])
    assert sorted(answers) == [False] * 5 + [True]


async def test_an_endpoint_is_disabled_after_days_without_a_success(tables: Tables) -> None:
    endpoint = await tables.endpoint()
    [owed] = await tables.owe(endpoint)
    [claimed] = await tables.claim()
    await claims.complete(tables.pool, [Completion(owed, claimed.token, BAD, 0.0)])
    assert not await disabling.disable_if_failing(tables.pool, endpoint, 5)
    await tables.pool.execute("UPDATE webhook_health SET failing_since = failing_since - interval '6 days'")
    assert await disabling.disable_if_failing(tables.pool, endpoint, 5)
    state = await tables.pool.fetchval("SELECT state FROM webhook_endpoint")
    assert state == webhook_pb2.ENDPOINT_STATE_DISABLED
    assert await tables.pool.fetchval("SELECT type FROM event") == disabling.EVENT_TYPE


async def test_a_success_ends_the_days_of_failing(tables: Tables) -> None:
    endpoint = await tables.endpoint()
    await tables.owe(endpoint, 2)
    first, second = await tables.claim()
    await claims.complete(tables.pool, [Completion(first.id, first.token, BAD, None)])
    await tables.pool.execute("UPDATE webhook_health SET failing_since = failing_since - interval '6 days'")
    await claims.complete(tables.pool, [Completion(second.id, second.token, OK, None)])
    assert not await disabling.disable_if_failing(tables.pool, endpoint, 5)


async def test_what_is_too_old_is_expired_then_deleted(tables: Tables) -> None:
    endpoint = await tables.endpoint(state=webhook_pb2.ENDPOINT_STATE_PAUSED)
    [young] = await tables.owe(endpoint)
    [old] = await tables.owe(endpoint)
    long_ago = datetime.now(UTC) - timedelta(days=9)
    aged = UUID((int(long_ago.timestamp() * 1000) << 80 | 7 << 76 | 2 << 62).to_bytes(16, "big"))
    await tables.pool.execute(
        "UPDATE webhook_delivery SET id = $2, create_time = $3 WHERE id = $1", old, aged, long_ago
    )
    retention = timedelta(days=7)
    assert await maintenance.expire_deliveries(tables.pool, retention) == 1
    assert (await tables.delivery(aged))["last_error"] == "not delivered in time"
    assert await maintenance.delete_old(tables.pool, retention) == 0
    await tables.pool.execute("UPDATE webhook_delivery SET end_time = $2 WHERE id = $1", aged, long_ago)
    assert await maintenance.delete_old(tables.pool, retention) == 1
    assert (await tables.delivery(young))["state"] == webhook_pb2.DELIVERY_STATE_PENDING


async def test_what_a_deleted_endpoint_left_behind_goes(tables: Tables) -> None:
    endpoint = await tables.endpoint()
    await tables.owe(endpoint, 3)
    await tables.pool.execute("DELETE FROM webhook_endpoint")
    assert not await tables.claim()
    assert await maintenance.clear_leaving(tables.pool) == 3


async def test_old_partitions_of_attempts_are_dropped(tables: Tables) -> None:
    await tables.pool.execute("SELECT make_day_partition('webhook_attempt', current_date - 20)")
    parts = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'webhook_attempt'::regclass"
    before = await tables.pool.fetchval(parts)
    async with tables.pool.acquire() as connection, connection.transaction():
        await connection.execute("LOCK TABLE webhook_attempt IN ACCESS SHARE MODE")
        await maintenance.delete_old(tables.pool, timedelta(days=7))
    assert await tables.pool.fetchval(parts) == before, "who uses the table keeps nobody waiting for long"
    await maintenance.delete_old(tables.pool, timedelta(days=7))
    assert await tables.pool.fetchval(parts) == before - 1


async def test_claims_take_replays_last_and_as_retries(tables: Tables) -> None:
    endpoint = await tables.endpoint()
    [replayed], [retried] = await tables.owe(endpoint), await tables.owe(endpoint)
    await tables.pool.execute(
        "UPDATE webhook_delivery SET replay = id, due_at = now() - interval '1 hour' WHERE id = $1", replayed
    )
    await tables.pool.execute("UPDATE webhook_delivery SET tries = 1 WHERE id = $1", retried)
    [new] = await tables.owe(endpoint)
    [first] = await tables.claim(retries=0)
    assert first.id == new
    assert not await tables.claim(retries=0), "a replay is no first attempt"
    [second] = await tables.claim(retries=1)
    assert second.id == retried
    [last] = await tables.claim(retries=1)
    assert (last.id, last.is_retry) == (replayed, True)


async def test_a_replayed_delivery_waits_as_long_as_a_new_one(tables: Tables) -> None:
    """However old it is: it became pending when it was replayed."""
    [replayed] = await tables.owe(await tables.endpoint())
    long_ago = datetime.now(UTC) - timedelta(days=9)
    aged = UUID(int(long_ago.timestamp() * 1000).to_bytes(6, "big") + replayed.bytes[6:])
    await tables.pool.execute(
        "UPDATE webhook_delivery SET id = $2, create_time = $3, replay = id WHERE id = $1",
        replayed,
        aged,
        long_ago,
    )
    assert await maintenance.expire_deliveries(tables.pool, timedelta(days=7)) == 0
    await tables.pool.execute("UPDATE webhook_delivery SET due_at = $2 WHERE id = $1", aged, long_ago)
    assert await maintenance.expire_deliveries(tables.pool, timedelta(days=7)) == 1
