"""Reads events in the order of their positions, and none that an open transaction may still get before."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self

from asyncpg import Record
from asyncpg.pgproto.pgproto import UUID

from mesh_core.database.identity import check_identity
from mesh_core.database.pool import AnyConnection, Database
from mesh_core.events.cursor import LAST_SEQ, Cursor, out_of_range
from mesh_core.events.notify import EventListener

PAGE_BYTES = 4 * 1024 * 1024
"""How many bytes of bodies one read takes into memory, and at most one body more."""
SLACK = timedelta(minutes=10)
"""Events may stand before others that were committed so much earlier: transactions overlap, and clocks are
set.
"""


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event as stored. `body` is a serialised sessionmesh.v1.Event that lacks `commit_time` and `cursor`:
    Postgres gave them when it was committed.
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
    """Events in order. `cursor` is where the next page begins, behind all that was looked at, other tenants'
    events too. `complete` tells that there was nothing more to read at that moment.
    """

    events: list[StoredEvent]
    cursor: Cursor
    complete: bool


class EventReader:
    """Reads events from any cursor on; one serves all readers of a process."""

    def __init__(self, database: Database, listener: EventListener, generation: int) -> None:
        self.generation = generation
        self._database = database
        self._listener = listener

    @classmethod
    async def open(cls, database: Database, listener: EventListener) -> Self:
        """Raises `ForeignDatabase`. It is the caller's to run `listener.run()` as a task."""
        return cls(database, listener, await check_identity(database))

    async def oldest(self, tenant: UUID | None = None) -> Cursor:
        """The cursor before the first event that is still stored, of one tenant or (None) of all."""
        [row] = await self._fetch(tenant, OLDEST, tenant)
        return Cursor(self.generation, row["position"], row["place"])

    async def latest(self) -> Cursor:
        """The cursor behind every event that can be read now."""
        horizon = await self._database.pool.fetchval("SELECT pg_snapshot_xmin(pg_current_snapshot())")
        return Cursor(self.generation, horizon - 1, LAST_SEQ)

    async def since(self, moment: datetime, tenant: UUID) -> Cursor:
        """The cursor before the first event that was committed at `moment` or later and is still stored, as
        far as the order of events is that of times. Raises `DeadlineExceeded` SEARCH_TOO_LONG.
        """
        pool = self._database.callers.of(tenant)
        async with pool.acquire() as connection:
            place = await place_before(connection, moment)
        found = await pool.search(FIRST_SINCE, *place, moment)
        if not found:
            return await self.latest()
        position, place_in_it = found[0]["position"], found[0]["place"]
        before = (
            Cursor(self.generation, position, place_in_it - 1)
            if place_in_it
            else Cursor(self.generation, position - 1, LAST_SEQ)
        )
        return max(before, await self.oldest(tenant))

    async def check(self, cursor: Cursor, tenant: UUID | None = None) -> None:
        """Raises `OutOfRange` CURSOR_OUT_OF_RANGE for a cursor from the future, and for one that has expired:
        events behind it were dropped, or with a `tenant` those of its own deleted.
        """
        oldest = await self.oldest(tenant)
        [(next_xid,)] = await self._fetch(tenant, "SELECT pg_snapshot_xmax(pg_current_snapshot())")
        if cursor.generation < self.generation or cursor < oldest:
            raise out_of_range("has expired: events after it were dropped", oldest)
        if cursor.generation > self.generation or cursor.xid >= next_xid:
            raise out_of_range("is from the future", oldest)

    async def read(self, cursor: Cursor, limit: int = 1000, *, tenant: UUID | None = None) -> Page:
        """The events behind `cursor`, at most `limit`, of one tenant or (None) of all.

        A page ends before `limit` with the event whose body brings it to `PAGE_BYTES`. `check` a cursor that
        came from outside first: an expired one is read from the oldest event on. For a tenant it raises
        `DeadlineExceeded` SEARCH_TOO_LONG.
        """
        rows = await self._fetch(tenant, READ, cursor.xid, cursor.seq, limit, tenant, PAGE_BYTES)
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
        if len(events) == limit or sum(len(event.body) for event in events) >= PAGE_BYTES:
            return Page(events, events[-1].cursor, complete=False)
        end = Cursor(self.generation, rows[0]["horizon"] - 1, LAST_SEQ)
        return Page(events, max(end, cursor), complete=True)

    async def follow(
        self, cursor: Cursor, *, page: int = 1000, tenant: UUID | None = None
    ) -> AsyncGenerator[Page, None]:
        """Yields pages of events behind `cursor` for ever, and an empty one each second without events.

        It reads at each NOTIFY, but 20 times a second at most. A NOTIFY may come while an older transaction
        still hides the events: then it reads again, after 10 ms at first, as most are over by then, and every
        100 ms in the end, until they are seen.
        """
        heard, loop = self._listener.heard, asyncio.get_running_loop()
        hidden = 0
        while True:
            seen, looked = heard.version, loop.time()
            read = await self.read(cursor, page, tenant=tenant)
            cursor = read.cursor
            yield read
            if not read.complete:
                continue
            behind = await self._database.pool.fetchval(BEHIND, cursor.xid, cursor.seq)
            if behind:
                hidden = 0 if read.events else hidden + 1
                await asyncio.sleep(_POLLS[min(hidden, len(_POLLS) - 1)])
                continue
            hidden = 0
            with suppress(TimeoutError):
                async with asyncio.timeout(_IDLE):
                    await heard.wait(seen)
            await asyncio.sleep(looked + _APART - loop.time())

    async def _fetch(self, tenant: UUID | None, query: str, *args: object) -> list[Record]:
        """What is read for one tenant is a caller's, and all else the service's own."""
        if tenant is None:
            return await self._database.pool.fetch(query, *args)
        return await self._database.callers.of(tenant).search(query, *args)


async def place_before(connection: AnyConnection, moment: datetime) -> tuple[int, int]:
    """A position, `xid` and `seq`, before all events that were committed at `moment` or after it.

    Halves the order of events, with one look into the index each time.
    """
    [bounds] = await connection.fetch(_BOUNDS)
    low, high = bounds["low"], bounds["high"]
    while high - low > 1:
        middle = (low + high) // 2
        found = await connection.fetchrow(FIRST_FROM, middle)
        if found is None or found["commit_time"] + SLACK >= moment:
            high = middle
        else:
            low = found["position"]
    return low, 0


_APART = 0.05
_POLLS = (0.01, 0.01, 0.01, 0.02, 0.02, 0.02, 0.05, 0.05, 0.1)
_IDLE = 1.0
# A tenant that keeps its events for less time than the others has an end of its own.
OLDEST = """SELECT xid AS position, seq AS place FROM event_horizon
  UNION ALL SELECT xid, seq FROM tenant_sweep WHERE tenant = $1
  ORDER BY position DESC, place DESC LIMIT 1"""
# Visibility and horizon come from one snapshot, because it is one statement. No output column is named like a
# sort column: Postgres would sort by the output, the whole backlog for every page. A large body's size is
# known without reading it, so that what is beyond the page stays on disk.
READ = """SELECT h.horizon, e.* FROM (SELECT pg_snapshot_xmin(pg_current_snapshot()) AS horizon) h
  LEFT JOIN LATERAL (
    SELECT * FROM (
      SELECT *, sum(octet_length(body)) OVER (ORDER BY position, place ROWS UNBOUNDED PRECEDING) AS bytes
      FROM (
        SELECT xid AS position, seq AS place, id, tenant, account, type, body, commit_time FROM event
          WHERE (xid, seq) > ($1::xid8, $2) AND xid < h.horizon AND ($4::uuid IS NULL OR tenant = $4)
          ORDER BY xid, seq LIMIT $3) counted) summed
    WHERE bytes - octet_length(body) < $5) e ON true"""
# Committed events past the cursor that a running transaction still hides. Not EXISTS, which drops the order:
# planned while the day's partition was empty, that read the whole partition until the next ANALYZE.
BEHIND = """SELECT (SELECT true FROM event WHERE (xid, seq) > ($1::xid8, $2)
  ORDER BY xid, seq LIMIT 1) IS NOT NULL"""
# Events have no index by time.
_BOUNDS = "SELECT xid AS low, pg_snapshot_xmin(pg_current_snapshot()) AS high FROM event_horizon"
FIRST_FROM = """SELECT xid AS position, commit_time FROM event WHERE (xid, seq) >= ($1::xid8, 0)
  ORDER BY xid, seq LIMIT 1"""
FIRST_SINCE = """SELECT xid AS position, seq AS place FROM event
  WHERE (xid, seq) > ($1::xid8, $2) AND xid < pg_snapshot_xmin(pg_current_snapshot()) AND commit_time >= $3
  ORDER BY xid, seq LIMIT 1"""
