"""Connections to Postgres: a pool for short transactions, and others for the journal and for LISTEN."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Self

import asyncpg
from asyncpg.pool import PoolConnectionProxy
from asyncpg.types import ServerVersion

from mesh_core.database.bounded_pool import BoundedPool
from mesh_core.database.callers import Callers
from mesh_core.database.unavailable import DATABASE_ERRORS, UNAVAILABLE
from mesh_core.database.watch import show_pool
from mesh_core.errors import Misconfigured, StartupError

if TYPE_CHECKING:
    from mesh_core.settings import DatabaseSettings

AnyConnection = asyncpg.Connection | PoolConnectionProxy
"""A connection of the caller's own, or one that is borrowed from the pool."""

OLDEST_POSTGRES = 17
"""The first release with `transaction_timeout`, which ends a client that froze inside a statement."""


class UnsupportedServer(Misconfigured):
    """The server is older than `OLDEST_POSTGRES`."""


class Database:
    """The database as one service uses it.

    `pool` is for short transactions and reads of the service's own; what calls need goes through `callers`,
    which share half of the connections. Never change the session of one of its connections (SET,
    LISTEN, an advisory lock that outlasts the transaction): nobody resets it. With `settings.pgbouncer` it
    prepares no statements, because the next one may run in another session; connections that need a session
    are then made with `settings.direct_url`, which leads past the bouncer.
    """

    def __init__(self, settings: DatabaseSettings, pool: BoundedPool) -> None:
        self.pool = pool
        show_pool(pool)
        self.callers = Callers(pool)
        self._direct_url = settings.direct_url or settings.url

    @classmethod
    async def open(cls, settings: DatabaseSettings) -> Self:
        """Connects; raises `StartupError` when the server does not answer, refuses us, or is too old."""
        try:
            pool = await BoundedPool(
                settings.url,
                min_size=1,
                max_size=settings.pool_size,
                statement_cache_size=0 if settings.pgbouncer else 256,
                server_settings={} if settings.pgbouncer else _POOLED,
                timeout=_CONNECT_SECONDS,
                command_timeout=_COMMAND_SECONDS,
                reset=_keep_session,
            )
        except DATABASE_ERRORS as error:
            raise StartupError(f"the database cannot be used: {error or type(error).__name__}") from error
        try:
            async with pool.acquire() as connection:
                check_server(connection.get_server_version())
        except BaseException:  # a cancelled start too
            pool.terminate()
            raise
        return cls(settings, pool)

    async def connect_direct(self) -> asyncpg.Connection:
        """A connection of the caller's own, never through PgBouncer: for LISTEN and for long jobs."""
        return await asyncpg.connect(self._direct_url, server_settings=_DIRECT, timeout=_CONNECT_SECONDS)

    async def connect_journal(self) -> asyncpg.Connection:
        """A connection whose transactions the server ends after 1 s: a client that froze in the middle of one
        must not block the takeover of its shards.
        """
        return await asyncpg.connect(self._direct_url, server_settings=_JOURNAL, timeout=_CONNECT_SECONDS)

    @asynccontextmanager
    async def alone(self, work: str) -> AsyncIterator[asyncpg.Connection | None]:
        """A connection of the caller's own, while no other process of the mesh is at this work; else None.

        Its transactions are ended after 10 s, and wait 2 s for a lock.
        """
        connection = await asyncpg.connect(self._direct_url, server_settings=_ALONE, timeout=_CONNECT_SECONDS)
        try:
            lock = "SELECT pg_try_advisory_lock(hashtext('sessionmesh ' || $1))"
            yield connection if await connection.fetchval(lock, work) else None
            with suppress(*UNAVAILABLE):
                await connection.close(timeout=_CONNECT_SECONDS)  # once it is closed the lock is free
        finally:
            connection.terminate()  # gives the lock back soon, also in the middle of a statement

    async def close(self) -> None:
        """Waits for the pool's connections to come back."""
        await self.pool.close()


def check_server(version: ServerVersion) -> None:
    """Raises `UnsupportedServer` when `version` is too old."""
    if version.major < OLDEST_POSTGRES:
        raise UnsupportedServer(
            f"PostgreSQL {OLDEST_POSTGRES} or newer is needed, this server is {version.major}.{version.minor}"
        )


async def _keep_session(_connection: object) -> None:
    """Replaces asyncpg's reset of a connection that is given back, which costs as much as a query."""


_CONNECT_SECONDS = 5.0
_COMMAND_SECONDS = 5.0  # less than callers wait as a rule, who are told that the database does not answer
# Our statements are too short to be worth compiling (jit). While a transaction is open, all later events are
# hidden from their readers, so the server ends those that stay open.
_DIRECT = {"jit": "off", "application_name": "sessionmesh"}
_POOLED = _DIRECT | {"transaction_timeout": "10s", "idle_in_transaction_session_timeout": "10s"}
_ALONE = _POOLED | {"lock_timeout": "2s"}
_JOURNAL = _DIRECT | {
    "transaction_timeout": "1s",
    "idle_in_transaction_session_timeout": "1s",
    "lock_timeout": "800ms",  # sooner, so that who waits for a lock is not taken for who writes too much
}
