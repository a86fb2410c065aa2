"""A connection for migrations."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from mesh_core.database.pool import check_server
from mesh_core.database.unavailable import DATABASE_ERRORS
from mesh_core.errors import StartupError
from mesh_core.settings import DatabaseSettings, load


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the `alembic` command reads."""

    database: DatabaseSettings


def url_of_settings() -> str:
    """`MESH_DATABASE_DIRECT_URL`, or else `MESH_DATABASE_URL`; ends the process when neither is set."""
    settings = load(Settings).database
    return settings.direct_url or settings.url


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[AsyncConnection]:
    """A SQLAlchemy connection to the server at `url`.

    Raises `StartupError` when the server cannot be used, `UnsupportedServer` when it is too old.
    """

    async def connect() -> asyncpg.Connection:
        try:
            connection = await asyncpg.connect(url)
        except DATABASE_ERRORS as error:
            raise StartupError(f"the database cannot be used: {error or type(error).__name__}") from error
        check_server(connection.get_server_version())
        return connection

    engine = create_async_engine("postgresql+asyncpg://", async_creator=connect, poolclass=NullPool)
    try:
        async with engine.connect() as connection:
            yield connection
    finally:
        await engine.dispose()
