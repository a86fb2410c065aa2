"""One Subscribe call: past events out of the database, then the tail, without a gap between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import suppress

from asyncpg.pgproto.pgproto import UUID

from mesh_core.errors import GoingAway
from mesh_core.events import Cursor, EventReader, StoredEvent
from mesh_core.rpc.server import Draining
from mesh_webhook import rendering
from mesh_webhook.filters import EventFilter
from mesh_webhook.tail import Follower, Tail
from sessionmesh.v1.event_pb2 import Event, EventBatch, Heartbeat, SubscribeResponse

HEARTBEAT_EVERY = 15.0
MOST_IN_A_FRAME = 100


class EventStream:
    """The events of a tenant behind a cursor that pass a filter; `frames` never ends by itself."""

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
        """Frames in order, the first a heartbeat that says where the stream begins.

        Raises `GoingAway`, with the cursor in hex as resume token, when the server drains.
        """
        yield self._heartbeat()
        while True:
            follower = await self._tail.attach(self._tenant)
            try:
                async for frame in self._catch_up(self._tail.position):
                    yield frame
                async for frame in self._follow(follower):
                    yield frame
            finally:
                self._tail.detach(follower)

    async def _catch_up(self, until: Cursor) -> AsyncGenerator[SubscribeResponse, None]:
        while self._cursor < until:
            self._check_draining()
            page = await self._reader.read(self._cursor, _PAGE, tenant=self._tenant)
            for frame in self._frames_of(page.events):
                yield frame
            if page.cursor > self._cursor:
                self._cursor = page.cursor

    async def _follow(self, follower: Follower) -> AsyncGenerator[SubscribeResponse, None]:
        """Until the follower has lost its place."""
        while not follower.lost:
            self._check_draining()
            follower.wake.clear()
            if follower.events:
                waiting = [follower.events.popleft() for _ in range(min(len(follower.events), _PAGE))]
                for frame in self._frames_of(event for event in waiting if event.cursor > self._cursor):
                    yield frame
                self._cursor = max(self._cursor, waiting[-1].cursor)
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT_EVERY):
                    await follower.wake.wait()
            if not follower.events and not follower.lost and not self._draining.begun:
                # The tail hands a page over whole before it moves: with nothing waiting, all of it was seen.
                self._cursor = max(self._cursor, self._tail.position)
                yield self._heartbeat()

    def _frames_of(self, stored: Iterable[StoredEvent]) -> Iterator[SubscribeResponse]:
        events = passing(stored, self._wanted)
        for first in range(0, len(events), MOST_IN_A_FRAME):
            yield SubscribeResponse(events=EventBatch(events=events[first : first + MOST_IN_A_FRAME]))

    def _check_draining(self) -> None:
        if self._draining.begun:
            raise GoingAway(self._cursor.encode().hex())

    def _heartbeat(self) -> SubscribeResponse:
        return SubscribeResponse(heartbeat=Heartbeat(cursor=self._cursor.encode()))


def passing(stored: Iterable[StoredEvent], wanted: EventFilter) -> list[Event]:
    """The events that pass, complete."""
    candidates = (rendering.complete(event) for event in stored if wanted.wants(event.type, event.account))
    return [event for event in candidates if wanted.wants_labels(event.labels)]


_PAGE = 500
