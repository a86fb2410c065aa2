"""A restore, step by step. Nothing of it has its final name before all of it is good."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from mesh_cli.backup import Failed, Refused
from mesh_cli.backup.key_file import KeyFile
from mesh_cli.backup.log_files import read_log, stored_log
from mesh_cli.backup.objects import put_back, read_list, refuse_objects
from mesh_cli.backup.records import Backup
from mesh_cli.backup.recovery import (
    OLD_SETTINGS,
    give_password,
    last_commit,
    recovered,
    set_old_settings_aside,
)
from mesh_cli.backup.repository import Backups, Repository, folder_of
from mesh_cli.backup.source import SEGMENT_BYTES, postgres_program
from mesh_cli.backup.streams import opened
from mesh_cli.backup.unpacking import unpack
from mesh_core.database import Database, adopt
from mesh_core.database.migrations import migrate, newest_schema
from mesh_core.disk import naming_full_disk
from mesh_core.sealing import master_key_id
from mesh_core.settings import DatabaseSettings
from mesh_media.stores.named_stores import Stores
from mesh_session_node.drivers.whatsapp_web.state import RATCHET_ROWS

Say = Callable[[str], None]
_SPARE = 1.1


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is restored: with `until` not all of the log, `resend` what was waiting to be sent."""

    backup: Backup
    until: datetime | None
    resend: bool


@dataclass(frozen=True, slots=True)
class Restored:
    """What came of it. `until` is when the last was committed of what is there; the role's new password is
    for a server of our own.
    """

    generation: int
    until: datetime
    objects: int
    segments: int
    password: str


def choose(found: Backups, name: str, until: datetime | None) -> Backup:
    """The backup to begin with: the one named, else the last that ended before `until`. Raises `Refused`, and
    `Damaged` when it would be one of those.
    """
    backups = found.whole
    if name:
        named = [one for one in backups if one.id == name]
        for one in found.damaged:
            if not named and folder_of(name) in str(one):
                raise one
        if not named:
            raise Refused(f"there is no backup {name}: `mesh backup list` shows them")
        if until is not None and until < named[0].end_time:
            raise Refused(
                f"backup {name} ended at {named[0].end_time.isoformat()}, after --until: take an earlier one"
            )
        return named[0]
    fitting = [one for one in backups if until is None or one.end_time <= until]
    if not fitting and found.damaged:
        raise found.damaged[-1]
    if not fitting:
        raise Refused(
            "MESH_BACKUP_URL has no backup"
            + (" that ended before --until" if until is not None and backups else "")
        )
    return fitting[-1]


def check_backup(backup: Backup, key: KeyFile, master_keys: Sequence[str]) -> None:
    """Raises `Refused` for what this release, this machine or these keys cannot restore."""
    if backup.schema_version > newest_schema():
        raise Refused(
            f"backup {backup.id} was made by Sessionmesh {backup.mesh_version}, whose schema is newer than "
            "that of this release: use that release, or a newer one"
        )
    if backup.recipient != key.recipient:
        raise Refused(
            f"backup {backup.id} was encrypted for {backup.recipient}, and the key file is of {key.recipient}"
        )
    if missing := {*backup.master_keys} - {master_key_id(one) for one in master_keys}:
        raise Refused(
            f"backup {backup.id} needs the master key {', '.join(sorted(missing))} of the mesh, or no "
            "credential in it can be opened: set MESH_SECRETS_MASTER_KEY (and "
            "MESH_SECRETS_PREVIOUS_MASTER_KEYS)"
        )
    postgres_program("postgres", backup.server_major)


async def restore(
    repository: Repository,
    wanted: Wanted,
    identity: str,
    data: Path,
    stores: Stores,
    say: Say,
    *,
    own_server: bool,
) -> Restored:
    """Makes `data`, which is not there yet, a database directory, and fills `stores`, which are empty.

    `own_server`: the database is for a server of `mesh up`, and its role gets a new password. Raises
    `BackupError`, and `DiskFull`; then `data` is not there, and whatever there is beside it may be deleted.
    """
    backup = wanted.backup
    await refuse_objects(stores)
    log = await stored_log(repository, backup.system_identifier, backup.wal_from)
    _refuse_small_disk(data.parent, backup, len(log))
    with _beside(data) as work:
        files, segments = work / "data", work / "log"
        files.mkdir(mode=0o700)
        segments.mkdir(mode=0o700)
        say(
            f"database of {backup.end_time.isoformat(timespec='seconds')}, "
            f"{backup.database_bytes / 1e6:,.0f} MB"
        )
        tar = opened(repository.read(backup.base), identity, backup.base.name)
        await unpack(tar, backup.base.name, files)
        if set_old_settings_aside(files):
            say(f"settings that ALTER SYSTEM made on the old server are not in force: {OLD_SETTINGS}")
        say(f"log, {len(log)} files")
        for name, (stored, size) in log.items():
            content = await read_log(repository, stored, size, identity)
            with naming_full_disk(work):
                (segments / name).write_bytes(content)
        say("files")
        objects = await put_back(repository, await read_list(repository, backup.objects), stores, identity)
        say("recovery of the database")
        password = ""
        async with recovered(backup, files, segments, wanted.until) as url:
            until = await last_commit(url) or backup.end_time
            say("adopting it: accounts are paused, ratchets skip ahead")
            await migrate(url)
            database = await Database.open(DatabaseSettings(url=url))
            try:
                adopted = await adopt(database, RATCHET_ROWS, resend=wanted.resend, anew=True)
            finally:
                await database.close()
            if own_server:
                password = await give_password(url, backup.role)
        _finish(files, data)
    return Restored(adopted.generation, until, objects, len(log), password)


@contextmanager
def _beside(data: Path) -> Iterator[Path]:
    """A folder to work in, on the same disk; what an interrupted restore left there goes first."""
    work = data.with_name(f"{data.name}.restoring")
    shutil.rmtree(work, ignore_errors=True)
    try:
        work.mkdir(mode=0o711, parents=True)
    except OSError as error:
        raise Refused(f"{work} cannot be made: {error.strerror}") from None
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _finish(files: Path, data: Path) -> None:
    subprocess.run(["sync", "-f", files], check=True)
    try:
        if data.exists():
            data.rmdir()  # it is empty
        files.rename(data)
    except OSError as error:
        raise Failed(
            f"the restored database cannot be moved to {data} ({error.strerror}): give --data a folder "
            "below a mount, not the mount itself"
        ) from None


def _refuse_small_disk(place: Path, backup: Backup, segments: int) -> None:
    there = next(parent for parent in (place, *place.absolute().parents) if parent.exists())
    needed = int(backup.database_bytes * _SPARE) + 2 * segments * SEGMENT_BYTES
    if (free := shutil.disk_usage(there).free) < needed:
        raise Refused(
            f"{there} has room for {free / 1e9:.1f} GB, and {needed / 1e9:.1f} GB are needed: make room"
        )
    if not os.access(there, os.W_OK):
        raise Refused(f"{there} cannot be written to")
