"""Connections to Postgres: a pool for short transactions, and single ones for the journal and LISTEN."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from mesh_core.database.server import UnsupportedServer, check_server
from mesh_core.errors import StartupError

if TYPE_CHECKING:
    from mesh_core.settings import DatabaseSettings

__all__ = ["AnyConnection", "Database", "UnsupportedServer"]

AnyConnection = asyncpg.Connection | PoolConnectionProxy
"""A connection of one's own, or one of the pool's."""


class Database:
    """The database as one service uses it.

    `pool` is for short transactions and reads. With `settings.pgbouncer` it prepares nothing and sets nothing
    on the session, because the next statement may run on another one; `settings.direct_url` then leads past
    the bouncer for the connections that need a session. Never change the session of a pooled connection (SET,
    LISTEN, an advisory lock beyond the transaction): nobody resets it.
    """

    def __init__(self, settings: DatabaseSettings, pool: asyncpg.Pool) -> None:
        self.pool = pool
        self._direct_url = settings.direct_url or settings.url

    @classmethod
    async def open(cls, settings: DatabaseSettings) -> Self:
        """Connects; raises `StartupError` for a server that is not there, or too old."""
        try:
            pool = await asyncpg.create_pool(
                settings.url,
                min_size=1,
                max_size=settings.pool_size,
                statement_cache_size=0 if settings.pgbouncer else 256,
                server_settings={} if settings.pgbouncer else _POOLED,
                timeout=_CONNECT_SECONDS,
                command_timeout=_COMMAND_SECONDS,
                reset=_keep_session,
            )
        except (asyncpg.PostgresError, OSError) as error:
            raise StartupError(f"the database cannot be used: {error or type(error).__name__}") from error
        try:
            async with pool.acquire() as connection:
                check_server(connection.get_server_version())
        except BaseException:  # a cancelled start too
            pool.terminate()
            raise
        return cls(settings, pool)

    async def connect_direct(self) -> asyncpg.Connection:
        """A connection of the caller's own, never through a bouncer: for LISTEN and for long jobs."""
        return await asyncpg.connect(self._direct_url, server_settings=_DIRECT, timeout=_CONNECT_SECONDS)

    async def connect_journal(self) -> asyncpg.Connection:
        """The server ends its transactions after 1 s, so that a frozen client never blocks a takeover."""
        return await asyncpg.connect(self._direct_url, server_settings=_JOURNAL, timeout=_CONNECT_SECONDS)

    async def close(self) -> None:
        """Waits for the pool's connections to come back."""
        await self.pool.close()


async def _keep_session(_connection: object) -> None:
    """Nothing changes the session of a pooled connection: undoing that costs as much as a query does."""


_CONNECT_SECONDS = 5.0
_COMMAND_SECONDS = 15.0  # longer than the server lets a transaction run
# Plans of our short statements are never worth compiling. An open write transaction hides all later events
# from their readers, so the server ends it.
_DIRECT = {"jit": "off", "application_name": "sessionmesh"}
_POOLED = _DIRECT | {"transaction_timeout": "10s", "idle_in_transaction_session_timeout": "10s"}
_JOURNAL = _DIRECT | {
    "transaction_timeout": "1s",
    "idle_in_transaction_session_timeout": "1s",
    "lock_timeout": "1s",
}
