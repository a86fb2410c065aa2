"""The schema: a linear chain of plain SQL files, `sql/NNNN_name.sql`, applied in order. There is no way down.

A new migration is a new file with the next number, nothing else. It must suit the version of every service
before and after it, since they are upgraded one by one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg

from mesh_core.database.migrations.revisions import pending, revision_files
from mesh_core.database.server import check_server
from mesh_core.errors import StartupError

# Alembic and SQLAlchemy are imported where they are used: only `migrate` needs them, and they take as long to
# import as the rest of a service.
if TYPE_CHECKING:
    from sqlalchemy import Connection

    from mesh_core.database.pool import Database


class SchemaMismatch(StartupError):
    """The database's schema is not one that this program can work with; the message says what to do."""


async def migrate(url: str) -> int:
    """Applies what is missing, in one transaction; returns the schema's version. Any number may run at once.

    `url` must lead to the server itself, not to a bouncer. Raises `UnsupportedServer`, and `SchemaMismatch`
    for a database that a newer release has migrated.
    """
    from sqlalchemy.ext.asyncio import create_async_engine
    from sqlalchemy.pool import NullPool

    async def connect() -> asyncpg.Connection:
        connection = await asyncpg.connect(url)
        check_server(connection.get_server_version())
        return connection

    engine = create_async_engine("postgresql+asyncpg://", async_creator=connect, poolclass=NullPool)
    try:
        async with engine.begin() as connection:
            return await connection.run_sync(_upgrade)
    finally:
        await engine.dispose()


async def schema_version(database: Database) -> int:
    """The number of the last migration that was applied; 0 for an empty database."""
    if await database.pool.fetchval("SELECT to_regclass('alembic_version')") is None:
        return 0
    return int(await database.pool.fetchval("SELECT version_num FROM alembic_version") or 0)


async def check_schema(database: Database, oldest: int, newest: int | None = None) -> None:
    """Raises `SchemaMismatch` unless the schema's version is `oldest`..`newest` (default: this release's
    own).
    """
    version, newest = await schema_version(database), newest_schema() if newest is None else newest
    if version < oldest:
        raise SchemaMismatch(
            f"the database has schema version {version}, this program needs {oldest} or later: "
            "run `mesh db migrate`"
        )
    if version > newest:
        raise SchemaMismatch(
            f"the database has schema version {version}, this program knows versions up to {newest}: "
            "upgrade it"
        )


def newest_schema() -> int:
    """The version that `migrate` leads to."""
    return int(max(revision_files()))


def _upgrade(connection: Connection) -> int:
    from alembic.runtime.migration import MigrationContext
    from sqlalchemy import text

    connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('sessionmesh migrations'))"))
    context = MigrationContext.configure(
        connection, opts={"fn": lambda heads, _context: pending(heads[0] if heads else None)}
    )
    current = int(context.get_current_revision() or 0)
    if current > newest_schema():
        raise SchemaMismatch(
            f"the database has schema version {current}, this release knows versions up to {newest_schema()}"
        )
    context.run_migrations(connection=connection)
    return newest_schema()
