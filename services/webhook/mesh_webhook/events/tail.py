"""The newest events, read from the database once for all streams of the process.

A stream that keeps up gets its events from memory. One that falls behind by more than its buffer loses the
buffer, but no events: it reads from the database again until it has caught up.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from contextlib import aclosing

import structlog
from asyncpg.pgproto.pgproto import UUID

from mesh_core.backoff import Backoff
from mesh_core.database import UNAVAILABLE
from mesh_core.events import Cursor, EventReader, StoredEvent
from mesh_core.rpc.server import Draining
from mesh_core.signal import Signal

logger = structlog.get_logger(__name__)

MAX_BUFFERED_EVENTS = 2000
MAX_BUFFERED_BYTES = 8 * 1024 * 1024
"""How many events, of how many bytes together, may wait for one stream; a single one may be of any size."""


class Follower:
    """One stream's buffer: the events of its tenant that the tail read since it was attached, in order."""

    def __init__(self, tenant: UUID) -> None:
        self.tenant = tenant
        self.events: deque[StoredEvent] = deque()
        self.fell_behind = False
        """The buffer has a gap: the stream must read the database, and attach a new follower."""
        self.changed = asyncio.Event()
        self._bytes = 0

    def put(self, event: StoredEvent) -> None:
        """Buffers an event; with a full buffer the follower falls behind."""
        self._bytes += len(event.body)
        if self.events and (len(self.events) >= MAX_BUFFERED_EVENTS or self._bytes > MAX_BUFFERED_BYTES):
            self.fall_behind()
        if not self.fell_behind:
            self.events.append(event)
            self.changed.set()

    def take(self, events: int, size: int) -> list[StoredEvent]:
        """The next ones, buffered no more: at most `events`, and so few that the last brings them to `size`
        bytes.
        """
        taken: list[StoredEvent] = []
        while self.events and len(taken) < events and size > 0:
            event = self.events.popleft()
            size -= len(event.body)
            self._bytes -= len(event.body)
            taken.append(event)
        return taken

    def fall_behind(self) -> None:
        """Drops the buffer: from now on the stream has to read the database."""
        self.events.clear()
        self._bytes = 0
        self.fell_behind = True
        self.changed.set()


class Tail:
    """Reads new events while there are followers; `run` it as a task."""

    def __init__(self, reader: EventReader) -> None:
        self.position = Cursor(0, 0, 0)
        self._reader = reader
        self._followers: dict[UUID, set[Follower]] = defaultdict(set)
        self._reading = False
        self._changed = Signal()
        self._backoff = Backoff(_FIRST_PAUSE_SECONDS, _MAX_PAUSE_SECONDS)

    async def attach(self, tenant: UUID) -> Follower:
        """A follower that gets every event after `position` as of its return, and possibly earlier ones."""
        follower = Follower(tenant)
        self._followers[tenant].add(follower)
        self._changed.notify()
        try:
            await self._changed.wait_until(lambda: self._reading)
        except asyncio.CancelledError:
            self.detach(follower)
            raise
        return follower

    def detach(self, follower: Follower) -> None:
        """The follower gets no more events: its stream has ended, or reads the database."""
        self._followers[follower.tenant].discard(follower)
        if not self._followers[follower.tenant]:
            del self._followers[follower.tenant]

    async def wake_on_drain(self, draining: Draining) -> None:
        """Wakes all streams when the server drains, so that they end with their resume tokens."""
        await draining.wait()
        for follower in self._all_followers():
            follower.changed.set()

    async def run(self) -> None:
        """Runs until it is cancelled; waits out a database that is unavailable."""
        while True:
            await self._changed.wait_until(lambda: self._followers)
            try:
                await self._read()
            except UNAVAILABLE as error:
                logger.warning("event tail: the database is unavailable", error=repr(error))
            self._reading = False
            for follower in self._all_followers():
                follower.fall_behind()
            if self._followers:
                await asyncio.sleep(self._backoff.next())

    async def _read(self) -> None:
        """Reads until there is no follower any more; raises when the database becomes unavailable."""
        self.position = await self._reader.latest()
        self._backoff.reset()
        self._reading = True
        self._changed.notify()
        async with aclosing(self._reader.follow(self.position)) as pages:
            async for page in pages:
                if not self._followers:
                    return
                for event in page.events:
                    for follower in self._followers.get(event.tenant, ()):
                        follower.put(event)
                self.position = page.cursor

    def _all_followers(self) -> list[Follower]:
        return [follower for followers in self._followers.values() for follower in followers]


_FIRST_PAUSE_SECONDS = 0.5
_MAX_PAUSE_SECONDS = 2.0
