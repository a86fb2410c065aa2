"""Events that change after the fan-out has read them: what a person's erasure took is told to nobody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from types import SimpleNamespace
from typing import Any

import asyncpg
import pytest
from asyncpg.pgproto.pgproto import UUID

from mesh_core.database import Database
from mesh_core.events import Cursor, EventReader, Page
from mesh_core.events.notify import EventListener
from mesh_core.ids import new_uuid
from mesh_core.settings import DatabaseSettings
from mesh_core.signal import Signal
from mesh_webhook.deliveries import fan_out
from mesh_webhook.deliveries.fan_out import FanOut
from mesh_webhook.endpoints.subscribers import Subscriber
from mesh_webhook.events.filters import EventFilter
from sessionmesh.v1.event_pb2 import Event
from tests.support.eventually import eventually
from tests.support.webhook_tables import empty_tables

BARE = Event(type="message.received")
TOLD = Event(type="message.received", labels={"name": "Ann"})


@pytest.fixture
async def database(module_postgres_url: str) -> AsyncIterator[Database]:
    opened = await Database.open(DatabaseSettings(url=module_postgres_url))
    yield opened
    await opened.close()


class ErasedBehind(EventReader):
    """Reads events, which are erased before they are handled."""

    erased = False

    async def follow(
        self, cursor: Cursor, *, page: int = 1000, tenant: UUID | None = None
    ) -> AsyncGenerator[Page, None]:
        async for read in super().follow(cursor, page=page, tenant=tenant):
            if read.events and not self.erased:
                self.erased = True
                await self._database.pool.execute("UPDATE event SET body = $1", BARE.SerializeToString())
            yield read


class OneEndpoint:
    """Wants everything."""

    def __init__(self, endpoint: UUID) -> None:
        self._endpoint: Any = SimpleNamespace(id=endpoint)

    async def refresh(self, tenants: Any) -> None:
        pass

    def wanting(self, *_: Any) -> list[Subscriber]:
        return [Subscriber(self._endpoint, EventFilter())]


async def test_an_event_that_was_erased_after_it_was_read_is_told_as_it_is_now(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fan_out, "_FIRST_PAUSE_SECONDS", 0.01)
    async with empty_tables(database.pool) as tables:
        await database.pool.execute(
            "INSERT INTO event (id, seq, tenant, account, epoch, type, body)"
            " VALUES ($1, 1, $2, $1, 1, $3, $4)",
            new_uuid(),
            tables.tenant,
            TOLD.type,
            TOLD.SerializeToString(),
        )
        reader = await ErasedBehind.open(database, EventListener(database))
        subscribers: Any = OneEndpoint(await tables.endpoint())
        running = asyncio.create_task(
            FanOut(database, reader, subscribers, lambda: None, Signal()).run(), name="fan-out"
        )

        async def made() -> list[asyncpg.Record]:
            return await database.pool.fetch("SELECT body FROM webhook_delivery")

        [delivery] = await eventually(made)
        running.cancel()
        await asyncio.wait([running])
    assert b"message.received" in delivery["body"]
    assert b"Ann" not in delivery["body"]
