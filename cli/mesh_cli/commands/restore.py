"""`mesh restore`."""

from __future__ import annotations

import asyncio
import os
from datetime import datetime
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from mesh_cli.backup import BackupError, Refused
from mesh_cli.backup.key_file import KeyFile, read_key_file
from mesh_cli.backup.objects import open_objects
from mesh_cli.backup.releasing import Released, held_accounts
from mesh_cli.backup.releasing import release as release_accounts
from mesh_cli.backup.repository import Repository
from mesh_cli.backup.restoring import Restored, Wanted, check_backup, choose, restore
from mesh_cli.backup.settings import RepositorySettings, settings_from
from mesh_cli.backup.up_target import UpTarget, secrets_of
from mesh_cli.commands.backup import backups_told, finished, say, settings_of
from mesh_cli.commands.target import EXIT_FAILED, call, fail, local_mesh
from mesh_cli.commands.up import Objects
from mesh_client import Client
from mesh_core.settings import DatabaseSettings, ObjectsSettings, SecretsSettings


class ReleaseSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What releasing accounts needs."""

    database: DatabaseSettings


class _Objects(msgspec.Struct, frozen=True, kw_only=True):
    objects: ObjectsSettings


class _Secrets(msgspec.Struct, frozen=True, kw_only=True):
    secrets: SecretsSettings


def restore_command(
    context: typer.Context,
    backup: Annotated[
        str, typer.Argument(help="The backup's id. Default: the newest, or as --until needs.")
    ] = "",
    key: Annotated[
        Path | None,
        typer.Option("--key", help="The key file that `mesh backup key` made.", show_default=False),
    ] = None,
    until: Annotated[
        str,
        typer.Option(help="Restore what was at this time, such as 2031-05-04T03:00:00Z; else all there is."),
    ] = "",
    data: Annotated[
        Path | None,
        typer.Option(
            help="Make this folder a data directory for a Postgres of your own, and put files into "
            "MESH_OBJECTS_URL. Else all goes into the state directory, for `mesh up`.",
            show_default=False,
        ),
    ] = None,
    objects: Annotated[
        Objects, typer.Option(help="Without --data: where `mesh up --objects` will have the files.")
    ] = Objects.DIRECTORY,
    resend: Annotated[
        bool,
        typer.Option(
            "--resend",
            help="Send again, under the same ids, what was waiting to be sent then. "
            "Else it ends as IN_DOUBT: it was probably sent since.",
        ),
    ] = False,
    release: Annotated[
        bool,
        typer.Option(
            "--release", help="Restore nothing: bring the accounts online that a restore has paused."
        ),
    ] = False,
) -> None:
    """Restore a backup on a machine that has no mesh yet; accounts stay paused until `mesh restore
    --release`.

    What was sent since the backup is unknown to it. So whatever was waiting becomes IN_DOUBT, nothing is
    encrypted with keys that may have been used since, and readers of events with later cursors are told that
    these expired.
    """
    if release:
        _release(context)
        return
    if key is None:
        raise typer.BadParameter("is needed: the key file that `mesh backup key` made", param_hint="--key")
    moment = _moment(until)
    settings = settings_of(context, RepositorySettings)

    async def work() -> Restored:
        opener = read_key_file(key)
        repository = await Repository.open(settings.backup)
        wanted = Wanted(choose(await backups_told(repository), backup, moment), moment, resend)
        if data is not None:
            return await _into_data(repository, wanted, opener, data.absolute())
        return await _into_state(
            repository, wanted, opener, UpTarget(_state(context), s3=objects is Objects.S3)
        )

    restored = finished(work)
    print(
        f"Restored under generation {restored.generation}, as of {restored.until.isoformat()}: "
        f"{restored.objects} files, {restored.segments} files of the log. Start the mesh, look at it, then "
        "run `mesh restore --release` to bring the accounts online."
    )


async def _into_state(repository: Repository, wanted: Wanted, opener: KeyFile, target: UpTarget) -> Restored:
    secrets = secrets_of(opener, wanted.backup)
    check_backup(wanted.backup, opener, [secrets.master_key])
    async with target.taken() as environment:
        stores = await open_objects(settings_from(_Objects, environment).objects)
        restored = await restore(
            repository, wanted, opener.identity, target.data, stores, say, own_server=True
        )
        target.finish(secrets, restored.password)
    return restored


async def _into_data(repository: Repository, wanted: Wanted, opener: KeyFile, data: Path) -> Restored:
    environment = {**os.environ}
    if opener.secrets is not None:
        environment.setdefault("MESH_SECRETS_MASTER_KEY", opener.secrets.master_key)
    secrets = settings_from(_Secrets, environment).secrets
    check_backup(wanted.backup, opener, [secrets.master_key, *secrets.previous_master_keys])
    stores = await open_objects(settings_from(_Objects, environment).objects)
    if await asyncio.to_thread(lambda: data.exists() and any(data.iterdir())):
        raise Refused(f"{data} is not empty: a restore never overwrites; give another folder")
    return await restore(repository, wanted, opener.identity, data, stores, say, own_server=False)


def _release(context: typer.Context) -> None:
    database = settings_of(context, ReleaseSettings).database
    url = database.direct_url or database.url
    accounts = finished(lambda: held_accounts(url))

    async def work(client: Client) -> Released:
        return await release_accounts(client, url, accounts)

    try:
        released = call(context, work) if accounts else Released(0, ())
    except BackupError as error:
        fail(str(error), error.exit_code)
    print(f"{released.online} accounts are online again, or will be soon.")
    if released.refused:
        lines = "\n  ".join(f"{account}: {error.message}" for account, error in released.refused)
        fail(f"{len(released.refused)} accounts stay paused:\n  {lines}", EXIT_FAILED)


def _state(context: typer.Context) -> Path:
    state: Path = context.obj.state_directory
    if (mesh := local_mesh(context.obj)) is not None:
        raise Refused(
            f"a mesh runs on {state} (process {mesh.supervisor_pid}): restore into another state directory"
        )
    return state


def _moment(until: str) -> datetime | None:
    if not until:
        return None
    try:
        moment = datetime.fromisoformat(until)
    except ValueError:
        raise typer.BadParameter(
            "must be a time such as 2031-05-04T03:00:00Z", param_hint="--until"
        ) from None
    return moment.astimezone()
