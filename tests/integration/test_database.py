"""Connections, identity and partitions against a real Postgres."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from asyncpg.pgproto.pgproto import UUID
from asyncpg.types import ServerVersion

from mesh_core.database import (
    Adopted,
    Database,
    ForeignDatabase,
    UnsupportedServer,
    adopt,
    check_identity,
)
from mesh_core.database.identity import EPOCH_LEAP, page_token_key, stored_before_restore
from mesh_core.database.migrations import migrate
from mesh_core.database.partitions import DAYS_AHEAD, drop_partition, make_partitions
from mesh_core.database.pool import check_server
from mesh_core.database.requests import RecordKind
from mesh_core.errors import Misconfigured, StartupError
from mesh_core.ids import new_uuid
from mesh_core.settings import DatabaseSettings
from mesh_session_node.drivers.whatsapp_web.state import RATCHET_ROWS
from sessionmesh.v1.account_pb2 import DESIRED_STATE_ONLINE, DESIRED_STATE_PAUSED


@pytest.fixture
async def database(postgres_url: str) -> AsyncIterator[Database]:
    opened = await Database.open(DatabaseSettings(url=postgres_url))
    yield opened
    await opened.close()


def test_an_old_server_is_refused() -> None:
    check_server(ServerVersion(17, 0, 0, "final", 0))
    with pytest.raises(UnsupportedServer, match=r"PostgreSQL 17 or newer is needed, this server is 16\.4"):
        check_server(ServerVersion(16, 4, 0, "final", 0))


async def test_a_server_that_is_not_there_is_told_in_one_line(free_port: int) -> None:
    with pytest.raises(StartupError, match="the database cannot be used"):
        await Database.open(DatabaseSettings(url=f"postgresql://postgres@127.0.0.1:{free_port}/x"))


@pytest.mark.slow
async def test_the_server_ends_a_journal_transaction_after_a_second(database: Database) -> None:
    connection = await database.connect_journal()
    assert await connection.fetchval("SHOW transaction_timeout") == "1s"
    assert await connection.fetchval("SHOW jit") == "off"
    with pytest.raises(asyncpg.PostgresError):
        await connection.execute("SELECT pg_sleep(30)")
    connection.terminate()


async def test_behind_a_bouncer_nothing_is_prepared_or_set(postgres_url: str) -> None:
    database = await Database.open(DatabaseSettings(url=postgres_url, pgbouncer=True))
    async with database.pool.acquire() as connection:
        assert await connection.fetchval("SHOW transaction_timeout") == "0"
        for _ in range(3):
            await connection.fetchval("SELECT $1::int", 1)
        names = await connection.fetch("SELECT name FROM pg_prepared_statements")
        assert [row["name"] for row in names] == []
    await database.close()


async def test_every_process_signs_page_tokens_with_the_databases_own_secret(
    database: Database, empty_database_url: str
) -> None:
    await migrate(empty_database_url)
    other = await Database.open(DatabaseSettings(url=empty_database_url))
    key = await page_token_key(database)
    assert len(key) == 32
    assert await page_token_key(database) == key
    assert await page_token_key(other) != key
    await other.close()


async def test_a_restored_database_is_refused_until_it_is_adopted(database: Database) -> None:
    assert await check_identity(database) == 1
    await database.pool.execute("UPDATE cluster_identity SET system_identifier = 42")
    with pytest.raises(ForeignDatabase, match="mesh db adopt"):
        await check_identity(database)
    assert await adopt(database, ()) == Adopted(2, changed=True)
    assert await check_identity(database) == 2
    assert await adopt(database, ()) == Adopted(2, changed=False)


async def test_in_an_adopted_database_nobody_owns_anything_and_no_epoch_comes_again(
    database: Database,
) -> None:
    await _node_starts(database, "a-1")
    await database.pool.execute("UPDATE shard_fence SET holder = 'a-1', epoch = 7 WHERE shard = 5")
    await database.pool.execute("UPDATE cluster_identity SET system_identifier = 42")
    await adopt(database, ())
    [shard] = await database.pool.fetch("SELECT epoch, released FROM shard_fence WHERE shard = 5")
    assert (shard["epoch"], shard["released"]) == (7 + EPOCH_LEAP, True)
    assert await database.pool.fetchval("SELECT expired FROM node_incarnation")


async def test_a_copy_of_a_servers_files_is_adopted_when_it_is_said_to_be_one(database: Database) -> None:
    assert await adopt(database, ()) == Adopted(1, changed=False)
    assert await adopt(database, (), restored=True) == Adopted(2, changed=True)


async def test_until_a_node_has_used_an_adopted_database_adopting_it_again_changes_nothing(
    database: Database,
) -> None:
    await _node_starts(database, "a-1")
    assert await adopt(database, (), restored=True) == Adopted(2, changed=True)
    assert await adopt(database, (), restored=True) == Adopted(2, changed=False)
    with pytest.raises(Misconfigured, match="leave it out"):
        await adopt(database, (), restored=True, resend=True)
    assert await adopt(database, (), anew=True) == Adopted(3, changed=True)
    await _node_starts(database, "a-2")
    assert await adopt(database, (), restored=True) == Adopted(4, changed=True)


async def test_in_an_adopted_database_all_accounts_are_paused_but_those_that_were(
    database: Database,
) -> None:
    online, paused = (
        await account(database, DESIRED_STATE_ONLINE),
        await account(database, DESIRED_STATE_PAUSED),
    )
    await adopt(database, (), restored=True)
    states = await database.pool.fetch("SELECT DISTINCT desired_state AS state FROM account")
    assert [row["state"] for row in states] == [DESIRED_STATE_PAUSED]
    held = await database.pool.fetch(
        "SELECT account FROM account_record WHERE kind = $1", RecordKind.RESTORED
    )
    assert [row["account"] for row in held] == [online]
    assert paused != online


async def test_an_adopted_database_has_no_rows_that_something_could_be_encrypted_with(
    database: Database,
) -> None:
    of = await account(database, DESIRED_STATE_ONLINE)
    kept = ["login/device", "peer/49/identity/0", "senderkey/g1/50"]
    keys = [*kept, "members/g1", "peer/49/session/0", "senderkey/status@broadcast/50_1:2"]
    for key in keys:
        await database.pool.execute(
            "INSERT INTO driver_row (account, key, value) VALUES ($1, $2, '')", of, key
        )
    await database.pool.execute("INSERT INTO driver_row_count (account, rows) VALUES ($1, 6)", of)
    await adopt(database, RATCHET_ROWS, restored=True)
    left = await database.pool.fetch("SELECT key FROM driver_row ORDER BY key")
    assert [row["key"] for row in left] == kept
    assert await database.pool.fetchval("SELECT rows FROM driver_row_count") == 3


@pytest.mark.parametrize(("resend", "current"), [(False, ["later"]), (True, ["later", "waiting"])])
async def test_what_waited_is_of_the_time_before_unless_it_is_for_later_or_sent_again(
    database: Database, resend: bool, current: list[str]
) -> None:
    of = await account(database, DESIRED_STATE_ONLINE)
    for chat, due in (("waiting", "-1 hour"), ("later", "1 hour")):
        message = new_uuid()
        await database.pool.execute(
            "INSERT INTO message (id, account, epoch, direction, origin, status, chat, content)"
            " VALUES ($1, $2, 7, 1, 1, 1, $3, '')",
            message,
            of,
            chat,
        )
        await database.pool.execute(
            "INSERT INTO outbox (shard, message, account, priority, due_at)"
            " VALUES (5, $1, $2, 0, now() + $3::text::interval)",
            message,
            of,
            due,
        )
    await adopt(database, (), restored=True, resend=resend)
    rows = await database.pool.fetch("SELECT chat, epoch FROM message ORDER BY chat")
    now = 7 + EPOCH_LEAP
    assert [row["chat"] for row in rows if not stored_before_restore(row["epoch"], now)] == current


async def account(database: Database, desired: int) -> UUID:
    tenant, made = new_uuid(), new_uuid()
    await database.pool.execute("INSERT INTO tenant (id) VALUES ($1)", tenant)
    await database.pool.execute(
        "INSERT INTO account (id, tenant, driver, desired_state, shard)"
        " VALUES ($1, $2, 'whatsapp_web', $3, 5)",
        made,
        tenant,
        desired,
    )
    return made


class TestPartitions:
    async def test_missing_days_are_made_once(self, database: Database) -> None:
        tomorrow = (datetime.now(UTC) + timedelta(days=1)).date()
        async with database.pool.acquire() as connection:
            assert await drop_partition(connection, "message", tomorrow)
        async with database.pool.acquire() as one, database.pool.acquire() as other:
            made = await asyncio.gather(make_partitions(one), make_partitions(other))
        assert sum(made) == 1
        days = await database.pool.fetchval(
            "SELECT count(*) FROM pg_inherits WHERE inhparent = 'message'::regclass"
        )
        assert days == DAYS_AHEAD + 2

    async def test_a_new_day_has_the_indexes_and_takes_the_rows_of_its_day(self, database: Database) -> None:
        day = datetime(2031, 3, 1, tzinfo=UTC)
        assert await database.pool.fetchval("SELECT make_day_partition('event', $1)", day.date())
        for moment in (day, day + timedelta(hours=23, minutes=59)):
            await database.pool.execute(
                "INSERT INTO event (id, seq, tenant, account, epoch, type, body)"
                " VALUES (uuid_at($1), 1, gen_random_uuid(), gen_random_uuid(), 1, 't', '')",
                moment,
            )
        assert await database.pool.fetchval("SELECT count(*) FROM event_20310301") == 2
        assert (
            await database.pool.fetchval("SELECT count(*) FROM pg_indexes WHERE tablename = 'event_20310301'")
            == 2
        )
        with pytest.raises(asyncpg.CheckViolationError):
            await database.pool.execute(
                "INSERT INTO event (id, seq, tenant, account, epoch, type, body)"
                " VALUES (uuid_at($1), 1, gen_random_uuid(), gen_random_uuid(), 1, 't', '')",
                day + timedelta(days=1),
            )

    async def test_a_day_that_is_not_there_cannot_be_dropped(self, database: Database) -> None:
        async with database.pool.acquire() as connection:
            assert not await drop_partition(connection, "event", datetime(2001, 1, 1, tzinfo=UTC).date())


async def _node_starts(database: Database, incarnation: str) -> None:
    await database.pool.execute(
        "INSERT INTO node_incarnation (id, node, address) VALUES ($1, 'a', 'a:1')", incarnation
    )
