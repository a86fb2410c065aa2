"""What Sessionmesh asks of a Postgres server."""

from __future__ import annotations

from asyncpg.types import ServerVersion

from mesh_core.errors import StartupError

OLDEST_POSTGRES = 17
"""The first release with `transaction_timeout`: nothing else ends a client that froze inside a statement."""


class UnsupportedServer(StartupError):
    """The server is older than `OLDEST_POSTGRES`."""


def check_server(version: ServerVersion) -> None:
    """Raises `UnsupportedServer`; `version` is what the connection was told when it was made."""
    if version.major < OLDEST_POSTGRES:
        raise UnsupportedServer(
            f"PostgreSQL {OLDEST_POSTGRES} or newer is needed, this server is {version.major}.{version.minor}"
        )
