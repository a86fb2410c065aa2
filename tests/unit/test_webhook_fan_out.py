"""The fan-out when the database is slow, refuses rows, or belongs to another instance for a while."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import asyncpg
import pytest
from asyncpg.pgproto.pgproto import UUID

from mesh_core.events import Cursor, Page, StoredEvent
from mesh_core.ids import new_uuid
from mesh_core.signal import Signal
from mesh_webhook.deliveries import fan_out
from mesh_webhook.deliveries.fan_out import FanOut
from mesh_webhook.deliveries.parts import SKIPPED
from mesh_webhook.endpoints.subscribers import Subscriber
from mesh_webhook.events.filters import EventFilter
from sessionmesh.v1.event_pb2 import Event
from tests.support.eventually import eventually


class Rows:
    """A pool that keeps the position and what was written; `refuse` may raise for the events of one write."""

    def __init__(self, refuse: Callable[[list[UUID]], None]) -> None:
        self.position = (0, 0)
        self.written: list[UUID] = []
        self.sizes: list[int] = []
        self._refuse = refuse

    async def fetch(self, *_: Any) -> list[dict[str, int]]:
        return [{"generation": 1, "xid": self.position[0], "seq": self.position[1]}]

    async def fetchval(self, _query: str, *values: Any) -> bool:
        _name, _generation, xid, seq, to_xid, to_seq, events, *_ = values
        self.sizes.append(len(events))
        if events:
            self._refuse(events)
        if (xid, seq) != self.position:
            return False
        self.position = (to_xid, to_seq)
        self.written += events
        return True


class Stored:
    """A reader with a number of events, of a tenant each."""

    generation = 1

    def __init__(self, count: int) -> None:
        self.events = [stored(number) for number in range(1, count + 1)]

    async def follow(self, cursor: Cursor, **_: Any) -> AsyncIterator[Page]:
        left = [event for event in self.events if event.cursor > cursor]
        yield Page(left, left[-1].cursor if left else cursor, complete=True)
        await asyncio.Event().wait()


class Everybody:
    """One endpoint of each tenant, which wants everything."""

    async def refresh(self, tenants: Any) -> None:
        pass

    def wanting(self, *_: Any) -> list[Subscriber]:
        endpoint: Any = SimpleNamespace(id=new_uuid())
        return [Subscriber(endpoint, EventFilter())]


def stored(number: int) -> StoredEvent:
    body = Event(type="a.b").SerializeToString()
    return StoredEvent(
        Cursor(1, number, 1), new_uuid(), new_uuid(), new_uuid(), "a.b", body, datetime.now(UTC)
    )


@asynccontextmanager
async def running(rows: Rows, reader: Stored, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    monkeypatch.setattr(fan_out, "_FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(fan_out, "_MAX_PAUSE_SECONDS", 0.001)
    database: Any = SimpleNamespace(pool=rows)
    given: Any = reader
    everybody: Any = Everybody()
    task = asyncio.create_task(FanOut(database, given, everybody, lambda: None, Signal()).run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
    assert task.cancelled(), "nothing ended the fan-out"


async def test_what_takes_too_long_is_written_in_smaller_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(events: list[UUID]) -> None:
        if len(events) > 3:
            raise asyncpg.QueryCanceledError

    rows, reader = Rows(slow), Stored(400)
    async with running(rows, reader, monkeypatch):
        await eventually(lambda: rows.position == (400, 1))
    assert rows.written == [event.id for event in reader.events]


@pytest.mark.parametrize("moment", [datetime.max, datetime.min], ids=["infinity", "-infinity"])  # noqa: DTZ901
async def test_an_event_of_no_finite_time_is_handled(
    monkeypatch: pytest.MonkeyPatch, moment: datetime
) -> None:
    rows, reader = Rows(lambda _: None), Stored(2)
    reader.events[1] = replace(reader.events[1], commit_time=moment)  # as asyncpg tells of it
    before = fan_out.EVENTS.value
    async with running(rows, reader, monkeypatch):
        await eventually(lambda: fan_out.EVENTS.value == before + 2)
    assert rows.written == [event.id for event in reader.events]


async def test_an_event_that_the_database_refuses_is_left_out_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = Stored(50)
    poison = reader.events[20].id

    def refuse(events: list[UUID]) -> None:
        if poison in events:
            raise asyncpg.DataError

    rows, before = Rows(refuse), SKIPPED.value
    async with running(rows, reader, monkeypatch):
        await eventually(lambda: rows.position == (50, 1))
    assert rows.written == [event.id for event in reader.events if event.id != poison]
    assert SKIPPED.value == before + 1


async def test_after_small_parts_they_get_large_again(monkeypatch: pytest.MonkeyPatch) -> None:
    failures = iter(range(12))

    def slow_at_first(_events: list[UUID]) -> None:
        if next(failures, None) is not None:
            raise TimeoutError

    rows, reader = Rows(slow_at_first), Stored(500)
    async with running(rows, reader, monkeypatch):
        await eventually(lambda: rows.position == (500, 1))
    assert rows.sizes[12] < 5
    assert max(rows.sizes[13:]) > 50
