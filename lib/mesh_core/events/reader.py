"""Reads events in the order of their positions, never past one that may still come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from asyncpg.pgproto.pgproto import UUID

from mesh_core.database.identity import check_identity
from mesh_core.database.pool import Database
from mesh_core.events.cursor import LAST_SEQ, Cursor, out_of_range
from mesh_core.events.notify import EventListener


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event. `body` is a sessionmesh.v1.Event without `commit_time` and `cursor`, which are told beside
    it.
    """

    cursor: Cursor
    id: UUID
    tenant: UUID
    account: UUID
    type: str
    body: bytes
    commit_time: datetime


@dataclass(frozen=True, slots=True)
class Page:
    """Events in order; `cursor` is where the next page begins, also past events that the filter left out."""

    events: list[StoredEvent]
    cursor: Cursor
    complete: bool  # nothing more could be read at that moment


class EventReader:
    """Readers of one process share it; each has its own cursor."""

    def __init__(self, database: Database, listener: EventListener, generation: int) -> None:
        self.generation = generation
        self._database = database
        self._listener = listener

    @classmethod
    async def open(cls, database: Database, listener: EventListener) -> Self:
        """Raises `ForeignDatabase`. `listener.run` belongs to the caller's tasks."""
        return cls(database, listener, await check_identity(database))

    async def oldest(self) -> Cursor:
        """Before the first event that is still there."""
        [row] = await self._database.pool.fetch("SELECT xid AS position, seq FROM event_horizon")
        return Cursor(self.generation, row["position"], row["seq"])

    async def latest(self) -> Cursor:
        """Behind every event that can be read now."""
        horizon = await self._database.pool.fetchval("SELECT pg_snapshot_xmin(pg_current_snapshot())")
        return Cursor(self.generation, horizon - 1, LAST_SEQ)

    async def check(self, cursor: Cursor) -> None:
        """Raises `OutOfRange` CURSOR_OUT_OF_RANGE for a cursor of the future, or before events that were
        dropped.
        """
        oldest = await self.oldest()
        next_xid = await self._database.pool.fetchval("SELECT pg_snapshot_xmax(pg_current_snapshot())")
        if cursor.generation < self.generation or cursor < oldest:
            raise out_of_range("has expired: events after it were dropped", oldest)
        if cursor.generation > self.generation or cursor.xid >= next_xid:
            raise out_of_range("is from the future", oldest)

    async def read(self, cursor: Cursor, limit: int = 1000, *, tenant: UUID | None = None) -> Page:
        """The events behind `cursor`, at most `limit`, of all tenants or of one; see `check` for a caller's
        cursor.
        """
        rows = await self._database.pool.fetch(READ, cursor.xid, cursor.seq, limit, tenant)
        events = [
            StoredEvent(
                Cursor(self.generation, row["position"], row["place"]),
                row["id"],
                row["tenant"],
                row["account"],
                row["type"],
                row["body"],
                row["commit_time"],
            )
            for row in rows
            if row["position"] is not None
        ]
        if len(events) == limit:
            return Page(events, events[-1].cursor, complete=False)
        end = Cursor(self.generation, rows[0]["horizon"] - 1, LAST_SEQ)
        return Page(events, max(end, cursor), complete=True)

    async def follow(
        self, cursor: Cursor, *, page: int = 1000, tenant: UUID | None = None
    ) -> AsyncGenerator[Page, None]:
        """Pages of events behind `cursor` for ever, and an empty page about every second when there are none.

        A NOTIFY is never the only reason to look: it may come while an older transaction still hides the
        events, so this looks again every 100 ms until it has caught up. It looks 20 times a second at most,
        however many nodes notify.
        """
        heard, loop = self._listener.heard, asyncio.get_running_loop()
        while True:
            seen, looked = heard.version, loop.time()
            read = await self.read(cursor, page, tenant=tenant)
            cursor = read.cursor
            yield read
            if not read.complete:
                continue
            behind = await self._database.pool.fetchval(BEHIND, cursor.xid, cursor.seq)
            with suppress(TimeoutError):
                async with asyncio.timeout(_POLL if behind else _IDLE):
                    await heard.wait(seen)
            await asyncio.sleep(looked + _APART - loop.time())


_APART = 0.05
_POLL = 0.1
_IDLE = 1.0
# Visibility and horizon come from one snapshot, because it is one statement. No output column is named like a
# sort column: Postgres would sort by the output, the whole backlog for every page.
READ = """SELECT h.horizon, e.* FROM (SELECT pg_snapshot_xmin(pg_current_snapshot()) AS horizon) h
  LEFT JOIN LATERAL (
    SELECT xid AS position, seq AS place, id, tenant, account, type, body, commit_time FROM event
      WHERE (xid, seq) > ($1::xid8, $2) AND xid < h.horizon AND ($4::uuid IS NULL OR tenant = $4)
      ORDER BY xid, seq LIMIT $3) e ON true"""
# Committed events past the cursor that a running transaction still hides. Not EXISTS, which drops the order:
# planned while the day's partition was empty, that read the whole partition until the next ANALYZE.
BEHIND = """SELECT (SELECT true FROM event WHERE (xid, seq) > ($1::xid8, $2)
  ORDER BY xid, seq LIMIT 1) IS NOT NULL"""
