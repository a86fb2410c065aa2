"""The schema: a chain of Alembic revisions, each of which runs the SQL file beside it. There is no way down.

From a checkout all of Alembic's commands work (`alembic history`, `alembic current`, `alembic upgrade head
--sql`); `mesh db migrate` needs none. A new migration is made with `alembic revision --rev-id NNNN -m name`,
the next number, and a file `versions/NNNN_name.sql`. It must suit the version of every service before and
after it, since they are upgraded one by one; only 0008, which begins the API's second edition, does not.
"""

from __future__ import annotations

from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from mesh_core.errors import Misconfigured, StartupError

# Alembic and SQLAlchemy are imported where they are used: only `migrate` needs them, and they take as long to
# import as the rest of a service.
if TYPE_CHECKING:
    from sqlalchemy import Connection

    from mesh_core.database.pool import Database

VERSIONS = Path(__file__).with_name("versions")
"""The folder of the revisions, `NNNN_name.py` and `NNNN_name.sql`."""


class SchemaMismatch(Misconfigured):
    """The database's schema is not one that this program can work with; the message says what to do."""


class MigrationFailed(StartupError):
    """A revision was not applied, and nothing of it is in the database; the message says which and why."""

    def __init__(self, revision: str, version: int, reason: str) -> None:
        super().__init__(
            f"migration {revision} failed, the database stays at schema version {version}: {reason}"
        )


async def migrate(url: str) -> int:
    """Applies what is missing; returns the schema's version. Any number of processes may do so at once: they
    take turns.

    Each revision is applied wholly or not at all: after `MigrationFailed` the schema stays at the last one
    that succeeded. `url` must lead to the server itself, not to a bouncer. Raises `SchemaMismatch` for
    a database that a newer release has migrated, and `StartupError` when the server cannot be used.
    """
    from mesh_core.database.migrations.connecting import connected

    if not _alembic.acquire(blocking=False):
        raise RuntimeError("one migration at a time in a process: Alembic keeps what it works on in globals")
    try:
        async with connected(url) as connection:
            await connection.run_sync(_upgrade)
    finally:
        _alembic.release()
    return newest_schema()


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
    return max(int(path.name.partition("_")[0]) for path in VERSIONS.glob("*.py"))


def _upgrade(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", _escaped(Path(__file__).parent))
    config.set_main_option("version_locations", _escaped(VERSIONS))
    config.set_main_option("path_separator", "newline")
    command.upgrade(config, "head")


def _escaped(path: Path) -> str:
    """A path as a value in an .ini file."""
    return str(path).replace("%", "%%")


_alembic = Lock()
