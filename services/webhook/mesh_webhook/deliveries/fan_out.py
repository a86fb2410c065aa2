"""Turns events into deliveries: each event once for each endpoint that wants it.

Deliveries and the position that the fan-out has reached are written by one function in one transaction, which
first compares the position. So a process may be killed at any moment, and any number of instances may run:
the second one to handle an event finds that the position has moved, and writes nothing. To save that work,
such an instance stands by until the position stops moving while there are events after it.

An endpoint gets no event that was committed before it was created, and every event that it wants after that.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

import structlog
from asyncpg.pgproto.pgproto import UUID
from prometheus_client import Counter, Gauge

from mesh_core import ids
from mesh_core.backoff import Backoff
from mesh_core.database import UNAVAILABLE, Database
from mesh_core.events import Cursor, EventReader, Page, StoredEvent
from mesh_webhook.endpoints.endpoint_cache import EndpointCache
from mesh_webhook.events.rendering import event_body, event_message

logger = structlog.get_logger(__name__)

LAG = Gauge("mesh_webhook_fan_out_lag_seconds", "Age of the event that the fan-out handled last")
EVENTS = Counter("mesh_webhook_events", "Events handled by the fan-out")


class FanOut:
    """The fan-out of this process; `run` it as a task. `wake` is called after deliveries were committed."""

    def __init__(
        self, database: Database, reader: EventReader, endpoints: EndpointCache, wake: Callable[[], None]
    ) -> None:
        self._pool = database.pool
        self._reader = reader
        self._endpoints = endpoints
        self._wake = wake
        self._position = Cursor(reader.generation, 0, 0)
        self._stored_at = 0.0

    async def run(self) -> None:
        """Runs until it is cancelled; waits out a database that is unavailable."""
        backoff = Backoff(_FIRST_PAUSE_SECONDS, _MAX_PAUSE_SECONDS)
        while True:
            try:
                await self._endpoints.load()
                backoff.reset()
                await self._handle_events()
                await self._stand_by()
            except UNAVAILABLE as error:
                logger.warning("fan-out: the database is unavailable", error=repr(error))
                await asyncio.sleep(backoff.next())

    async def _handle_events(self) -> None:
        """Handles events until another instance does."""
        self._position = await self._starting_position()
        self._stored_at = time.monotonic()
        async with aclosing(self._reader.follow(self._position, page=_PAGE_EVENTS)) as pages:
            async for page in pages:
                if not await self._handle_page(page):
                    return

    async def _handle_page(self, page: Page) -> bool:
        """Writes the page's deliveries; False when another instance has moved the position."""
        while True:
            batch = _Batch()
            for event in page.events:
                self._match(event, batch)
            if batch.id or self._time_to_store_position(page):
                outcome = await self._write(page, batch)
            else:
                outcome = await self._pass_over(page)
            if outcome is _Outcome.POSITION_MOVED:
                return False
            if outcome is _Outcome.DONE:
                break
            await self._endpoints.load()
        if batch.id:
            self._wake()
        if page.events:
            EVENTS.inc(len(page.events))
            LAG.set((datetime.now(UTC) - page.events[-1].commit_time).total_seconds())
        return True

    async def _write(self, page: Page, batch: _Batch) -> _Outcome:
        outcome = _Outcome(
            await self._pool.fetchval(
                _WRITE,
                _READER_NAME,
                self._position.generation,
                self._position.xid,
                self._position.seq,
                page.cursor.xid,
                page.cursor.seq,
                self._endpoints.revision,
                *batch.columns(),
            )
        )
        if outcome is _Outcome.DONE:
            self._position = page.cursor
            self._stored_at = time.monotonic()
        return outcome

    async def _pass_over(self, page: Page) -> _Outcome:
        """Writes nothing for events that no endpoint wants, if the cached endpoints are the present ones."""
        if not page.events or await self._pool.fetchval(_REVISION) == self._endpoints.revision:
            return _Outcome.DONE
        return _Outcome.ENDPOINTS_CHANGED

    def _match(self, stored: StoredEvent, batch: _Batch) -> None:
        """Adds a delivery of the event for each endpoint that wants it."""
        candidates = self._endpoints.candidates(stored)
        if not candidates:
            return
        event = event_message(stored)
        wanting = [one.endpoint for one in candidates if one.filter.matches_labels(event.labels)]
        if wanting:
            body = event_body(stored, event)
            # Postgres refuses some text that a proto can hold, so only a well-formed traceparent is stored.
            traceparent = event.traceparent if _is_traceparent(event.traceparent) else ""
            for endpoint in wanting:
                batch.add(stored, endpoint.id, body, traceparent)

    def _time_to_store_position(self, page: Page) -> bool:
        """Unwanted events move the stored position too, but rarely: an idle database gets no writes."""
        since = time.monotonic() - self._stored_at
        interval = _STORE_SECONDS if page.events else _STORE_IDLE_SECONDS
        return page.cursor != self._position and since > interval

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
            await connection.execute(_SEND_FROM_FIRST_EVENT)
        await self._endpoints.load()
        return await self._stored_position()

    async def _stored_position(self) -> Cursor:
        [row] = await self._pool.fetch(_POSITION, _READER_NAME)
        return Cursor(row["generation"], row["xid"], row["seq"])


class _Outcome(StrEnum):
    """What `webhook_fan_out` answers; it has written nothing unless it is DONE."""

    DONE = "done"
    POSITION_MOVED = "moved"
    ENDPOINTS_CHANGED = "changed"


@dataclass(slots=True)
class _Batch:
    """Deliveries in columns, as `webhook_fan_out` takes them."""

    id: list[UUID] = field(default_factory=list)
    endpoint: list[UUID] = field(default_factory=list)
    tenant: list[UUID] = field(default_factory=list)
    account: list[UUID | None] = field(default_factory=list)
    event: list[UUID] = field(default_factory=list)
    type: list[str] = field(default_factory=list)
    body: list[bytes] = field(default_factory=list)
    traceparent: list[str] = field(default_factory=list)

    def add(self, stored: StoredEvent, endpoint: UUID, body: bytes, traceparent: str) -> None:
        self.id.append(ids.new_uuid())
        self.endpoint.append(endpoint)
        self.tenant.append(stored.tenant)
        self.account.append(stored.account if stored.account.int else None)
        self.event.append(stored.id)
        self.type.append(stored.type)
        self.body.append(body)
        self.traceparent.append(traceparent)

    def columns(self) -> tuple[list[object], ...]:
        """In the order of the function's parameters."""
        return (
            [*self.id],
            [*self.endpoint],
            [*self.tenant],
            [*self.account],
            [*self.event],
            [*self.type],
            [*self.body],
            [*self.traceparent],
        )


_is_traceparent = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}").fullmatch
_READER_NAME = "fan-out"
_PAGE_EVENTS = 500
_STORE_SECONDS = 0.5
_STORE_IDLE_SECONDS = 60.0
_STAND_BY_SECONDS = 1.0
_FIRST_PAUSE_SECONDS = 0.5
_MAX_PAUSE_SECONDS = 2.0
_RESTART = "UPDATE webhook_reader SET generation = $2, xid = '0', seq = 0 WHERE name = $1 AND generation < $2"
_SEND_FROM_FIRST_EVENT = """WITH raised AS (UPDATE webhook_revision SET revision = revision + 1)
  UPDATE webhook_endpoint SET since = '1:1:'"""
_POSITION = "SELECT generation, xid, seq FROM webhook_reader WHERE name = $1"
_REVISION = "SELECT revision FROM webhook_revision"
_WRITE = (
    "SELECT webhook_fan_out($1, $2, $3::xid8, $4, $5::xid8, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)"
)
