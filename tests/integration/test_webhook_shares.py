"""Work that is bounded and shared out: owed events, changing endpoints, queues, the clock; on the tables."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from asyncpg.pgproto.pgproto import UUID

from mesh_core.ids import new_uuid
from mesh_core.signal import Signal
from mesh_webhook.deliveries import backlog, claims, clock, maintenance, owed
from mesh_webhook.deliveries.backlog import Standstill
from mesh_webhook.deliveries.claims import Completion
from mesh_webhook.deliveries.owed import OwedDeliveries
from mesh_webhook.deliveries.settings import WebhookSettings
from mesh_webhook.deliveries.slots import Share
from mesh_webhook.endpoints.subscribers import Subscribers
from sessionmesh.v1 import webhook_pb2
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


@pytest_asyncio.fixture(loop_scope="module")
async def neighbour(pool: asyncpg.Pool) -> Tables:
    tenant = new_uuid()
    await pool.execute("INSERT INTO tenant (id) VALUES ($1)", tenant)
    return Tables(pool, tenant)


@pytest.fixture
def settings() -> WebhookSettings:
    return WebhookSettings(retry_schedule=(0, 60, 600))


async def endpoints(tables: Tables, count: int, **columns: Any) -> list[UUID]:
    return [await tables.endpoint(**columns) for _ in range(count)]


async def owe_event(tables: Tables, xid: int = 2**40) -> UUID:
    """An event of the tenant whose deliveries the fan-out left to be made later."""
    event = new_uuid()
    await tables.pool.execute(
        "INSERT INTO webhook_owed (tenant, xid, seq, event, event_type, labels, body, traceparent)"
        " VALUES ($1, $2::xid8, 1, $3, 'a.b', '{}', '{}', '')",
        tables.tenant,
        xid,
        event,
    )
    return event


def maker(tables: Tables) -> OwedDeliveries:
    return OwedDeliveries(tables.pool, Subscribers(tables.pool), Signal(), lambda: None)


async def wanted_ids(subscribers: Subscribers, tables: Tables, event_type: str = "a.b") -> list[UUID]:
    await subscribers.refresh([tables.tenant])
    return [one.endpoint.id for one in subscribers.wanting(tables.tenant, NOBODY, event_type, 2**40)]


async def test_owed_deliveries_are_made_a_bounded_number_at_a_time_and_go_on_where_another_process_ended(
    tables: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owed, "MAX_ROWS", 3)
    made = await endpoints(tables, 8)
    event = await owe_event(tables)
    counts = []
    for _ in range(3):
        assert await maker(tables).turn(), "each turn is a process of its own"
        counts.append(await tables.count())
    assert counts == [3, 6, 8]
    assert not await maker(tables).turn(), "nothing is owed any more"
    rows = await tables.pool.fetch("SELECT endpoint, event FROM webhook_delivery ORDER BY endpoint")
    assert [(row["endpoint"], row["event"]) for row in rows] == [(one, event) for one in sorted(made)]


async def test_of_too_many_owed_events_of_a_tenant_the_oldest_get_no_deliveries(
    tables: Tables, neighbour: Tables
) -> None:
    events = [await owe_event(tables, xid) for xid in (5, 6, 7, 8)]
    others = await owe_event(neighbour, 4)
    assert await maintenance.bound_owed(tables.pool, 2) == 2
    left = await tables.pool.fetchval("SELECT array_agg(event) FROM webhook_owed")
    assert {*left} == {*events[2:], others}
    assert await maintenance.bound_owed(tables.pool, 2) == 0


async def test_owed_events_that_are_older_than_the_retention_get_no_deliveries(tables: Tables) -> None:
    old, young = await owe_event(tables, 5), await owe_event(tables, 6)
    await tables.pool.execute(
        "UPDATE webhook_owed SET event = uuid_at(now() - interval '8 days') WHERE event = $1", old
    )
    assert await maintenance.expire_owed(tables.pool, timedelta(days=7)) == 1
    assert await tables.pool.fetchval("SELECT array_agg(event) FROM webhook_owed") == [young]


async def test_rivals_make_no_owed_delivery_twice(tables: Tables) -> None:
    await endpoints(tables, 20)
    for number in range(5):
        await owe_event(tables, 2**40 + number)
    rivals = [maker(tables) for _ in range(4)]
    while await tables.pool.fetchval("SELECT count(*) FROM webhook_owed"):
        await asyncio.gather(*[rival.turn() for rival in rivals])
    assert await tables.count() == 100


async def test_owed_events_take_turns_over_tenants(
    tables: Tables, neighbour: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owed, "MAX_ROWS", 2)
    for of_tenant in (tables, neighbour):
        await endpoints(of_tenant, 4)
        await owe_event(of_tenant)
    turns = maker(tables)
    await turns.turn()
    await turns.turn()
    rows = await tables.pool.fetch("SELECT count(*) FROM webhook_delivery GROUP BY tenant")
    assert [row["count"] for row in rows] == [2, 2]


async def test_a_refresh_reads_only_what_changed(tables: Tables) -> None:
    first, second = await endpoints(tables, 2)
    subscribers = Subscribers(tables.pool)
    assert await wanted_ids(subscribers, tables) == sorted([first, second])
    # A row that was not changed by way of an UPDATE is not read again.
    await tables.pool.execute("ALTER TABLE webhook_endpoint DISABLE TRIGGER webhook_endpoint_changed")
    await tables.pool.execute("UPDATE webhook_endpoint SET event_types = '{x.y}' WHERE id = $1", first)
    await tables.pool.execute("ALTER TABLE webhook_endpoint ENABLE TRIGGER webhook_endpoint_changed")
    await tables.pool.execute("UPDATE webhook_endpoint SET event_types = '{c.d}' WHERE id = $1", second)
    assert await wanted_ids(subscribers, tables) == [first]
    assert await wanted_ids(subscribers, tables, "c.d") == sorted([first, second])


async def test_a_refresh_finds_endpoints_that_came_changed_were_disabled_and_enabled(tables: Tables) -> None:
    subscribers = Subscribers(tables.pool)
    assert await wanted_ids(subscribers, tables) == []
    endpoint = await tables.endpoint()
    assert await wanted_ids(subscribers, tables) == [endpoint]
    state = "UPDATE webhook_endpoint SET state = $2 WHERE id = $1"
    await tables.pool.execute(state, endpoint, webhook_pb2.ENDPOINT_STATE_DISABLED)
    assert await wanted_ids(subscribers, tables) == []
    await tables.pool.execute(state, endpoint, webhook_pb2.ENDPOINT_STATE_PAUSED)
    assert await wanted_ids(subscribers, tables) == [endpoint]


async def test_a_deleted_endpoint_gets_no_delivery_and_is_forgotten_when_many_are(tables: Tables) -> None:
    subscribers = Subscribers(tables.pool)
    [stays, *others] = await endpoints(tables, 151)
    assert len(await wanted_ids(subscribers, tables)) == 151
    await tables.pool.execute("DELETE FROM webhook_endpoint WHERE id = $1", others[0])
    assert await tables.advance((0, 0), (5, 1), stays, others[0])
    assert await tables.pool.fetchval("SELECT array_agg(endpoint) FROM webhook_delivery") == [stays]
    await tables.pool.execute("DELETE FROM webhook_endpoint WHERE id <> $1", stays)
    assert await wanted_ids(subscribers, tables) == [stays]


async def test_a_tenant_that_has_no_events_any_more_is_forgotten(
    tables: Tables, neighbour: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    subscribers = Subscribers(tables.pool)
    mine, others = await tables.endpoint(), await neighbour.endpoint()
    assert await wanted_ids(subscribers, tables) == [mine]
    monkeypatch.setattr("mesh_webhook.endpoints.subscribers.IDLE_SECONDS", 0.0)
    assert await wanted_ids(subscribers, neighbour) == [others]
    assert (subscribers.count(tables.tenant), [*subscribers._asked]) == (0, [neighbour.tenant])
    assert await wanted_ids(subscribers, tables) == [mine], "read again where it has one after all"


async def test_an_endpoint_that_cannot_be_read_gets_nothing_and_the_others_do(tables: Tables) -> None:
    broken, sound = await endpoints(tables, 2)
    await tables.pool.execute("UPDATE webhook_endpoint SET labels = '[1]' WHERE id = $1", broken)
    assert await wanted_ids(Subscribers(tables.pool), tables) == [sound]


async def test_what_is_due_is_asked_in_turns_over_tenants_past_endpoints_that_are_full(
    tables: Tables, neighbour: Tables
) -> None:
    blocked = await endpoints(tables, 60)
    for one in blocked:
        await tables.owe(one)
    [quick] = await endpoints(neighbour, 1)
    await neighbour.owe(quick)
    assert quick in await tables.due()
    first, second = sorted([tables.tenant, neighbour.tenant])
    in_turn = [one.tenant for one in await claims.due(tables.pool, first, [], [])]
    assert list(dict.fromkeys(in_turn)) == [second, first]
    assert await tables.due(blocked) == [quick]
    full_tenant = await claims.due(tables.pool, NOBODY, [tables.tenant], [])
    assert [one.endpoint for one in full_tenant] == [quick]


async def test_an_endpoint_sleeps_until_its_next_delivery_is_due(tables: Tables) -> None:
    endpoint = await tables.endpoint()
    await tables.owe(endpoint)
    [claimed] = await tables.claim()
    assert await tables.due() == []
    await claims.complete(tables.pool, [Completion(claimed.id, claimed.token, BAD, 0.0)])
    assert await tables.due() == [endpoint], "its retry is due sooner than its claim would have lapsed"


async def test_a_paused_endpoint_sleeps_until_it_is_active_again(tables: Tables) -> None:
    endpoint = await tables.endpoint(state=webhook_pb2.ENDPOINT_STATE_PAUSED)
    await tables.owe(endpoint)
    assert await tables.claim() == []
    assert await tables.due() == []
    await tables.pool.execute("UPDATE webhook_endpoint SET state = 1 WHERE id = $1", endpoint)
    assert len(await tables.claim()) == 1


async def test_an_endpoint_over_its_rate_sleeps_until_it_may_have_one_more(tables: Tables) -> None:
    endpoint = await tables.endpoint(rate_per_second=1)
    await tables.owe(endpoint, 2)
    assert len(await tables.claim()) == 1
    await tables.claim()
    wait = await tables.pool.fetchval("SELECT due_at - clock_timestamp() FROM webhook_queue")
    assert timedelta() < wait <= timedelta(seconds=1)


async def test_retries_have_at_most_their_share_and_first_attempts_the_rest(tables: Tables) -> None:
    endpoint = await tables.endpoint()
    retried = await tables.owe(endpoint, 5)
    await tables.pool.execute("UPDATE webhook_delivery SET tries = 1")
    fresh = await tables.owe(endpoint, 5)
    claimed = {one.id for one in await tables.claim(most=4, retries=1)}
    assert (len(claimed & {*retried}), len(claimed & {*fresh})) == (1, 3)


async def test_deliveries_that_are_not_queued_are_found_again(tables: Tables) -> None:
    endpoint = await tables.endpoint()
    await tables.owe(endpoint)
    await tables.pool.execute("DELETE FROM webhook_queue")
    assert await tables.due() == []
    await maintenance.repair_queue(tables.pool)
    assert await tables.due() == [endpoint]


async def test_a_deleted_endpoints_deliveries_go_in_bounded_steps_and_are_looked_for_once_more(
    tables: Tables,
) -> None:
    endpoint = await tables.endpoint()
    await tables.owe(endpoint, 3)
    await tables.pool.execute("DELETE FROM webhook_endpoint")
    assert await maintenance.clear_leaving(tables.pool) == 3
    assert await maintenance.clear_leaving(tables.pool) == 0
    await tables.owe(endpoint)  # by a fan-out that had not heard
    await tables.pool.execute("UPDATE webhook_leaving SET check_at = now()")
    assert await maintenance.clear_leaving(tables.pool) == 1
    assert await maintenance.clear_leaving(tables.pool) == 0
    assert await tables.pool.fetchval("SELECT count(*) FROM webhook_leaving") == 0


async def set_clock_back(tables: Tables, hours: int) -> None:
    """As if the clock had been so far ahead until now."""
    await tables.pool.execute("UPDATE webhook_clock SET latest = now() + make_interval(hours => $1)", hours)


async def test_a_first_attempt_does_not_wait_for_a_clock_that_was_set_back(
    tables: Tables, settings: WebhookSettings
) -> None:
    endpoint = await tables.endpoint()
    await tables.owe(endpoint)
    await tables.pool.execute("UPDATE webhook_delivery SET due_at = now() + interval '5 hours'")
    await tables.pool.execute("UPDATE webhook_queue SET due_at = now() + interval '5 hours', awake = false")
    await set_clock_back(tables, 5)
    assert not await tables.claim()
    assert await clock.mend(tables.pool, settings)
    assert len(await tables.claim()) == 1
    assert not await clock.mend(tables.pool, settings), "the time was noted"


async def test_a_retry_waits_its_whole_wait_at_most_when_the_clock_was_set_back(
    tables: Tables, settings: WebhookSettings
) -> None:
    [owed_delivery] = await tables.owe(await tables.endpoint())
    await tables.pool.execute("UPDATE webhook_delivery SET tries = 1, due_at = now() + interval '9 hours'")
    await set_clock_back(tables, 9)
    await clock.mend(tables.pool, settings)
    wait = await tables.pool.fetchval(
        "SELECT due_at - now() FROM webhook_delivery WHERE id = $1", owed_delivery
    )
    assert timedelta(seconds=3600) < wait <= timedelta(seconds=3600 * 1.2)


async def test_holds_and_rates_do_not_wait_for_a_clock_that_was_set_back(
    tables: Tables, settings: WebhookSettings
) -> None:
    endpoint = await tables.endpoint(rate_per_second=5)
    await tables.owe(endpoint)
    await tables.pool.execute(
        "UPDATE webhook_health SET hold_until = now() + interval '5 hours',"
        " paced_until = now() + interval '5 hours'"
    )
    assert not await tables.claim()
    await set_clock_back(tables, 6)
    await clock.mend(tables.pool, settings)
    assert len(await tables.claim()) == 1


async def test_what_waits_is_counted_and_a_standstill_is_timed(tables: Tables) -> None:
    await tables.owe(await tables.endpoint(), 2)
    await owe_event(tables)
    await tables.pool.execute("UPDATE webhook_queue SET due_at = now() - interval '1 minute'")
    await tables.pool.execute(
        "INSERT INTO event (id, seq, tenant, account, epoch, type, body)"
        " VALUES ($1, 1, $2, $2, 1, 'a.b', '')",
        new_uuid(),
        tables.tenant,
    )
    standstill = Standstill()
    await backlog.look(tables.pool, standstill)
    first = time.monotonic()
    await backlog.look(tables.pool, standstill)
    seen = [gauge.value for gauge in (backlog.PENDING, backlog.OWED)]
    assert seen == [2, 1]
    assert 60 <= (backlog.OLDEST_DUE.value or 0) < 120
    assert 0 < (backlog.STANDSTILL.value or 0) < time.monotonic() - first + 1
    await tables.pool.execute("UPDATE webhook_reader SET xid = pg_snapshot_xmax(pg_current_snapshot())")
    await backlog.look(tables.pool, standstill)
    assert backlog.STANDSTILL.value == 0


@pytest.mark.parametrize("due", ["infinity", "-infinity", "294276-01-01", "4713-01-01 BC"])
async def test_due_times_that_no_program_can_read_stop_neither_claims_nor_gauges(
    tables: Tables, settings: WebhookSettings, due: str
) -> None:
    odd, sound = await endpoints(tables, 2)
    await tables.owe(odd)
    await tables.pool.execute("UPDATE webhook_delivery SET due_at = $1::text::timestamptz", due)
    await tables.pool.execute("UPDATE webhook_queue SET due_at = $1::text::timestamptz, awake = true", due)
    [delivery] = await tables.owe(sound)
    assert delivery in [one.id for one in await tables.claim()]
    await backlog.look(tables.pool, Standstill())
    await set_clock_back(tables, 1)
    await clock.mend(tables.pool, settings)


async def revision(tables: Tables) -> int:
    return int(await tables.pool.fetchval("SELECT revision FROM webhook_revision"))


async def test_the_release_before_learns_of_changes_and_what_it_makes_and_retries_is_queued(
    tables: Tables,
) -> None:
    """Both run beside each other while one replaces the other."""
    before = await revision(tables)
    endpoint = await tables.endpoint()
    known = await revision(tables)
    assert known > before
    event = [[new_uuid()], [endpoint], [tables.tenant], [None], [new_uuid()], ["a.b"], [b"{}"], [""]]
    answer = await tables.pool.fetchval(
        "SELECT webhook_fan_out('fan-out', 1, '0', 0, '5', 1, $1, $2, $3, $4, $5, $6, $7, $8, $9)",
        known,
        *event,
    )
    assert answer == "done"
    token = new_uuid()
    [claimed] = await tables.pool.fetch(
        "SELECT * FROM webhook_claim($1, '1 minute', 9, 9, '{}', '{}')", token
    )
    assert await tables.claim() == [], "the release before has it"
    await claims.complete(tables.pool, [Completion(claimed["id"], token, BAD, 0.0)])
    assert [one.id for one in await tables.claim()] == [claimed["id"]]


async def test_what_others_are_owed_costs_a_completion_nothing(tables: Tables, neighbour: Tables) -> None:
    """Its plan is made while little is pending, and kept when much is."""
    endpoint, crowded = await tables.endpoint(), await neighbour.endpoint()
    await tables.owe(endpoint, 300)
    await tables.pool.execute("UPDATE webhook_delivery SET state = 2")
    await tables.pool.execute("VACUUM ANALYZE webhook_delivery")
    await tables.owe(endpoint, 12)
    claimed = await tables.claim()
    async with tables.pool.acquire() as connection:
        for one in claimed[:-1]:
            await complete(connection, Completion(one.id, one.token, OK, None))
        await neighbour.owe(crowded, 1000)
        async with connection.transaction():
            looked_at = await connection.fetchval(_LOOKED_AT)
            await complete(connection, Completion(claimed[-1].id, claimed[-1].token, OK, None))
            assert await connection.fetchval(_LOOKED_AT) - looked_at < 10


async def test_what_others_are_owed_costs_a_claim_nothing(tables: Tables, neighbour: Tables) -> None:
    endpoint, *crowded = await tables.endpoint(), *await endpoints(neighbour, 20)
    await tables.pool.execute("VACUUM ANALYZE webhook_delivery")
    await tables.owe(endpoint, 12)
    async with tables.pool.acquire() as connection:
        asked: Any = connection
        for _ in range(11):
            assert len(await claims.take(asked, 60, {endpoint: Share(1, 1)})) == 1
        for one in crowded:
            await neighbour.owe(one, 50)
        async with connection.transaction():
            looked_at = await connection.fetchval(_LOOKED_AT)
            assert len(await claims.take(asked, 60, {endpoint: Share(1, 1)})) == 1
            assert await connection.fetchval(_LOOKED_AT) - looked_at < 30


async def complete(connection: Any, completion: Completion) -> None:
    assert await claims.complete(connection, [completion]) == {completion.delivery}


_LOOKED_AT = """SELECT coalesce(sum(idx_tup_fetch + seq_tup_read), 0) FROM pg_stat_xact_user_tables
  WHERE relname = 'webhook_delivery'"""
