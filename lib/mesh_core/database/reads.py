"""Reads of a service that works both for callers and by itself: what a call reads takes one of the
connections that callers share, and what the service reads by itself one of the others: neither waits for the
other, however many wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Protocol

from asyncpg import Record
from asyncpg.pgproto.pgproto import UUID
from asyncpg.pool import PoolConnectionProxy

from mesh_core.database.callers import SEARCH_SECONDS, too_long
from mesh_core.database.pool import Database


class Reads(Protocol):
    """What reads: a pool, or a share of one."""

    async def fetch(self, query: str, *args: Any, timeout: float | None = None) -> list[Record]: ...
    async def fetchrow(self, query: str, *args: Any, timeout: float | None = None) -> Record | None: ...
    async def fetchval(self, query: str, *args: Any, timeout: float | None = None) -> Any: ...


class SharedReads:
    """Implements `Reads`. `caller` says whose call this task serves; None: nobody's."""

    def __init__(self, database: Database, caller: Callable[[], UUID | None]) -> None:
        self._pool = database.pool
        self._callers = database.callers
        self._caller = caller
        most: int = database.pool.get_max_size()
        self._own = asyncio.Semaphore(max(1, most - most // 2))

    async def fetch(self, query: str, *args: Any, timeout: float | None = None) -> list[Record]:
        async with self._acquire() as connection:
            return await connection.fetch(query, *args, timeout=timeout)

    async def fetchrow(self, query: str, *args: Any, timeout: float | None = None) -> Record | None:
        async with self._acquire() as connection:
            return await connection.fetchrow(query, *args, timeout=timeout)

    async def fetchval(self, query: str, *args: Any, timeout: float | None = None) -> Any:
        async with self._acquire() as connection:
            return await connection.fetchval(query, *args, timeout=timeout)

    @asynccontextmanager
    async def _acquire(self) -> AsyncIterator[PoolConnectionProxy]:
        if (tenant := self._caller()) is not None:
            async with self._callers.of(tenant).acquire() as connection:
                yield connection
        else:
            async with self._own, self._pool.acquire() as connection:
                yield connection


async def searched(reads: Reads, query: str, *args: Any) -> list[Record]:
    """The rows of a statement that may look through all that an account has. Raises as `CallerPool.search`
    does.
    """
    try:
        return await reads.fetch(query, *args, timeout=SEARCH_SECONDS)
    except TimeoutError:
        raise await too_long(reads) from None
