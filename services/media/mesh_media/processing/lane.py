"""So many jobs at once, in turns over the tenants."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from asyncpg.pgproto.pgproto import UUID
from prometheus_client import Gauge

from mesh_core.turns import Turns

WAITING = Gauge("mesh_media_processing_waiting", "Files whose turn to be processed has not come.", ["lane"])


class Lane:
    """Places for `places` jobs, so that a tenant with hundreds in the queue delays another one's by one."""

    def __init__(self, name: str, places: int) -> None:
        """`name` is a value of a metric's label."""
        self._free = places
        self._waiting = WAITING.labels(name)
        self._turns: Turns[asyncio.Event] = Turns()

    @asynccontextmanager
    async def place(self, tenant: UUID) -> AsyncIterator[None]:
        """Has a place until the block ends, once it is the tenant's turn."""
        called = asyncio.Event()
        self._turns.add(tenant, called)
        self._call_next()
        self._waiting.set(len(self._turns))
        try:
            await called.wait()
        except asyncio.CancelledError:
            if not self._turns.discard(tenant, called):  # it was called just now
                self._end()
            raise
        finally:
            self._waiting.set(len(self._turns))
        try:
            yield
        finally:
            self._end()

    def _end(self) -> None:
        self._free += 1
        self._call_next()

    def _call_next(self) -> None:
        while self._free and (called := self._turns.take()) is not None:
            self._free -= 1
            called.set()
