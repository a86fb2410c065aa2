"""How long media are kept: by what refers to them, by the rules of their tenant, and within its limits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from itertools import product
from typing import Any

import asyncpg
import pytest
from asyncpg.pgproto.pgproto import UUID

from mesh_core.database import Database
from mesh_core.ids import new_uuid
from mesh_core.settings import DatabaseSettings
from mesh_media.repository import expiry_repository, limit_repository
from mesh_media.repository.expiry_repository import ExpiryRepository
from mesh_media.repository.limit_repository import Limit, LimitRepository
from mesh_media.repository.object_repository import ObjectRepository
from mesh_media.repository.references import delete_media
from mesh_media.repository.references import refer as refer_to_objects
from mesh_media.repository.rows import NewObject
from mesh_media.repository.usage_repository import UsageRepository
from mesh_media.retention import sweeper
from mesh_media.retention.quota_watch import TENANTS, QuotaWatch
from mesh_media.retention.sweeper import Sweeper
from sessionmesh.v1 import media_pb2
from tests.support.eventually import eventually
from tests.support.media_rows import (
    DAY,
    DEFAULT,
    NETWORK,
    RECEIVED,
    SENT,
    UPLOAD,
    add_media,
    days_left,
    exists,
    refer,
    set_rule,
)
from tests.support.old_days import id_of


@pytest.fixture
async def database(postgres_url: str) -> AsyncIterator[Database]:
    opened = await Database.open(DatabaseSettings(url=postgres_url, pool_size=4))
    yield opened
    await opened.close()


@pytest.fixture
def pool(database: Database) -> asyncpg.Pool:
    return database.pool


@pytest.fixture
def expiry(database: Database) -> ExpiryRepository:
    return ExpiryRepository(database, timedelta())


@pytest.fixture
def tenant() -> UUID:
    return new_uuid()


def sweeping(database: Database) -> Sweeper:
    """A sweeper whose store is not asked for anything."""
    store: Any = None
    return Sweeper(
        ExpiryRepository(database, timedelta()),
        ObjectRepository(database),
        store,
        interval_seconds=1.0,
        usage=UsageRepository(database),
        limits=LimitRepository(database, timedelta()),
    )


async def swept(expiry: ExpiryRepository) -> int:
    """How many files went, once nothing is due."""
    gone = 0
    while (batch := await expiry.delete_due()).seen:
        gone += batch.deleted
    return gone


async def left(pool: asyncpg.Pool, media: UUID) -> int | None:
    """Whole days, rounded."""
    days = await days_left(pool, media)
    return None if days is None else round(days)


class TestWhatNothingRefersTo:
    async def test_stays_when_it_was_uploaded(self, pool: asyncpg.Pool, tenant: UUID) -> None:
        assert await left(pool, await add_media(pool, tenant, age=100 * DAY)) is None

    async def test_is_kept_as_received_when_it_came_from_the_network(
        self, pool: asyncpg.Pool, tenant: UUID
    ) -> None:
        assert await left(pool, await add_media(pool, tenant, origin=NETWORK, age=10 * DAY)) == 20

    async def test_is_kept_as_long_as_its_upload_asked_instead_of_the_rule(
        self, pool: asyncpg.Pool, tenant: UUID
    ) -> None:
        await set_rule(pool, tenant, DEFAULT, 90 * DAY)
        assert await left(pool, await add_media(pool, tenant, keep_for=3 * DAY)) == 3
        assert await left(pool, await add_media(pool, tenant)) == 90


class TestReferences:
    async def test_decide_by_the_rule_that_is_longest(self, pool: asyncpg.Pool, tenant: UUID) -> None:
        await set_rule(pool, tenant, SENT, 5 * DAY)
        media = await add_media(pool, tenant)
        await refer(pool, media, SENT)
        assert await left(pool, media) == 5
        await refer(pool, media, RECEIVED, age=10 * DAY)
        assert await left(pool, media) == 20

    async def test_of_a_category_without_a_rule_keep_for_ever(self, pool: asyncpg.Pool, tenant: UUID) -> None:
        media = await add_media(pool, tenant)
        await refer(pool, media, RECEIVED)
        await refer(pool, media, SENT)
        assert await left(pool, media) is None

    async def test_keep_at_least_what_the_upload_asked_for(self, pool: asyncpg.Pool, tenant: UUID) -> None:
        media = await add_media(pool, tenant, keep_for=50 * DAY)
        await refer(pool, media, RECEIVED)
        assert await left(pool, media) == 50

    async def test_are_kept_not_at_all_where_the_rule_says_so(
        self, pool: asyncpg.Pool, expiry: ExpiryRepository, tenant: UUID
    ) -> None:
        await set_rule(pool, tenant, RECEIVED, timedelta())
        media = await add_media(pool, tenant, origin=NETWORK)
        await refer(pool, media, RECEIVED)
        assert await swept(expiry) == 1
        assert not await exists(pool, media)


class TestTheSweep:
    async def test_deletes_what_is_due_with_its_object_and_nothing_else(
        self, pool: asyncpg.Pool, expiry: ExpiryRepository, tenant: UUID
    ) -> None:
        due, kept = [await add_media(pool, tenant, origin=NETWORK, age=days * DAY) for days in (31, 29)]
        assert await swept(expiry) == 1
        assert not await exists(pool, due)
        assert await exists(pool, kept)
        loose = await pool.fetch("SELECT key FROM media_loose_object WHERE tenant = $1", tenant)
        assert [row["key"] for row in loose] == [f"{tenant.hex}/{due.hex}"]

    async def test_looks_again_before_it_deletes(
        self, pool: asyncpg.Pool, expiry: ExpiryRepository, tenant: UUID
    ) -> None:
        media = await add_media(pool, tenant, origin=NETWORK)
        await pool.execute("UPDATE media SET expire_time = now() - interval '1 day' WHERE id = $1", media)
        assert await swept(expiry) == 0
        assert await left(pool, media) == 30

    async def test_keeps_what_has_an_end_to_come(
        self, pool: asyncpg.Pool, expiry: ExpiryRepository, tenant: UUID
    ) -> None:
        await set_rule(pool, tenant, SENT, 5 * DAY)
        for origin, keep_for, days in product((UPLOAD, NETWORK), (None, DAY, 40 * DAY), (2, 35)):
            for references in (
                (),
                ((RECEIVED, 20),),
                ((RECEIVED, 31),),
                ((SENT, 6), (RECEIVED, 40)),
                ((SENT, 4),),
            ):
                media = await add_media(pool, tenant, origin=origin, keep_for=keep_for, age=days * DAY)
                for category, age in references:
                    await refer(pool, media, category, age=age * DAY)
        to_come = await pool.fetch("SELECT id FROM media m WHERE coalesce(media_end(m), 'infinity') > now()")
        await pool.execute("UPDATE media SET expire_time = now()")
        await swept(expiry)
        left = await pool.fetch("SELECT id FROM media")
        assert {row["id"] for row in left} == {row["id"] for row in to_come}
        assert 0 < len(left) < 60

    async def test_waits_for_a_message_that_is_being_stored_and_refers_to_the_file(
        self, pool: asyncpg.Pool, expiry: ExpiryRepository, tenant: UUID
    ) -> None:
        media = await add_media(pool, tenant, origin=NETWORK, age=31 * DAY)
        async with pool.acquire() as other, other.transaction():
            await refer(other, media, RECEIVED)
            assert (await expiry.delete_due()).seen == 0
        assert await swept(expiry) == 0
        assert await left(pool, media) == 30

    async def test_of_two_replicas_deletes_each_file_once(
        self, pool: asyncpg.Pool, expiry: ExpiryRepository, tenant: UUID, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(expiry_repository, "BATCH", 3)
        for _ in range(20):
            await add_media(pool, tenant, origin=NETWORK, age=31 * DAY)
        assert sum(await asyncio.gather(swept(expiry), swept(expiry), swept(expiry))) == 20
        assert await pool.fetchval("SELECT count(*) FROM media_loose_object") == 20
        assert await pool.fetchval("SELECT sum(bytes) FROM media_total WHERE tenant = $1", tenant) == 0


class TestChangedRules:
    async def test_hold_for_files_that_are_stored_in_batches(
        self, pool: asyncpg.Pool, expiry: ExpiryRepository, tenant: UUID, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(expiry_repository, "BATCH", 2)
        media = [await add_media(pool, tenant) for _ in range(5)]
        await set_rule(pool, tenant, DEFAULT, 7 * DAY)
        await pool.execute("INSERT INTO media_policy (tenant, settled_until) VALUES ($1, $2)", tenant, _FIRST)
        while await expiry.settle_policies():
            pass
        assert [await left(pool, each) for each in media] == [7] * 5

    async def test_go_on_where_a_process_stopped(
        self, pool: asyncpg.Pool, expiry: ExpiryRepository, tenant: UUID, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(expiry_repository, "BATCH", 2)
        media = [await add_media(pool, tenant) for _ in range(3)]
        await set_rule(pool, tenant, DEFAULT, 7 * DAY)
        await pool.execute("INSERT INTO media_policy (tenant, settled_until) VALUES ($1, $2)", tenant, _FIRST)
        assert await expiry.settle_policies()
        assert await pool.fetchval("SELECT settled_until FROM media_policy") == media[1]
        assert [await left(pool, each) for each in media] == [7, 7, None]

    async def test_of_one_tenant_hold_up_no_other_ones(
        self, pool: asyncpg.Pool, expiry: ExpiryRepository, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(expiry_repository, "BATCH", 1)
        many, few = sorted((new_uuid(), new_uuid()), key=lambda tenant: tenant.bytes)
        for _ in range(3):
            await add_media(pool, many)
        media = await add_media(pool, few)
        for tenant in (many, few):
            await set_rule(pool, tenant, DEFAULT, 7 * DAY)
            await pool.execute(
                "INSERT INTO media_policy (tenant, settled_until) VALUES ($1, $2)", tenant, _FIRST
            )
        await expiry.settle_policies()
        await expiry.settle_policies()
        assert await left(pool, media) == 7


async def equal_media(pool: asyncpg.Pool, media: UUID) -> UUID:
    """Another one with the same bytes, which it shares."""
    copy = new_uuid()
    await pool.execute(
        "INSERT INTO media (id, tenant, mime_type, sha256, original_size, original_sha256, unprocessed,"
        " origin) SELECT $2, tenant, mime_type, sha256, original_size, original_sha256, unprocessed, origin"
        " FROM media WHERE id = $1",
        media,
        copy,
    )
    await pool.execute(
        "UPDATE media_object o SET media = o.media + 1 FROM media m"
        " WHERE m.id = $1 AND o.tenant = m.tenant AND o.sha256 = m.sha256",
        media,
    )
    return copy


class TestLimits:
    async def test_of_a_category_let_the_oldest_go_first(
        self, pool: asyncpg.Pool, database: Database, tenant: UUID
    ) -> None:
        await set_rule(pool, tenant, RECEIVED, 30 * DAY, max_bytes=25)
        media = [await add_media(pool, tenant, origin=NETWORK) for _ in range(4)]
        for days, each in enumerate(media):
            await refer(pool, each, RECEIVED, age=days * DAY, message=new_uuid())
        await sweeping(database).make_room()
        assert [await exists(pool, each) for each in media] == [True, True, False, False]

    async def test_let_no_more_go_than_is_too_much_in_however_many_batches(
        self, database: Database, pool: asyncpg.Pool, tenant: UUID, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sweeper, "BATCH", 2)
        monkeypatch.setattr(sweeper, "MOST", 3)
        monkeypatch.setattr(limit_repository, "MOST", 3)
        media = [await add_media(pool, tenant) for _ in range(9)]
        await set_rule(pool, tenant, DEFAULT, max_bytes=40)
        await sweeping(database).make_room()
        assert [await exists(pool, each) for each in media] == [False] * 5 + [True] * 4

    async def test_are_held_by_one_replica_at_a_time(self, database: Database) -> None:
        limits = LimitRepository(database, timedelta())
        async with limits.look() as one, limits.look() as other:
            assert one is not None
            assert other is None

    async def test_are_looked_at_some_at_a_time_where_a_tenant_may_have_passed_them(
        self, database: Database, pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(limit_repository, "PAGE", 2)
        full, small = [new_uuid() for _ in range(3)], new_uuid()
        for each in (*full, small):
            await add_media(pool, each, size=30)
            await set_rule(pool, each, DEFAULT, max_bytes=100 if each == small else 20)
            await set_rule(pool, each, SENT, max_bytes=1)
        async with LimitRepository(database, timedelta()).look() as look:
            assert look is not None
            found = [limit async for limit in look.limits()]
        expected = [Limit(each, category, size) for each in full for category, size in ((1, 20), (3, 1))]
        assert found == [*expected, Limit(small, SENT, 1)]

    async def test_count_what_equal_files_share_once(
        self, pool: asyncpg.Pool, database: Database, tenant: UUID
    ) -> None:
        shared = await add_media(pool, tenant)
        copies = [await equal_media(pool, shared) for _ in range(5)]
        other = await add_media(pool, tenant)
        await set_rule(pool, tenant, DEFAULT, max_bytes=20)
        await sweeping(database).make_room()
        assert all([await exists(pool, each) for each in (shared, *copies, other)])

    async def test_let_equal_files_go_together_when_the_newest_is_the_oldest_there_is(
        self, pool: asyncpg.Pool, database: Database, tenant: UUID
    ) -> None:
        shared = await add_media(pool, tenant)
        between = await add_media(pool, tenant)
        copy = await equal_media(pool, shared)
        last = await add_media(pool, tenant)
        await set_rule(pool, tenant, DEFAULT, max_bytes=20)
        await sweeping(database).make_room()
        assert [await exists(pool, each) for each in (shared, between, copy, last)] == [
            True,
            False,
            True,
            True,
        ]
        await set_rule(pool, tenant, DEFAULT, max_bytes=10)
        await sweeping(database).make_room()
        assert [await exists(pool, each) for each in (shared, between, copy, last)] == [False] * 3 + [True]

    async def test_let_nothing_go_that_a_message_refers_to_since_it_was_looked_at(
        self, pool: asyncpg.Pool, database: Database, tenant: UUID
    ) -> None:
        await set_rule(pool, tenant, SENT, max_bytes=5)
        media = await add_media(pool, tenant)
        await refer(pool, media, SENT)
        limits = LimitRepository(database, timedelta())
        async with limits.look() as look:
            assert look is not None
            [limit] = [limit async for limit in look.limits()]
            found = await look.too_much(limit)
        assert [*found.media] == [media]
        later = await pool.fetchval("SELECT now() + interval '1 minute'")
        await refer(pool, media, SENT, message=id_of(later))
        assert (await limits.evict(limit, found.time, found.media)).deleted == 0
        assert await exists(pool, media)

    async def test_leave_a_file_that_something_else_keeps(
        self, pool: asyncpg.Pool, database: Database, tenant: UUID
    ) -> None:
        await set_rule(pool, tenant, RECEIVED, 30 * DAY, max_bytes=5)
        media = await add_media(pool, tenant)
        await refer(pool, media, RECEIVED)
        await refer(pool, media, SENT)
        await sweeping(database).make_room()
        assert await exists(pool, media)
        assert await pool.fetchval("SELECT array_agg(category) FROM media_reference") == [SENT]

    async def test_leave_what_its_upload_asked_to_keep(
        self, pool: asyncpg.Pool, database: Database, tenant: UUID
    ) -> None:
        await set_rule(pool, tenant, DEFAULT, max_bytes=5)
        kept, other = await add_media(pool, tenant, keep_for=DAY), await add_media(pool, tenant)
        await sweeping(database).make_room()
        assert await exists(pool, kept)
        assert not await exists(pool, other)

    async def test_of_a_tenant_let_go_what_would_go_anyway(
        self, pool: asyncpg.Pool, database: Database, tenant: UUID
    ) -> None:
        for_ever = await add_media(pool, tenant)
        media = [await add_media(pool, tenant, origin=NETWORK) for _ in range(3)]
        await pool.execute("""UPDATE tenant SET settings = '{"max_media_bytes": 25}' WHERE id = $1""", tenant)
        await sweeping(database).make_room()
        assert [await exists(pool, each) for each in (for_ever, *media)] == [True, False, False, True]

    async def test_of_a_tenant_leave_what_is_kept_for_ever_by_now(
        self, pool: asyncpg.Pool, database: Database, tenant: UUID
    ) -> None:
        media = await add_media(pool, tenant)
        await pool.execute("UPDATE media SET expire_time = now() + interval '9 days' WHERE id = $1", media)
        await pool.execute("""UPDATE tenant SET settings = '{"max_media_bytes": 5}' WHERE id = $1""", tenant)
        await sweeping(database).make_room()
        assert await exists(pool, media)


class TestReferencesThatChangeAtOnce:
    async def test_let_a_file_go_that_each_took_for_kept_by_the_other(
        self, pool: asyncpg.Pool, expiry: ExpiryRepository, tenant: UUID
    ) -> None:
        media = await add_media(pool, tenant)
        messages = [await refer(pool, media, SENT) for _ in range(2)]
        async with (
            pool.acquire() as one,
            pool.acquire() as other,
            one.transaction(),
            other.transaction(),
        ):
            for connection, message in zip((one, other), messages, strict=True):
                await take_back(connection, media, message)
        assert await left(pool, media) is None, "neither has seen what the other one did"
        assert await expiry.settle_changed()
        assert await left(pool, media) == 30
        assert not await expiry.settle_changed()

    async def test_keep_a_file_for_the_one_that_keeps_it_for_longest(
        self, pool: asyncpg.Pool, tenant: UUID
    ) -> None:
        media = await add_media(pool, tenant, origin=NETWORK)
        async with pool.acquire() as one, pool.acquire() as other:
            async with one.transaction():
                await refer(one, media, SENT)
                waiting = asyncio.create_task(refer(other, media, RECEIVED, age=-10 * DAY))
                await eventually(lambda: pool.fetchval(_WAITS), what="one that waits for the other")
            await waiting
        assert await left(pool, media) is None


async def take_back(connection: Any, media: UUID, message: UUID) -> None:
    """As session-nodes have it when a message is taken back."""
    await connection.execute(
        "UPDATE media_reference SET category = $2 WHERE message = $1",
        message,
        media_pb2.MEDIA_CATEGORY_REVOKED,
    )
    await connection.execute("SELECT media_settle(ARRAY[$1::uuid])", media)


async def test_what_failed_goes_after_a_week_unless_a_message_refers_to_it(
    pool: asyncpg.Pool, expiry: ExpiryRepository, tenant: UUID
) -> None:
    failed, referred, ready = [await add_media(pool, tenant, age=40 * DAY) for _ in range(3)]
    await refer(pool, referred, SENT)
    await pool.execute("UPDATE media SET state = 3 WHERE id = ANY ($1)", [failed, referred])
    assert [await left(pool, each) for each in (failed, referred, ready)] == [7, None, None]
    await pool.execute("UPDATE media SET keep_until = now(), expire_time = now() WHERE id = $1", failed)
    assert await swept(expiry) == 1
    assert not await exists(pool, failed)


async def test_an_object_that_is_referred_to_while_it_is_released_stays(
    pool: asyncpg.Pool, tenant: UUID
) -> None:
    media = await add_media(pool, tenant)
    key = f"{tenant.hex}/{media.hex}"
    sha256 = await pool.fetchval("SELECT sha256 FROM media WHERE id = $1", media)
    async with pool.acquire() as one, pool.acquire() as other:
        async with one.transaction():
            await refer_to_objects(one, tenant, [NewObject("other", sha256, 10, written=False)])

            async def delete() -> tuple[int, int]:
                async with other.transaction():
                    return await delete_media(other, [media], timedelta())

            waiting = asyncio.create_task(delete())
            await eventually(lambda: pool.fetchval(_WAITS), what="one that waits for the other")
        assert await waiting == (1, 10)
    assert await pool.fetchval("SELECT media FROM media_object WHERE key = $1", key) == 1
    assert not await pool.fetchval("SELECT EXISTS (SELECT FROM media_loose_object WHERE key = $1)", key)


async def test_totals_of_many_changes_are_put_together(
    pool: asyncpg.Pool, expiry: ExpiryRepository, tenant: UUID
) -> None:
    for _ in range(101):
        await add_media(pool, tenant)
    await expiry.put_totals_together()
    [row] = await pool.fetch("SELECT * FROM media_total WHERE tenant = $1", tenant)
    assert (row["objects"], row["bytes"], row["shared_bytes"]) == (101, 1010, 0)


async def test_a_tenant_whose_room_is_nearly_used_up_is_counted(
    database: Database, pool: asyncpg.Pool, tenant: UUID
) -> None:
    await add_media(pool, tenant, size=81)
    await pool.execute("""UPDATE tenant SET settings = '{"max_media_bytes": 100}' WHERE id = $1""", tenant)
    watch = QuotaWatch(ObjectRepository(database))
    await watch.look()
    assert TENANTS.value == 1
    await pool.execute("""UPDATE tenant SET settings = '{"max_media_bytes": 102}' WHERE id = $1""", tenant)
    await watch.look()
    assert TENANTS.value == 0


async def test_uploads_that_wait_for_a_tenant_hold_no_connections_of_others(
    postgres_url: str, tenant: UUID
) -> None:
    database = await Database.open(DatabaseSettings(url=postgres_url, pool_size=3))
    objects = ObjectRepository(database)
    await database.pool.execute("INSERT INTO tenant (id) VALUES ($1), ($2)", tenant, other := new_uuid())
    async with database.pool.acquire() as holder, holder.transaction():
        await holder.execute("SELECT FROM tenant WHERE id = $1 FOR UPDATE", tenant)
        waiting = [asyncio.create_task(objects.reserve(tenant, None, f"key-{n}", 1, DAY)) for n in range(10)]
        await objects.reserve(other, None, "key", 1, DAY)
        assert not any(task.done() for task in waiting)
    await asyncio.gather(*waiting)
    assert await database.pool.fetchval("SELECT count(*) FROM media_loose_object") == 11
    await database.close()


_FIRST = UUID(bytes(16))
_WAITS = """SELECT EXISTS (SELECT FROM pg_stat_activity
  WHERE datname = current_database() AND wait_event_type = 'Lock')"""
