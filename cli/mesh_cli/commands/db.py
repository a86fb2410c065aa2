"""`mesh db`: what an operator does to the database before, and between, releases."""

from __future__ import annotations

import asyncio

import msgspec
import typer
from rich.console import Console

from mesh_cli.commands.target import EXIT_NO_MESH, fail
from mesh_core.database import Database, adopt
from mesh_core.database.migrations import migrate
from mesh_core.errors import StartupError
from mesh_core.settings import DatabaseSettings, load

app = typer.Typer(
    help="The database that MESH_DATABASE_URL names; MESH_DATABASE_DIRECT_URL goes before it.",
    no_args_is_help=True,
)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that `mesh db` reads."""

    database: DatabaseSettings


@app.command(name="migrate")
def migrate_command() -> None:
    """Migrate the schema to this release's version.

    May be repeated; when several run at once, one migrates and the others wait.
    """
    settings = load(Settings).database
    try:
        version = asyncio.run(migrate(settings.direct_url or settings.url))
    except (StartupError, OSError) as error:
        fail(str(error), EXIT_NO_MESH)
    Console().print(f"The schema is at version {version}.")


@app.command(name="adopt")
def adopt_command() -> None:
    """Accept a database that was restored on another server.

    Event cursors from before the restore expire; events keep their order.
    """
    settings = load(Settings).database

    async def work() -> int:
        database = await Database.open(settings)
        try:
            return await adopt(database)
        finally:
            await database.close()

    try:
        generation = asyncio.run(work())
    except (StartupError, OSError) as error:
        fail(str(error), EXIT_NO_MESH)
    Console().print(f"The database is adopted, under generation {generation}.")
