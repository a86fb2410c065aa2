"""`mesh db`: what an operator does to the database before, and between, releases."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated

import asyncpg
import msgspec
import typer
from rich.console import Console

from mesh_cli.commands.target import EXIT_FAILED, EXIT_NO_MESH, fail
from mesh_core import ids
from mesh_core.database import Adopted, Database, adopt
from mesh_core.database.migrations import check_schema, migrate
from mesh_core.errors import InvalidField, StartupError
from mesh_core.ids import Prefix
from mesh_core.sealing import CannotUnseal, PostgresDataKeys, Sealer
from mesh_core.settings import DatabaseSettings, SecretsSettings, load
from mesh_session_node.drivers.whatsapp_web.state import RATCHET_ROWS

app = typer.Typer(
    help="The database that MESH_DATABASE_URL names; MESH_DATABASE_DIRECT_URL goes before it.",
    no_args_is_help=True,
)

ADOPTABLE = 18
"""The first schema that has where accounts are noted which a restore has paused."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What `mesh db` reads."""

    database: DatabaseSettings


class KeySettings(msgspec.Struct, frozen=True, kw_only=True):
    """What its commands about keys read."""

    database: DatabaseSettings
    secrets: SecretsSettings


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
def adopt_command(
    restored: Annotated[
        bool,
        typer.Option("--restored", help="It is a copy of the server's files, which has the same identifier."),
    ] = False,
    resend: Annotated[
        bool,
        typer.Option("--resend", help="Send again what was waiting to be sent; else it becomes IN_DOUBT."),
    ] = False,
) -> None:
    """Accept a database that was restored on another server, or with `--restored` to an older state.

    Event cursors from before the restore expire; events keep their order. Accounts are paused until
    `mesh restore --release`. What `mesh restore` restored is adopted already. May be repeated: until a
    session-node has used the database nothing changes.
    """
    settings = load(Settings).database

    async def work() -> Adopted:
        database = await Database.open(settings)
        try:
            await check_schema(database, ADOPTABLE)
            return await adopt(database, RATCHET_ROWS, restored=restored, resend=resend)
        finally:
            await database.close()

    try:
        adopted = asyncio.run(work())
    except (StartupError, OSError) as error:
        fail(str(error), EXIT_NO_MESH)
    if adopted.changed:
        Console().print(f"The database is adopted, under generation {adopted.generation}.")
    else:
        Console().print(
            f"The database was adopted already, under generation {adopted.generation}: nothing is changed."
        )


@app.command(name="rewrap-keys")
def rewrap_command() -> None:
    """Encrypt every tenant's data keys with MESH_SECRETS_MASTER_KEY.

    MESH_SECRETS_PREVIOUS_MASTER_KEYS opens those of before, and is not needed afterwards. May be repeated.
    """

    async def work(keys: PostgresDataKeys, sealer: Sealer) -> int:
        return sum([await sealer.rewrap(tenant) for tenant in await keys.tenants()])

    Console().print(f"{_with_keys(work)} data keys had another master key.")


@app.command(name="rotate-key")
def rotate_command(tenant: Annotated[str, typer.Argument(help="tnt_...")]) -> None:
    """Give a tenant a new data key.

    A part seals with it from its next start on; what was sealed before still opens.
    """
    try:
        tenant_id = ids.decode(Prefix.TENANT, tenant, "tenant")
    except InvalidField as error:
        fail(error.message, EXIT_FAILED)

    async def work(_keys: PostgresDataKeys, sealer: Sealer) -> int:
        return await sealer.rotate(tenant_id)

    try:
        version = _with_keys(work)
    except asyncpg.ForeignKeyViolationError:
        fail(f"tenant {tenant} does not exist", EXIT_FAILED)
    Console().print(f"The tenant's data key is version {version} now.")


def _with_keys(work: Callable[[PostgresDataKeys, Sealer], Awaitable[int]]) -> int:
    settings = load(KeySettings)

    async def connected() -> int:
        database = await Database.open(settings.database)
        try:
            keys = PostgresDataKeys(database)
            return await work(keys, Sealer(keys, settings.secrets))
        finally:
            await database.close()

    try:
        return asyncio.run(connected())
    except (StartupError, OSError) as error:
        fail(str(error), EXIT_NO_MESH)
    except CannotUnseal as error:
        fail(str(error), EXIT_FAILED)
