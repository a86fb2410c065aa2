"""A pool that answers in time when Postgres does not: when it is frozen, or its machine is gone.

asyncpg waits as long as a statement may take for a cancelled one to be confirmed, and for ever for a free
connection.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import asyncpg
from asyncpg.pool import PoolAcquireContext

ACQUIRE_SECONDS = 3.0
"""How long to wait for a connection that is free, or made."""
CANCEL_SECONDS = 1.0
"""How long to wait until Postgres confirms that a statement is cancelled."""
_STALLED_SECONDS = 1.0


class BoundedPool(asyncpg.Pool):
    """Raises `TimeoutError`, which is one of `UNAVAILABLE`, instead of waiting longer than these bounds."""

    __slots__ = ("_stalled_until",)

    def __init__(self, url: str, *, min_size: int, max_size: int, **how: Any) -> None:
        """`how`: as `asyncpg.connect` takes it, and `reset` of `asyncpg.create_pool`."""
        super().__init__(
            url,
            min_size=min_size,
            max_size=max_size,
            max_queries=50_000,
            max_inactive_connection_lifetime=300.0,
            loop=asyncio.get_running_loop(),
            connection_class=asyncpg.Connection,
            record_class=asyncpg.Record,
            **how,
        )
        self._stalled_until = 0.0

    @property
    def waiting(self) -> int:
        """How many wait for a connection."""
        return len(self._queue._getters)  # type: ignore[attr-defined]  # asyncpg counts them nowhere else

    def acquire(self, *, timeout: float | None = None) -> PoolAcquireContext:
        """Raises at once in the second after Postgres did not even confirm that a statement was cancelled."""
        if time.monotonic() < self._stalled_until:
            raise TimeoutError("Postgres does not answer")
        if timeout is None and not self.get_idle_size():  # asyncpg makes a task to wait with a bound
            timeout = ACQUIRE_SECONDS
        return super().acquire(timeout=timeout)

    async def release(self, connection: Any, *, timeout: float | None = None) -> None:
        """Never raises for what Postgres does not answer: the connection is closed then."""
        try:
            await super().release(connection, timeout=CANCEL_SECONDS if timeout is None else timeout)
        except TimeoutError:
            self._stalled_until = time.monotonic() + _STALLED_SECONDS
