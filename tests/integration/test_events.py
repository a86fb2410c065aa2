"""Readers never skip an event and never see one out of order, whatever writers do."""

from __future__ import annotations

import asyncio
import os
import random
import struct
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime

import pytest

from mesh_core.database import Database, ForeignDatabase, adopt
from mesh_core.database.partitions import drop_partition
from mesh_core.errors import OutOfRange
from mesh_core.events import Cursor, EventListener, EventReader, Notifier, StoredEvent
from mesh_core.events.notify import CHANNEL
from mesh_core.events.reader import PAGE_BYTES
from mesh_core.ids import new_uuid
from mesh_core.settings import DatabaseSettings
from mesh_session_node.journal.outcomes import Committed
from tests.support.eventually import eventually
from tests.support.journal_world import World, event, open_world

INSERT = """INSERT INTO event (id, seq, tenant, account, epoch, type, body)
  SELECT id, seq, $1, $1, 1, 'test.event', body
  FROM unnest($2::uuid[], $3::bytea[]) WITH ORDINALITY AS e(id, body, seq)"""


@pytest.fixture
async def world(postgres_url: str) -> AsyncIterator[World]:
    async with open_world(postgres_url) as opened:
        yield opened


@pytest.fixture
async def listener(world: World) -> AsyncIterator[EventListener]:
    made = EventListener(world.database)
    task = asyncio.create_task(made.run(), name="listener")
    yield made
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


@pytest.fixture
async def reader(world: World, listener: EventListener) -> EventReader:
    return await EventReader.open(world.database, listener)


async def readable(world: World) -> None:
    """Returns once readers may see all events: no transaction of the whole server, not even one that drops
    another test's database, is older than they.
    """
    hidden = "SELECT count(*) FROM event WHERE xid >= pg_snapshot_xmin(pg_current_snapshot())"

    async def none_hidden() -> bool:
        return bool(await world.value(hidden) == 0)

    await eventually(none_hidden)


async def test_events_come_in_the_order_of_their_batch(world: World, reader: EventReader) -> None:
    journal = await world.journal("a")
    account = await world.account("a")
    events = [event(f"test.{n}", bytes([n])) for n in range(5)]
    await journal.write(account, *events)
    await readable(world)
    page = await reader.read(await reader.oldest())
    assert [(e.id, e.type, e.body) for e in page.events] == [(e.id, e.type, e.body) for e in events]
    assert {(e.tenant, e.account) for e in page.events} == {(account.tenant, account.uuid)}
    assert abs((page.events[0].commit_time - datetime.now(UTC)).total_seconds()) < 60
    assert page.complete


async def test_reading_goes_on_behind_any_event(world: World, reader: EventReader) -> None:
    journal = await world.journal("a")
    account = await world.account("a")
    for _ in range(2):
        await journal.write(account, event(), event(), event())
    await readable(world)
    everything = (await reader.read(await reader.oldest())).events
    for at, one in enumerate(everything):
        rest = await reader.read(Cursor.decode(one.cursor.encode()))
        assert [e.id for e in rest.events] == [e.id for e in everything[at + 1 :]]
    page = await reader.read(await reader.oldest(), 4)
    assert ([e.id for e in page.events], page.complete) == ([e.id for e in everything[:4]], False)


async def test_a_page_ends_where_bodies_become_many_bytes_and_nothing_is_missed(
    world: World, reader: EventReader
) -> None:
    journal = await world.journal("a")
    account = await world.account("a")
    large = os.urandom(PAGE_BYTES // 4 + 1)
    written = [
        event(body=body) for body in (b"1", large, large, large, large, b"6", bytes(2 * PAGE_BYTES), b"8")
    ]
    for one in written:  # a commit of many megabytes takes longer than it may on a busy machine
        assert isinstance(await journal.write(account, one), Committed)
    await readable(world)
    cursor, pages, complete = await reader.oldest(), [], False
    while not complete:
        page = await reader.read(cursor)
        pages.append([e.id for e in page.events])
        cursor, complete = page.cursor, page.complete
    ids = [e.id for e in written]
    assert pages == [ids[:5], ids[5:7], ids[7:]]


async def test_one_tenants_events(world: World, reader: EventReader) -> None:
    journal = await world.journal("a")
    one, other = await world.account("a", 1), await world.account("a", 2)
    for account in (one, other, one):
        await journal.write(account, event())
    await readable(world)
    page = await reader.read(await reader.oldest(), tenant=one.tenant)
    assert [e.account for e in page.events] == [one.uuid, one.uuid]
    # nothing of the other tenant's is looked at again
    assert page.cursor == (await reader.read(page.cursor, tenant=other.tenant)).cursor


async def test_an_event_is_not_read_past_one_that_may_still_come(world: World, reader: EventReader) -> None:
    start = await reader.oldest()
    async with world.database.pool.acquire() as early, world.database.pool.acquire() as late:
        transaction = early.transaction()
        await transaction.start()
        await early.execute(INSERT, new_uuid(), [new_uuid()], [b"early"])
        await late.execute(INSERT, new_uuid(), [new_uuid()], [b"late"])
        held_back = await reader.read(start)
        assert held_back.events == []
        await transaction.commit()
    page = await reader.read(held_back.cursor)
    assert [e.body for e in page.events] == [b"early", b"late"]


async def test_a_follower_hears_of_events_that_a_transaction_hid_when_they_were_announced(
    world: World, reader: EventReader
) -> None:
    journal = await world.journal("a")
    account = await world.account("a")
    pages = reader.follow(await reader.latest())
    async with world.database.pool.acquire() as early:
        transaction = early.transaction()
        await transaction.start()
        await early.execute("SELECT pg_current_xact_id()")
        await journal.write(account, event())
        await world.database.pool.execute(f"NOTIFY {CHANNEL}")
        assert (await anext(pages)).events == []
        await transaction.commit()
    async with asyncio.timeout(5):
        while not (page := await anext(pages)).events:
            pass
    assert len(page.events) == 1
    await pages.aclose()


async def test_no_event_is_skipped_or_out_of_order_under_concurrent_writers(
    world: World, reader: EventReader
) -> None:
    writers, total = 8, 20_000
    written = 0
    seen: dict[int, int] = {}
    last = Cursor(0, 0, 0)
    done = asyncio.Event()

    async def write(writer: int) -> None:
        nonlocal written
        mine = 0
        connection = await world.database.connect_direct()
        while written < total:
            size = random.choice((1, 7, 40, 200))
            written += size
            bodies = [struct.pack(">IQ", writer, mine + n) for n in range(size)]
            mine += size
            async with connection.transaction():  # commits come out of the order of the transaction ids
                await connection.execute(INSERT, new_uuid(), [new_uuid() for _ in bodies], bodies)
                if random.random() < 0.2:
                    await connection.execute("SELECT pg_sleep($1)", random.choice((0.001, 0.02, 0.1)))
        await connection.close()

    async def stand_in_the_way() -> None:
        connection = await world.database.connect_direct()
        while not done.is_set():
            async with connection.transaction():
                await connection.execute("SELECT pg_current_xact_id(), pg_sleep(0.3)")
        await connection.close()

    def check(events: list[StoredEvent]) -> None:
        nonlocal last
        for one in events:
            assert one.cursor > last
            last = one.cursor
            writer, number = struct.unpack(">IQ", one.body)
            assert number == seen.get(writer, 0)
            seen[writer] = number + 1

    async def follow() -> None:
        async for page in reader.follow(await reader.oldest()):
            check(page.events)
            if done.is_set() and sum(seen.values()) == written:
                return

    following = asyncio.create_task(follow())
    in_the_way = asyncio.create_task(stand_in_the_way())
    await asyncio.gather(*[write(n) for n in range(writers)])
    done.set()
    async with asyncio.timeout(30):
        await asyncio.gather(following, in_the_way)
    assert sum(seen.values()) == written == await world.count("event")


async def test_commits_are_announced_together(world: World, listener: EventListener) -> None:
    notifier = Notifier(world.database, every=0.05)
    task = asyncio.create_task(notifier.run())
    seen = listener.heard.version
    for _ in range(100):
        notifier.wake()
    async with asyncio.timeout(5):
        await listener.heard.wait(seen)
    assert notifier.sent <= 2
    task.cancel()


async def test_a_lost_listener_listens_again(world: World, listener: EventListener) -> None:
    listening = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'"
    await eventually(lambda: world.value(listening))
    await world.value(f"SELECT pg_terminate_backend(pid) FROM ({listening})")
    await eventually(lambda: world.value(f"SELECT ({listening}) IS NULL"))
    await eventually(lambda: world.value(listening))
    seen = listener.heard.version
    await world.database.pool.execute(f"NOTIFY {CHANNEL}")
    async with asyncio.timeout(5):
        await listener.heard.wait(seen)


class TestRange:
    async def test_a_cursor_of_now_and_the_oldest_are_valid(self, reader: EventReader) -> None:
        await reader.check(await reader.latest())
        await reader.check(await reader.oldest())

    async def test_a_cursor_of_the_future_is_refused(self, reader: EventReader) -> None:
        latest = await reader.latest()
        for cursor in (Cursor(1, latest.xid + 1_000_000, 0), Cursor(2, 0, 0)):
            with pytest.raises(OutOfRange, match="future") as refusal:
                await reader.check(cursor)
            assert refusal.value.reason == "CURSOR_OUT_OF_RANGE"

    async def test_a_cursor_before_dropped_events_is_refused_with_the_oldest_valid_one(
        self, world: World, reader: EventReader
    ) -> None:
        journal = await world.journal("a")
        account = await world.account("a")
        before = await reader.oldest()
        await journal.write(account, event(), event())
        await readable(world)
        [first, second] = (await reader.read(before)).events
        async with world.database.pool.acquire() as connection:
            today = datetime.fromtimestamp((second.id.int >> 80) / 1000, UTC).date()
            assert await drop_partition(connection, "event", today)
        for expired in (before, first.cursor):
            with pytest.raises(OutOfRange, match="expired") as refusal:
                await reader.check(expired)
            oldest = Cursor.decode(refusal.value.metadata["oldest_cursor"])
            assert oldest == second.cursor
        await reader.check(second.cursor)

    async def test_an_adopted_database_keeps_its_events_in_order_and_expires_old_cursors(
        self, world: World, reader: EventReader, listener: EventListener
    ) -> None:
        journal = await world.journal("a")
        account = await world.account("a")
        for n in range(6):
            await journal.write(account, event(body=bytes([n])))
        await readable(world)
        old = (await reader.read(await reader.oldest())).events[2].cursor
        await world.database.pool.execute("UPDATE cluster_identity SET system_identifier = 42")
        await world.database.pool.execute("UPDATE event SET xid = (xid::text::bigint + 1000000)::text::xid8")
        with pytest.raises(ForeignDatabase):
            await EventReader.open(world.database, listener)
        await adopt(world.database, ())
        adopted = await EventReader.open(world.database, listener)
        later = await world.journal("b")  # whoever ran before has expired
        await later.write(await world.account("b"), event(body=b"\x06"))
        await readable(world)
        page = await adopted.read(await adopted.oldest())
        assert [e.body[0] for e in page.events] == [0, 1, 2, 3, 4, 5, 6]
        with pytest.raises(OutOfRange, match="expired"):
            await adopted.check(old)


async def test_a_reader_works_behind_a_bouncer(postgres_url: str) -> None:
    database = await Database.open(DatabaseSettings(url=postgres_url, pgbouncer=True))
    reader = await EventReader.open(database, EventListener(database))
    assert (await reader.read(await reader.oldest())).complete
    await database.close()
