"""Makes the deliveries that the fan-out left owed: in turns over tenants, a bounded number at a time.

How far each owed event is stands in its row, and moves with the deliveries. So it survives a restart, and of
several instances one works on an event at a time. Between two turns it rests as long as the last one took:
what has to be quick is somewhere else.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import asyncpg
import orjson
import structlog
from asyncpg.pgproto.pgproto import UUID

from mesh_core import ids
from mesh_core.backoff import Backoff
from mesh_core.database import UNAVAILABLE
from mesh_core.signal import Signal
from mesh_webhook.deliveries.completions import UNSTORABLE
from mesh_webhook.deliveries.parts import AGAIN, HALVED, LEAST, SKIPPED, Bounds, Smaller
from mesh_webhook.endpoints.subscribers import Subscribers

logger = structlog.get_logger(__name__)

MAX_ROWS = 50
"""Deliveries of one turn."""


class OwedDeliveries:
    """Those of all tenants; `run` it as a task.

    Notify `owed` when there are new ones, and get `wake` called after deliveries were committed.
    """

    def __init__(
        self, pool: asyncpg.Pool, subscribers: Subscribers, owed: Signal, wake: Callable[[], None]
    ) -> None:
        self._pool = pool
        self._subscribers = subscribers
        self._owed = owed
        self._wake = wake
        self._bounds = Bounds()
        self._tenant = UUID(bytes(16))

    async def run(self) -> None:
        """Runs until it is cancelled; waits out a database that is unavailable."""
        backoff = Backoff(_FIRST_PAUSE_SECONDS, _MAX_PAUSE_SECONDS)
        while True:
            seen, began = self._owed.version, time.monotonic()
            try:
                worked = await self.turn()
                backoff.reset()
            except AGAIN as error:
                logger.warning("owed deliveries: trying again", error=repr(error), rows=self._bounds.rows)
                await asyncio.sleep(backoff.next())
                continue
            if worked:
                await asyncio.sleep(time.monotonic() - began)
                continue
            try:
                async with asyncio.timeout(_POLL_SECONDS):
                    await self._owed.wait(since=seen)
            except TimeoutError:
                pass

    async def turn(self) -> bool:
        """Makes deliveries of the next tenant's oldest owed events; False when nothing is owed, or another
        instance is at them.
        """
        rows = await self._pool.fetch(_OLDEST, self._tenant, _MAX_EVENTS)
        if not rows:
            return False
        self._tenant = rows[0]["tenant"]
        await self._subscribers.refresh([self._tenant])
        piece = _Piece()
        # Matching holds up all else in the process.
        for row in rows[: max(1, _MAX_MATCHES // max(1, self._subscribers.count(self._tenant)))]:
            try:
                wanting = self._wanting(row)
            except Exception:  # whatever it is, it concerns this event alone
                SKIPPED.inc()
                logger.exception(
                    "an owed event cannot be made into deliveries, skipped", id=str(row["event"])
                )
                wanting = []
            if not piece.add(row, wanting, self._bounds):
                break
        settled = await self._settle(piece)
        if settled and piece.deliveries:
            self._wake()
        return settled

    def _wanting(self, row: asyncpg.Record) -> list[UUID]:
        """Which endpoints want an owed event, behind those that have it."""
        labels = orjson.loads(row["labels"])
        candidates = self._subscribers.wanting(
            row["tenant"], row["account"] or _NO_ACCOUNT, row["event_type"], row["xid"], row["after"]
        )
        return [one.endpoint.id for one in candidates if one.filter.matches_labels(labels)]

    async def _settle(self, piece: _Piece) -> bool:
        try:
            settled = await self._write(piece, piece.deliveries)
        except UNSTORABLE as error:
            HALVED.labels("owed").inc()
            if len(piece.deliveries) > 1 or self._bounds != LEAST:
                self._bounds = LEAST
                raise Smaller from error
            SKIPPED.inc()
            logger.exception("a delivery is skipped: it cannot be stored", tenant=str(self._tenant))
            return await self._write(piece, [])
        except UNAVAILABLE:
            HALVED.labels("owed").inc()
            self._bounds = self._bounds.halved()
            raise
        self._bounds = self._bounds.doubled()
        return settled

    async def _write(self, piece: _Piece, deliveries: list[tuple[UUID, int]]) -> bool:
        settled: bool = await self._pool.fetchval(
            _SETTLE,
            self._tenant,
            [row["xid"] for row in piece.rows],
            [row["seq"] for row in piece.rows],
            [row["after"] for row in piece.rows],
            piece.after,
            [ids.new_uuid() for _ in deliveries],
            [endpoint for endpoint, _ in deliveries],
            [place for _, place in deliveries],
        )
        return settled


@dataclass(slots=True)
class _Piece:
    """What one turn writes: owed events with how far each is then, None when done; and their deliveries."""

    rows: list[asyncpg.Record] = field(default_factory=list)
    after: list[UUID | None] = field(default_factory=list)
    deliveries: list[tuple[UUID, int]] = field(default_factory=list)
    size: int = 0

    def add(self, row: asyncpg.Record, wanting: list[UUID], bounds: Bounds) -> bool:
        """Adds deliveries of an owed event, one at least; returns whether there is room for another event."""
        room = min(bounds.rows, MAX_ROWS) - len(self.deliveries)
        room = min(room, (bounds.size - self.size) // max(1, row["size"]))
        if room <= 0 and self.deliveries:
            return False
        now = wanting[: max(1, room)]
        self.rows.append(row)
        self.after.append(now[-1] if len(now) < len(wanting) else None)
        self.deliveries += [(endpoint, len(self.rows)) for endpoint in now]
        self.size += len(now) * row["size"]
        return len(now) == len(wanting)


_NO_ACCOUNT = UUID(bytes(16))
_MAX_EVENTS = 100
_MAX_MATCHES = 5000
_POLL_SECONDS = 1.0
_FIRST_PAUSE_SECONDS = 0.5
_MAX_PAUSE_SECONDS = 2.0
_OLDEST = """SELECT w.tenant, w.xid, w.seq, w.event, w.account, w.event_type, w.labels, w.after,
    octet_length(w.body) AS size
  FROM (SELECT coalesce(
      (SELECT tenant FROM webhook_owed WHERE tenant > $1 ORDER BY tenant LIMIT 1),
      (SELECT tenant FROM webhook_owed ORDER BY tenant LIMIT 1)) AS tenant) AS next
  JOIN webhook_owed w ON w.tenant = next.tenant ORDER BY w.xid, w.seq LIMIT $2"""
_SETTLE = "SELECT webhook_settle($1, $2::xid8[], $3, $4, $5, $6, $7, $8)"
