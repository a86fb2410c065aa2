"""What a revision does: it runs the SQL file beside it."""

from __future__ import annotations

from pathlib import Path

import asyncpg
from alembic import op

from mesh_core.database.migrations import MigrationFailed
from mesh_core.database.unavailable import DATABASE_ERRORS, UNAVAILABLE


def run_sql_file(revision_file: str) -> None:
    """Runs `NNNN_name.sql` for the revision `NNNN_name.py`, in the revision's transaction.

    With `alembic upgrade --sql` it is printed instead. Raises `MigrationFailed`.
    """
    path = Path(revision_file).with_suffix(".sql")
    sql = path.read_text(encoding="utf-8")
    context = op.get_context()
    if context.as_sql:
        context.impl.static_output(sql)
        return

    async def execute(driver: asyncpg.Connection) -> None:
        await driver.execute(sql)

    # SQLAlchemy prepares what it executes, which takes a single statement: the file goes past it. This query
    # does not, and has begun the transaction.
    before = context.get_current_revision() or "0"
    connection = op.get_bind()
    driver = connection.connection.dbapi_connection
    try:
        driver.run_async(execute)  # type: ignore[union-attr]  # SQLAlchemy types it as any DBAPI connection
    except DATABASE_ERRORS as error:
        if not isinstance(error, asyncpg.PostgresError) or isinstance(error, UNAVAILABLE):
            connection.invalidate(error)  # it may be dead: nothing is rolled back over it
        raise MigrationFailed(path.stem, int(before), _described(error, sql)) from error


def _described(error: Exception, sql: str) -> str:
    if not isinstance(error, asyncpg.PostgresError):
        return str(error) or type(error).__name__
    position = getattr(error, "position", None)  # in characters from 1, where Postgres knows
    line = f"line {sql.count(chr(10), 0, int(position)) + 1}: " if position else ""
    return f"{line}{error} (SQLSTATE {error.sqlstate})"
