"""Connections that calls share, on a real Postgres: nobody's hold up the others', or the service's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from mesh_core.database import Database, callers
from mesh_core.database.reads import SharedReads
from mesh_core.errors import DeadlineExceeded
from mesh_core.ids import new_uuid
from mesh_core.settings import DatabaseSettings
from tests.support.eventually import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

ONE, OTHER = new_uuid(), new_uuid()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def database(module_postgres_url: str) -> AsyncIterator[Database]:
    opened = await Database.open(DatabaseSettings(url=module_postgres_url, pool_size=6))
    yield opened
    await opened.close()


class Holding:
    """Calls that hold a connection each until they are let go."""

    def __init__(self) -> None:
        self.connections = 0
        self._go = asyncio.Event()

    async def hold(self, connection: Any) -> None:
        async with connection as held:
            assert await held.fetchval("SELECT 1") == 1
            self.connections += 1
            await self._go.wait()
            self.connections -= 1

    def let_go(self) -> None:
        self._go.set()


async def test_calls_of_one_tenant_leave_connections_to_others_and_to_the_service(database: Database) -> None:
    holding = Holding()
    async with asyncio.TaskGroup() as group:
        for _ in range(8):
            group.create_task(holding.hold(database.callers.of(ONE).acquire()), name="hold")
        await eventually(lambda: holding.connections == 2)
        group.create_task(holding.hold(database.callers.of(OTHER).acquire()), name="hold")
        await eventually(lambda: holding.connections == 3)
        async with asyncio.timeout(10):
            assert await asyncio.gather(*[database.pool.fetchval("SELECT 1") for _ in range(20)]) == [1] * 20
        assert holding.connections == 3, "no call has more than its half"
        holding.let_go()


@pytest.mark.parametrize("caller", [OTHER, None])
async def test_of_calls_that_lock_a_tenant_s_row_one_holds_a_connection(
    database: Database, caller: Any
) -> None:
    holding = Holding()
    async with asyncio.TaskGroup() as group:
        for _ in range(8):
            group.create_task(holding.hold(database.callers.locking(ONE, caller)), name="hold")
        await eventually(lambda: holding.connections == 1)
        async with asyncio.timeout(10):
            assert await database.callers.of(caller).fetchval("SELECT 1") == 1
            async with database.callers.locking(OTHER, caller) as connection:
                assert await connection.fetchval("SELECT 1") == 1
        assert holding.connections == 1
        holding.let_go()
    assert not database.callers._locks, "nothing is kept of a tenant that locks nothing"


async def test_a_search_that_takes_too_long_is_told_so_and_gives_its_connection_back(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callers, "SEARCH_SECONDS", 0.1)
    pool = database.callers.of(ONE)
    for _ in range(4):
        with pytest.raises(DeadlineExceeded) as caught:
            await pool.search("SELECT pg_sleep(60)")
        assert caught.value.reason == "SEARCH_TOO_LONG"
    monkeypatch.undo()
    [row] = await pool.search("SELECT $1::int AS n", 3)
    assert row["n"] == 3
    sleeping = (
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active'"
    )

    async def nothing_sleeps() -> bool:
        return bool(await database.pool.fetchval(sleeping) == 0)

    await eventually(nothing_sleeps)


async def test_a_transaction_of_a_caller_is_undone_when_it_fails(database: Database) -> None:
    pool = database.callers.of(ONE)

    async def fail() -> None:
        async with pool.transaction() as connection:
            await connection.execute("CREATE TABLE undone ()")
            raise KeyError

    with pytest.raises(KeyError):
        await fail()
    assert await pool.fetchval("SELECT to_regclass('undone')") is None


async def test_what_a_service_reads_by_itself_leaves_the_callers_theirs(database: Database) -> None:
    whose: list[Any] = [None]
    reads = SharedReads(database, lambda: whose[0])
    own = [asyncio.create_task(reads.fetchval("SELECT pg_sleep(2)"), name="own") for _ in range(30)]
    await asyncio.sleep(0)
    whose[0] = ONE
    async with asyncio.timeout(1.5):
        for _ in range(5):
            assert await reads.fetchval("SELECT 1") == 1
    for task in own:
        task.cancel()
    await asyncio.gather(*own, return_exceptions=True)
