"""Turns events into deliveries: each event once for each endpoint that wants it.

Deliveries and the position that the fan-out has reached are written by one function in one transaction, which
first compares the position. So a process may be killed at any moment, and any number of instances may run:
whoever comes second with an event finds that the position has moved and writes nothing. To save the work of
coming second, such an instance stands by until the position stops moving while there are events behind it.

An endpoint gets no event that was committed before it was created, and every one that it wants after that.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime

import structlog
from asyncpg.pgproto.pgproto import UUID

from mesh_core import ids
from mesh_core.database import Database
from mesh_core.events import Cursor, EventReader, Page, StoredEvent
from mesh_webhook import metrics, rendering
from mesh_webhook.away import AWAY
from mesh_webhook.catalogue import Catalogue

logger = structlog.get_logger(__name__)


class FanOut:
    """The fan-out of this process; `run` it as a task. `wake` is called after deliveries were committed."""

    def __init__(
        self, database: Database, reader: EventReader, catalogue: Catalogue, wake: Callable[[], None]
    ) -> None:
        self._pool = database.pool
        self._reader = reader
        self._catalogue = catalogue
        self._wake = wake
        self._position = Cursor(reader.generation, 0, 0)
        self._stored_at = 0.0

    async def run(self) -> None:
        """Until it is cancelled; a database that is away is waited for."""
        while True:
            try:
                await self._catalogue.load()
                await self._lead()
                await self._stand_by()
            except AWAY as error:
                logger.warning("fan-out: the database is away", error=repr(error))
                await asyncio.sleep(_RETRY)

    async def _lead(self) -> None:
        """Handle events until another instance does."""
        self._position = await self._begin()
        self._stored_at = time.monotonic()
        async with aclosing(self._reader.follow(self._position, page=_PAGE)) as pages:
            async for page in pages:
                if not await self._handle(page):
                    return

    async def _handle(self, page: Page) -> bool:
        """Write what the page brings; False when the position has moved under us."""
        while True:
            batch = _Batch()
            for event in page.events:
                self._match(event, batch)
            if batch.id or self._time_to_store(page):
                answer = await self._write(page, batch)
            else:
                answer = await self._skip(page)
            if answer == "moved":
                return False
            if answer == "done":
                break
            await self._catalogue.load()
        if batch.id:
            self._wake()
        if page.events:
            metrics.fanned_out.inc(len(page.events))
            metrics.fan_out_lag.set((datetime.now(UTC) - page.events[-1].commit_time).total_seconds())
        return True

    async def _write(self, page: Page, batch: _Batch) -> str:
        answer: str = await self._pool.fetchval(
            _WRITE,
            _NAME,
            self._position.generation,
            self._position.xid,
            self._position.seq,
            page.cursor.xid,
            page.cursor.seq,
            self._catalogue.revision,
            *batch.columns(),
        )
        if answer == "done":
            self._position = page.cursor
            self._stored_at = time.monotonic()
        return answer

    async def _skip(self, page: Page) -> str:
        """Pass events by that nobody wants, having made sure that no endpoint is newer than the catalogue."""
        if not page.events or await self._pool.fetchval(_REVISION) == self._catalogue.revision:
            return "done"
        return "changed"

    def _match(self, stored: StoredEvent, batch: _Batch) -> None:
        candidates = self._catalogue.candidates(stored)
        if not candidates:
            return
        event = rendering.complete(stored)
        wanting = [one.endpoint for one in candidates if one.filter.wants_labels(event.labels)]
        if wanting:
            body = rendering.to_json(event)
            # Text in Postgres cannot hold all that text in a proto can: only what is a traceparent is kept.
            traceparent = event.traceparent if _is_traceparent(event.traceparent) else ""
            for endpoint in wanting:
                batch.add(stored, endpoint.id, body, traceparent)

    def _time_to_store(self, page: Page) -> bool:
        """Unwanted events move the position too, though not at once; an idle database is left idle."""
        since = time.monotonic() - self._stored_at
        return page.cursor != self._position and since > (_STORE_EVERY if page.events else _STORE_IDLE_EVERY)

    async def _stand_by(self) -> None:
        """Return when events wait and the position has not moved between two looks."""
        logger.info("fan-out: another instance is ahead, standing by")
        seen = None
        while True:
            position = await self._stored_position()
            if position == seen and (await self._reader.read(position, 1)).events:
                logger.info("fan-out: taking over")
                return
            seen = position
            await asyncio.sleep(_LOOK_EVERY)

    async def _begin(self) -> Cursor:
        """Where to go on.

        In a database that another server has adopted positions have changed: at its first event. What was
        delivered before is known by its delivery.
        """
        position = await self._stored_position()
        if position.generation == self._reader.generation:
            return position
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(_RESTART, _NAME, self._reader.generation)
            await connection.execute(_FROM_FIRST)
        await self._catalogue.load()
        return await self._stored_position()

    async def _stored_position(self) -> Cursor:
        [row] = await self._pool.fetch(_POSITION, _NAME)
        return Cursor(row["generation"], row["xid"], row["seq"])


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
_NAME = "fan-out"
_PAGE = 500
_STORE_EVERY = 0.5
_STORE_IDLE_EVERY = 60.0
_LOOK_EVERY = 1.0
_RETRY = 0.5
_RESTART = "UPDATE webhook_reader SET generation = $2, xid = '0', seq = 0 WHERE name = $1 AND generation < $2"
_FROM_FIRST = """WITH raised AS (UPDATE webhook_revision SET revision = revision + 1)
  UPDATE webhook_endpoint SET since = '1:1:'"""
_POSITION = "SELECT generation, xid, seq FROM webhook_reader WHERE name = $1"
_REVISION = "SELECT revision FROM webhook_revision"
_WRITE = (
    "SELECT webhook_fan_out($1, $2, $3::xid8, $4, $5::xid8, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)"
)
