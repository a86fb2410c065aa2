"""What Sessionmesh asks of a Postgres server."""

from __future__ import annotations

import asyncpg

OLDEST_POSTGRES = 17
"""The first release with `transaction_timeout`: nothing else ends a client that froze inside a statement."""


class UnsupportedServer(Exception):
    """The server is older than `OLDEST_POSTGRES`."""


def check_server(connection: asyncpg.Connection) -> None:
    """Raises `UnsupportedServer`; asks the server nothing."""
    version = connection.get_server_version()
    if version.major < OLDEST_POSTGRES:
        raise UnsupportedServer(
            f"PostgreSQL {OLDEST_POSTGRES} or newer is required, this server is {version.major}.{version.minor}"
        )
