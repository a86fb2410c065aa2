"""LISTEN over a connection that may end at any time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import structlog

from mesh_core.database import Database
from mesh_core.database.listening import Listener
from mesh_core.settings import DatabaseSettings
from tests.support.eventually import eventually

CHANNEL = "a_channel"
_LISTENERS = """SELECT pid FROM pg_stat_activity
  WHERE datname = current_database() AND query = 'LISTEN "a_channel"'"""
"""The query that each connection of this database ran last, if it is a listener's."""


@pytest.fixture
async def database(empty_database_url: str) -> AsyncIterator[Database]:
    database = await Database.open(DatabaseSettings(url=empty_database_url))
    yield database
    await database.close()


@asynccontextmanager
async def listening(database: Database) -> AsyncIterator[Listener]:
    """A listener that has connected."""
    listener = Listener(database, CHANNEL)
    task = asyncio.create_task(listener.run())
    try:
        async with asyncio.timeout(5):
            await listener.heard.wait(0)
        yield listener
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_a_notification_is_heard(database: Database) -> None:
    async with listening(database) as listener, asyncio.timeout(5):
        seen = listener.heard.version
        await database.pool.execute(f"NOTIFY {CHANNEL}")
        assert await listener.heard.wait(seen) == seen + 1


async def test_after_its_connection_ended_it_listens_again_and_tells_that_something_may_be_missed(
    database: Database,
) -> None:
    async with listening(database) as listener, asyncio.timeout(10):
        seen = listener.heard.version
        with structlog.testing.capture_logs() as logs:
            await database.pool.execute(f"SELECT pg_terminate_backend(pid) FROM ({_LISTENERS}) AS l")
            seen = await listener.heard.wait(seen)
        assert [entry["channel"] for entry in logs] == [CHANNEL]
        await database.pool.execute(f"NOTIFY {CHANNEL}")
        await listener.heard.wait(seen)


async def test_it_ends_its_connection_when_it_is_cancelled(database: Database) -> None:
    async def listeners() -> int:
        count: int = await database.pool.fetchval(f"SELECT count(*) FROM ({_LISTENERS}) AS l")
        return count

    async with listening(database):
        assert await listeners() == 1

    async def gone() -> bool:
        return await listeners() == 0

    await eventually(gone)
