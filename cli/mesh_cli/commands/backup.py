"""`mesh backup`."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
import typer

from mesh_cli.backup import BackupError, Damaged, Failed
from mesh_cli.backup.archive import follow as follow_log
from mesh_cli.backup.key_file import make_key_file, read_key_file
from mesh_cli.backup.making import make_backup
from mesh_cli.backup.policy import Policy
from mesh_cli.backup.records import Backup
from mesh_cli.backup.repository import Backups, Repository
from mesh_cli.backup.restoring import choose
from mesh_cli.backup.settings import ArchiveSettings, MakingSettings, RepositorySettings, settings_beside
from mesh_cli.backup.verifying import verify as verify_backup
from mesh_cli.commands.output import AsJson, print_table
from mesh_cli.commands.target import fail, local_mesh
from mesh_cli.commands.terminal import Terminal
from mesh_cli.up.state import StateDirectory
from mesh_core.database import DATABASE_ERRORS
from mesh_core.errors import MeshError, StartupError

app = typer.Typer(
    help="Backups of the database that MESH_DATABASE_URL names and the files in MESH_OBJECTS_URL, "
    "or of the mesh that runs on this machine, in MESH_BACKUP_URL: file:///folder, or s3://bucket.",
    no_args_is_help=True,
)
T = TypeVar("T")
KeyOption = Annotated[Path, typer.Option("--key", help="The key file that `mesh backup key` made.")]


@app.command()
def key(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="The file to make. Keep it elsewhere than mesh and backups.")],
) -> None:
    """Make the key that opens backups, and keep the secrets of the mesh on this machine with it.

    Prints its public half, for MESH_BACKUP_RECIPIENT.
    """

    async def work() -> str:
        return make_key_file(file, StateDirectory(context.obj.state_directory).known_secrets()).recipient

    print(finished(work))


@app.command()
def run(
    context: typer.Context,
    keep_daily: Annotated[int, typer.Option(min=0, help="Days of which the last backup is kept.")] = 7,
    keep_weekly: Annotated[int, typer.Option(min=0, help="Weeks of which the last backup is kept.")] = 4,
    as_json: AsJson = False,
) -> None:
    """Make a backup while the mesh runs, check what was stored, and delete what is no longer kept."""
    settings = settings_of(context, MakingSettings)
    policy = Policy(keep_daily, keep_weekly)
    backup, gone = finished(lambda: make_backup(settings, policy, say))
    if as_json:
        print(json.dumps({"backup": msgspec.to_builtins(backup), "deleted": gone}))
        return
    print(f"Backup {backup.id} is stored and checked: {_size(backup)}, {backup.object_count} files.")
    for one in gone:
        print(f"Backup {one} is deleted.")


@app.command()
def follow(context: typer.Context) -> None:
    """Store what the database writes as it writes it, until Ctrl-C: a restore then loses seconds.

    Without it a restore goes back to the last backup. One at a time follows a database.
    """
    settings = settings_of(context, ArchiveSettings)
    finished(lambda: _until_signal(follow_log(settings, say)))


@app.command(name="list")
def list_backups(context: typer.Context, as_json: AsJson = False) -> None:
    """List the backups, the oldest first."""
    settings = settings_of(context, RepositorySettings)

    async def work() -> Backups:
        return await (await Repository.open(settings.backup)).backups()

    found = finished(work)
    _print_backups(found.whole, as_json=as_json)
    if found.damaged:
        fail("\n".join(map(str, found.damaged)), Damaged.exit_code)


def _print_backups(backups: Sequence[Backup], *, as_json: bool) -> None:
    if as_json:
        for one in backups:
            print(json.dumps(msgspec.to_builtins(one)))
        return
    rows = [
        (
            one.id,
            one.end_time.isoformat(timespec="seconds"),
            _size(one),
            str(one.object_count),
            one.mesh_version,
        )
        for one in backups
    ]
    print_table(("id", "until", "database", "files", "release"), rows)


@app.command()
def verify(
    context: typer.Context,
    key: KeyOption,
    backup: Annotated[str, typer.Argument(help="The backup's id. Default: the newest.")] = "",
    as_json: AsJson = False,
) -> None:
    """Read and open all of a backup, and compare it with Postgres' own manifest. Nothing is written."""
    settings = settings_of(context, RepositorySettings)

    async def work() -> tuple[Backup, dict[str, int]]:
        opener = read_key_file(key)
        repository = await Repository.open(settings.backup)
        chosen = choose(await backups_told(repository), backup, None)
        found = await verify_backup(repository, chosen, opener.identity, say)
        return chosen, {"files": found.files, "objects": found.objects, "segments": found.segments}

    chosen, found = finished(work)
    if as_json:
        print(json.dumps({"backup": chosen.id, **found}))
        return
    print(
        f"Backup {chosen.id} is whole: {found['files']} files of the database, {found['objects']} of the "
        f"mesh, {found['segments']} segments of the log."
    )


def settings_of(context: typer.Context, kind: type[T]) -> T:
    """Settings, or one line on stderr and the end of the command."""
    try:
        return settings_beside(kind, local_mesh(context.obj))
    except BackupError as error:
        fail(str(error), error.exit_code)


def finished(work: Callable[[], Awaitable[T]]) -> T:
    """The result of `work`; what goes wrong is one line on stderr, and the command's exit code."""

    async def run() -> T:
        return await work()

    try:
        return asyncio.run(run())
    except BackupError as error:
        fail(str(error), error.exit_code)
    except _FAILURES as error:
        fail(str(error) or type(error).__name__, Failed.exit_code)


async def backups_told(repository: Repository) -> Backups:
    """The backups; of each that is damaged it is said."""
    found = await repository.backups()
    for one in found.damaged:
        say(str(one))
    return found


def say(step: str) -> None:
    """What is being done now, for whom it interests."""
    with suppress(OSError):
        Terminal(stderr=True).print(f"… {step}", highlight=False, markup=False, soft_wrap=True)


async def _until_signal(work: Awaitable[None]) -> None:
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        sys.stderr.write("The log is followed no more.\n")


def _size(backup: Backup) -> str:
    return f"{backup.database_bytes / 1e6:,.0f} MB"


_FAILURES: tuple[type[Exception], ...] = (MeshError, StartupError, *DATABASE_ERRORS)
