"""Connections for callers: a part of the pool, which tenants share. The rest is the service's own, so that
what everybody lives from (deliveries, look-ups of keys) waits for no caller's statement.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Protocol
from weakref import WeakValueDictionary

import asyncpg
from asyncpg.pgproto.pgproto import UUID
from asyncpg.pool import PoolConnectionProxy

from mesh_core.database.unavailable import UNAVAILABLE
from mesh_core.errors import DeadlineExceeded, MeshError, Unavailable
from mesh_core.shares import Shares

SEARCH_SECONDS = 3.0
"""How long the database looks for one page of a listing, or counts for one answer."""


class Callers:
    """Half of a pool's connections."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._shares = Shares(max(1, pool.get_max_size() // 2))
        self._locks: WeakValueDictionary[UUID, asyncio.Lock] = WeakValueDictionary()

    def of(self, tenant: UUID | None) -> CallerPool:
        """What calls of a tenant use, or (None) those of operators."""
        return CallerPool(self._pool, self._shares, tenant or _OPERATOR)

    @asynccontextmanager
    async def locking(self, tenant: UUID, caller: UUID | None) -> AsyncIterator[PoolConnectionProxy]:
        """A transaction of `caller` that is about to lock the row of `tenant`. The turn for that is waited
        for before a connection is taken, so that of all who want the lock one call holds a connection.
        """
        lock = self._locks.setdefault(tenant, asyncio.Lock())
        async with lock, self.of(caller).transaction() as connection:
            yield connection


class CallerPool:
    """A pool as one tenant's calls see it. Who holds a connection of it must not ask for a second one."""

    __slots__ = ("_pool", "_shares", "_tenant")

    def __init__(self, pool: asyncpg.Pool, shares: Shares, tenant: UUID) -> None:
        self._pool = pool
        self._shares = shares
        self._tenant = tenant

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[PoolConnectionProxy]:
        """A connection, once it is the tenant's turn."""
        async with self._shares.place(self._tenant), self._pool.acquire() as connection:
            yield connection

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[PoolConnectionProxy]:
        """A connection with a transaction on it."""
        async with self.acquire() as connection, connection.transaction():
            yield connection

    async def fetch(self, query: str, *args: Any) -> list[asyncpg.Record]:
        async with self.acquire() as connection:
            return await connection.fetch(query, *args)

    async def fetchrow(self, query: str, *args: Any) -> asyncpg.Record | None:
        async with self.acquire() as connection:
            return await connection.fetchrow(query, *args)

    async def fetchval(self, query: str, *args: Any) -> Any:
        async with self.acquire() as connection:
            return await connection.fetchval(query, *args)

    async def execute(self, query: str, *args: Any) -> str:
        async with self.acquire() as connection:
            return await connection.execute(query, *args)

    async def search(self, query: str, *args: Any) -> list[asyncpg.Record]:
        """Rows of a statement that may look through all that a tenant has.

        Raises `DeadlineExceeded` SEARCH_TOO_LONG after `SEARCH_SECONDS`, when the statement is cancelled, and
        `Unavailable` BACKEND_UNAVAILABLE where the database does not answer anything else either.
        """
        async with self.acquire() as connection:
            try:
                return await connection.fetch(query, *args, timeout=SEARCH_SECONDS)
            except TimeoutError:
                raise await too_long(connection) from None


class Asked(Protocol):
    """What can be asked: a connection, or a pool."""

    async def fetchval(self, query: str, *args: Any) -> Any: ...


async def too_long(asked: Asked) -> MeshError:
    """Why a search was not over after `SEARCH_SECONDS`: it looks through too much, or the database is frozen
    and answers nothing else either.
    """
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):  # asyncpg's own leaves the wait for a cancellation out
            await asked.fetchval("SELECT 1")
    except UNAVAILABLE:
        return Unavailable("the database does not answer", "BACKEND_UNAVAILABLE", retry_after=_ANSWER_SECONDS)
    return DeadlineExceeded(
        f"the database looked for {SEARCH_SECONDS:g} s: ask for less, or with other filters",
        "SEARCH_TOO_LONG",
    )


_ANSWER_SECONDS = 1.0
_OPERATOR = UUID(bytes(16))
