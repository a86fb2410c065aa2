"""One Subscribe call: past events from the database, then new ones from the tail, without a gap between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import suppress

from asyncpg.pgproto.pgproto import UUID

from mesh_core.errors import GoingAway
from mesh_core.events import Cursor, EventReader, StoredEvent
from mesh_core.paging import MAX_BYTES
from mesh_core.rpc.server import Draining
from mesh_webhook.events.filters import EventFilter
from mesh_webhook.events.rendering import event_frames, heartbeat_frame, matching_events
from mesh_webhook.events.tail import Follower, Tail
from sessionmesh.v1.event_pb2 import SubscribeResponse

HEARTBEAT_SECONDS = 15.0
"""A stream on which nothing happens gets a heartbeat this often."""


class EventStream:
    """The events of a tenant after a cursor that pass a filter; `frames` never ends by itself."""

    def __init__(
        self,
        reader: EventReader,
        tail: Tail,
        draining: Draining,
        tenant: UUID,
        wanted: EventFilter,
        cursor: Cursor,
    ) -> None:
        self._reader = reader
        self._tail = tail
        self._draining = draining
        self._tenant = tenant
        self._wanted = wanted
        self._cursor = cursor

    async def frames(self) -> AsyncGenerator[SubscribeResponse, None]:
        """Frames in order; the first is a heartbeat with the cursor at which the stream starts.

        Raises `GoingAway` when the server drains, with the cursor as resume token, and `OutOfRange` when
        events were deleted before the stream, which fell behind, had read them.
        """
        yield heartbeat_frame(self._cursor)
        while True:
            follower = await self._tail.attach(self._tenant)
            try:
                async for frame in self._read_database(self._tail.position):
                    yield frame
                async for frame in self._follow(follower):
                    yield frame
            finally:
                self._tail.detach(follower)

    async def _read_database(self, until: Cursor) -> AsyncGenerator[SubscribeResponse, None]:
        while self._cursor < until:
            self._check_draining()
            page = await self._reader.read(self._cursor, _PAGE_EVENTS, tenant=self._tenant)
            await self._reader.check(self._cursor, self._tenant)  # else events before the page are gone
            for frame in self._render(page.events):
                yield frame
            if page.cursor > self._cursor:
                self._cursor = page.cursor

    async def _follow(self, follower: Follower) -> AsyncGenerator[SubscribeResponse, None]:
        """Ends when the follower has fallen behind."""
        while not follower.fell_behind:
            self._check_draining()
            follower.changed.clear()
            if follower.events:
                waiting = follower.take(_PAGE_EVENTS, MAX_BYTES)
                for frame in self._render(event for event in waiting if event.cursor > self._cursor):
                    yield frame
                self._cursor = max(self._cursor, waiting[-1].cursor)
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT_SECONDS):
                    await follower.changed.wait()
            if not follower.events and not follower.fell_behind and not self._draining.begun:
                # The tail hands over a whole page before it moves its position, so with an empty buffer this
                # stream has seen everything up to that position.
                self._cursor = max(self._cursor, self._tail.position)
                yield heartbeat_frame(self._cursor)

    def _render(self, stored: Iterable[StoredEvent]) -> Iterator[SubscribeResponse]:
        return event_frames(matching_events(stored, self._wanted))

    def _check_draining(self) -> None:
        if self._draining.begun:
            raise GoingAway(self._cursor.encode())


_PAGE_EVENTS = 100
