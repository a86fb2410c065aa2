"""Reads of a service that works both for callers and by itself: what a call reads takes one of the
connections that callers share, and what the service reads by itself waits for no caller.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

from asyncpg import Record
from asyncpg.pgproto.pgproto import UUID

from mesh_core.database.callers import SEARCH_SECONDS
from mesh_core.database.pool import Database
from mesh_core.errors import DeadlineExceeded

T = TypeVar("T")


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

    async def fetch(self, query: str, *args: Any, timeout: float | None = None) -> list[Record]:
        if (tenant := self._caller()) is None:
            return await self._pool.fetch(query, *args, timeout=timeout)
        async with self._callers.of(tenant).acquire() as connection:
            return await connection.fetch(query, *args, timeout=timeout)

    async def fetchrow(self, query: str, *args: Any, timeout: float | None = None) -> Record | None:
        if (tenant := self._caller()) is None:
            return await self._pool.fetchrow(query, *args, timeout=timeout)
        async with self._callers.of(tenant).acquire() as connection:
            return await connection.fetchrow(query, *args, timeout=timeout)

    async def fetchval(self, query: str, *args: Any, timeout: float | None = None) -> Any:
        if (tenant := self._caller()) is None:
            return await self._pool.fetchval(query, *args, timeout=timeout)
        async with self._callers.of(tenant).acquire() as connection:
            return await connection.fetchval(query, *args, timeout=timeout)


async def searched(found: Awaitable[T]) -> T:
    """What a statement finds that may look through all that an account has, and has `timeout=SEARCH_SECONDS`.
    Raises `DeadlineExceeded` SEARCH_TOO_LONG.
    """
    try:
        return await found
    except TimeoutError:
        raise DeadlineExceeded(
            f"the database looked for {SEARCH_SECONDS:g} s: ask for less, or with other filters",
            "SEARCH_TOO_LONG",
        ) from None
