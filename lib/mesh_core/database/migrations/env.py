"""Alembic runs this for each of its commands, to reach the database.

`mesh db migrate` hands it a connection. The `alembic` command takes the database of the settings, like
`mesh db`; with `--sql` it needs none.
"""

from __future__ import annotations

import asyncio

from alembic import context
from alembic.util import CommandError
from sqlalchemy import Connection, text

from mesh_core.database.migrations import SchemaMismatch, newest_schema
from mesh_core.database.migrations.connecting import connected, url_of_settings
from mesh_core.errors import StartupError

FIRST_OF_SECOND_EDITION = 8
"""The first schema version of the API's second edition, which cannot read what the first one has stored."""


def run_offline() -> None:
    """Prints the SQL of the revisions that were asked for, a transaction for each."""
    context.configure(dialect_name="postgresql", transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()


def run_online(connection: Connection) -> None:
    """Runs the command, after every other migrator has ended; each revision has a transaction of its own."""
    # Of the session, which outlasts the transactions: closing the connection gives it back. Older releases
    # take the same lock.
    connection.execute(text("SELECT pg_advisory_lock(hashtext('sessionmesh migrations'))"))
    connection.commit()  # otherwise Alembic would leave the transactions to us
    context.configure(connection=connection, transaction_per_migration=True)
    current = int(context.get_context().get_current_revision() or 0)
    connection.commit()
    if current > newest_schema():
        raise SchemaMismatch(
            f"the database has schema version {current}, this release knows versions up to {newest_schema()}"
        )
    if 0 < current < FIRST_OF_SECOND_EDITION and _has_data(connection):
        raise SchemaMismatch(
            f"the database has schema version {current} and data of the first edition of the API, which this "
            "release cannot read: keep the release that it belongs to, or begin with an empty database"
        )
    with context.begin_transaction():
        context.run_migrations()


def _has_data(connection: Connection) -> bool:
    """Whether anybody has used the database: whatever is in it belongs to a tenant, or to a key."""
    used = connection.scalar(text("SELECT to_regclass('api_key')")) is not None and connection.scalar(
        text("SELECT EXISTS (SELECT FROM tenant) OR EXISTS (SELECT FROM api_key)")
    )
    connection.commit()
    return bool(used)


async def connect_and_run() -> None:
    try:
        async with connected(url_of_settings()) as connection:
            await connection.run_sync(run_online)
    except StartupError as error:
        raise CommandError(str(error)) from error  # Alembic prints it without a traceback


if context.is_offline_mode():
    run_offline()
elif (given := context.config.attributes.get("connection")) is not None:
    run_online(given)
else:
    asyncio.run(connect_and_run())
