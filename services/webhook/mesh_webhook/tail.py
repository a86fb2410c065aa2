"""The newest events, read once for all streams of the process.

A stream that keeps up gets events out of memory. One that falls behind by more than its buffer loses the
buffer, not its place: it reads from the database again until it has caught up.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from contextlib import aclosing

import structlog
from asyncpg.pgproto.pgproto import UUID

from mesh_core.events import Cursor, EventReader, StoredEvent
from mesh_core.rpc.server import Draining
from mesh_webhook.away import AWAY

logger = structlog.get_logger(__name__)

BUFFER = 2000
"""Events that wait for one stream."""


class Follower:
    """One stream's share of the tail: what came for its tenant after it was attached, in order."""

    def __init__(self, tenant: UUID) -> None:
        self.tenant = tenant
        self.events: deque[StoredEvent] = deque()
        self.lost = False
        self.wake = asyncio.Event()

    def put(self, event: StoredEvent) -> None:
        """Take an event, or lose the place in memory when the stream is too slow."""
        if len(self.events) >= BUFFER:
            self.lose()
        if not self.lost:
            self.events.append(event)
            self.wake.set()

    def lose(self) -> None:
        """From now on the stream has to read the database."""
        self.events.clear()
        self.lost = True
        self.wake.set()


class Tail:
    """Reads while there are followers; `run` it as a task."""

    def __init__(self, reader: EventReader) -> None:
        self.position = Cursor(0, 0, 0)
        self._reader = reader
        self._followers: dict[UUID, set[Follower]] = defaultdict(set)
        self._wanted = asyncio.Event()
        self._reading = asyncio.Event()

    async def attach(self, tenant: UUID) -> Follower:
        """A follower that gets everything behind `position` as this returns, and maybe some before."""
        follower = Follower(tenant)
        self._followers[tenant].add(follower)
        self._wanted.set()
        try:
            await self._reading.wait()
        except asyncio.CancelledError:
            self.detach(follower)
            raise
        return follower

    def detach(self, follower: Follower) -> None:
        """The stream has ended, or reads the database."""
        self._followers[follower.tenant].discard(follower)
        if not self._followers[follower.tenant]:
            del self._followers[follower.tenant]
        if not self._followers:
            self._wanted.clear()

    async def wake_on(self, draining: Draining) -> None:
        """Wake all streams when the server drains, so that they can say where they stand."""
        await draining.wait()
        for followers in self._followers.values():
            for follower in followers:
                follower.wake.set()

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            await self._wanted.wait()
            try:
                await self._read()
            except AWAY as error:
                logger.warning("event tail: the database is away", error=repr(error))
            self._reading.clear()
            for followers in self._followers.values():
                for follower in followers:
                    follower.lose()
            if self._wanted.is_set():
                await asyncio.sleep(_RETRY)

    async def _read(self) -> None:
        """Read until nobody follows any more, or the database goes away."""
        self.position = await self._reader.latest()
        self._reading.set()
        async with aclosing(self._reader.follow(self.position)) as pages:
            async for page in pages:
                if not self._wanted.is_set():
                    return
                for event in page.events:
                    for follower in self._followers.get(event.tenant, ()):
                        follower.put(event)
                self.position = page.cursor


_RETRY = 0.5
