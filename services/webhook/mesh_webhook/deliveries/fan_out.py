"""Turns events into deliveries: each event once for each endpoint that wants it.

Deliveries and the position that the fan-out has reached are written by one function in one transaction, which
first compares the position. So a process may be killed at any moment, and any number of instances may run:
the second one to handle an event finds that the position has moved, and writes nothing. To save that work,
such an instance stands by until the position stops moving while there are events after it.

An endpoint gets no event that was committed before it was created, and every event that it wants after that.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import aclosing

import structlog

from mesh_core.backoff import Backoff
from mesh_core.database import UNAVAILABLE, Database
from mesh_core.events import Cursor, EventReader, Page
from mesh_core.metrics import counter, gauge
from mesh_core.signal import Signal
from mesh_core.telemetry import tracing
from mesh_core.validation import to_timestamp
from mesh_webhook.deliveries.completions import UNSTORABLE
from mesh_webhook.deliveries.parts import (
    AGAIN,
    HALVED,
    LEAST,
    SKIPPED,
    Bounds,
    Part,
    Shares,
    Smaller,
    next_part,
)
from mesh_webhook.endpoints.subscribers import Subscribers

logger = structlog.get_logger(__name__)

LAG = gauge(
    "mesh_webhook_fan_out_lag_seconds",
    "Age of the event that the fan-out handled last.",
    answers="How late are webhooks made?",
)
EVENTS = counter(
    "mesh_webhook_events_total", "Events handled by the fan-out.", answers="How many events come?"
)


class Changed(Exception):
    """An event says something else, or is gone, since it was read: a person was erased."""


class FanOut:
    """The fan-out of this process; `run` it as a task.

    `wake` is called after deliveries were committed, and `owed` notified after owed events were.
    """

    def __init__(
        self,
        database: Database,
        reader: EventReader,
        subscribers: Subscribers,
        wake: Callable[[], None],
        owed: Signal,
    ) -> None:
        self._pool = database.pool
        self._reader = reader
        self._subscribers = subscribers
        self._wake = wake
        self._owed = owed
        self._bounds = Bounds()
        self._position = Cursor(reader.generation, 0, 0)
        self._passed_over = False
        self._stored_at = 0.0

    async def run(self) -> None:
        """Runs until it is cancelled; waits out a database that is away, and asks less of a slow one."""
        backoff = Backoff(_FIRST_PAUSE_SECONDS, _MAX_PAUSE_SECONDS)
        while True:
            try:
                await self._handle_events(backoff)
                await self._stand_by()
            except _READ_AGAIN as error:
                logger.warning("fan-out: trying again", error=repr(error), rows=self._bounds.rows)
                await asyncio.sleep(backoff.next())

    async def _handle_events(self, backoff: Backoff) -> None:
        """Handles events until another instance does."""
        self._position = await self._starting_position()
        self._passed_over, self._stored_at = False, time.monotonic()
        async with aclosing(self._reader.follow(self._position, page=_PAGE_EVENTS)) as pages:
            async for page in pages:
                if not await self._handle_page(page):
                    return
                backoff.reset()

    async def _handle_page(self, page: Page) -> bool:
        """Writes the page's deliveries, part by part; False when another instance has moved the position."""
        if page.events:
            await self._subscribers.refresh({event.tenant for event in page.events})
        rest, shares = page.events, Shares()
        while True:
            part = next_part(rest, self._subscribers, self._bounds, shares)
            last = part.handled == len(rest)
            end = page.cursor if last else rest[part.handled - 1].cursor
            if (part.events or self._time_to_store_position(end)) and not await self._write(part, end):
                return False
            if rest and end != self._position:
                self._passed_over = True
            if part.deliveries:
                self._wake()
            if part.owed:
                self._owed.notify()
            if last:
                break
            rest = rest[part.handled :]
        if page.events:
            EVENTS.inc(len(page.events))
            LAG.set(time.time() - to_timestamp(page.events[-1].commit_time).ToNanoseconds() / 1e9)
        return True

    async def _write(self, part: Part, end: Cursor) -> bool:
        """Stores a part and the position behind it; False when somebody else has moved the position.

        What fails is tried again as less: the bounds get smaller, and the caller starts from the stored
        position. What the database refuses by itself is left out, so that it stops nothing behind it.
        """
        began = time.time_ns()
        try:
            moved = not await self._advance(part, end)
        except UNSTORABLE as error:
            HALVED.labels("fan-out").inc()
            if len(part.events) > 1 or self._bounds != LEAST:
                self._bounds = LEAST
                logger.warning("fan-out: trying events one by one", error=repr(error))
                raise Smaller from error
            SKIPPED.inc()
            logger.exception("fan-out: an event cannot be stored, skipped", id=str(part.events[0][0].id))
            moved = not await self._advance(Part(), end)
        except UNAVAILABLE:
            HALVED.labels("fan-out").inc()
            self._bounds = self._bounds.halved()
            raise
        else:
            self._bounds = self._bounds.doubled()
        if not moved:
            self._position, self._passed_over, self._stored_at = end, False, time.monotonic()
            tracing.record_batch(
                "mesh.webhook.batch",
                "mesh.webhook.fan_out",
                [traceparent for _, _, traceparent in part.events],
                {"mesh.webhook.events": len(part.events), "mesh.webhook.deliveries": len(part.deliveries)},
                start=began,
            )
        return not moved

    async def _advance(self, part: Part, end: Cursor) -> bool:
        """Raises `Changed`, so that what is no more stored is read again instead of told."""
        start, read = self._position, [event for event, _, _ in part.events]
        done: bool | None = await self._pool.fetchval(
            _ADVANCE,
            _READER_NAME,
            start.generation,
            start.xid,
            start.seq,
            end.xid,
            end.seq,
            *part.columns(),
            [event.cursor.xid for event in read],
            [event.cursor.seq for event in read],
            [len(event.body) for event in read],
        )
        if done is None:
            raise Changed
        return done

    def _time_to_store_position(self, end: Cursor) -> bool:
        """Unwanted events move the stored position too, but rarely: an idle database gets no writes."""
        since = time.monotonic() - self._stored_at
        return end != self._position and since > (
            _STORE_SECONDS if self._passed_over else _STORE_IDLE_SECONDS
        )

    async def _stand_by(self) -> None:
        """Returns when events wait and the position has not moved between two looks."""
        logger.info("fan-out: another instance is ahead, standing by")
        seen = None
        while True:
            position = await self._stored_position()
            if position == seen and (await self._reader.read(position, 1)).events:
                logger.info("fan-out: taking over")
                return
            seen = position
            await asyncio.sleep(_STAND_BY_SECONDS)

    async def _starting_position(self) -> Cursor:
        """The stored position.

        A database restored on another server has a new generation, in which positions mean something else:
        there the fan-out starts with the first event. An event that was delivered before is recognised by its
        delivery.
        """
        position = await self._stored_position()
        if position.generation == self._reader.generation:
            return position
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(_RESTART, _READER_NAME, self._reader.generation)
            await connection.execute("UPDATE webhook_endpoint SET since = '1:1:'")
        return await self._stored_position()

    async def _stored_position(self) -> Cursor:
        [row] = await self._pool.fetch(_POSITION, _READER_NAME)
        return Cursor(row["generation"], row["xid"], row["seq"])


_READ_AGAIN: tuple[type[Exception], ...] = (Changed, *AGAIN)
_READER_NAME = "fan-out"
_PAGE_EVENTS = 500
_STORE_SECONDS = 0.5
_STORE_IDLE_SECONDS = 60.0
_STAND_BY_SECONDS = 1.0
_FIRST_PAUSE_SECONDS = 0.5
_MAX_PAUSE_SECONDS = 2.0
_RESTART = "UPDATE webhook_reader SET generation = $2, xid = '0', seq = 0 WHERE name = $1 AND generation < $2"
_POSITION = "SELECT generation, xid, seq FROM webhook_reader WHERE name = $1"
# In one statement: an erasure waits for those that began before it emptied the events.
_ADVANCE = """SELECT CASE WHEN NOT EXISTS (
    SELECT FROM unnest($20::xid8[], $21::int[], $7::uuid[], $22::int[]) AS r(xid, seq, id, size)
    WHERE (SELECT octet_length(e.body) FROM event e WHERE e.xid = r.xid AND e.seq = r.seq AND e.id = r.id)
      IS DISTINCT FROM r.size)
  THEN webhook_advance($1, $2, $3::xid8, $4, $5::xid8, $6,
    $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17::xid8[], $18, $19) END"""
