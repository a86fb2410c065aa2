"""A backup, step by step."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from urllib.parse import unquote, urlsplit

from mesh_cli.backup import Refused
from mesh_cli.backup.key_file import check_recipient
from mesh_cli.backup.objects import copy_objects, listed, open_objects, read_list
from mesh_cli.backup.policy import Policy, prune
from mesh_cli.backup.records import Backup
from mesh_cli.backup.repository import Repository, folder_of
from mesh_cli.backup.settings import MakingSettings
from mesh_cli.backup.source import Facts, base_backup, held_source, postgres_program
from mesh_cli.backup.streams import of_bytes, sealed

Say = Callable[[str], None]


async def make_backup(settings: MakingSettings, policy: Policy, say: Say) -> tuple[Backup, list[str]]:
    """Makes a backup, reads back what was stored, and then deletes what `policy` does not keep.

    Returns the backup, and the ids of those that went. Files are copied before the database, and once more
    after it: so each file is there that the database knows, also one that was deleted meanwhile. Raises
    `BackupError`; then there is no backup, and the ones before are as they were.
    """
    check_recipient(settings.backup.recipient)
    url = settings.database.direct_url or settings.database.url
    async with held_source(url, "backup") as (connection, facts):
        postgres_program("pg_basebackup", facts.major)
        repository = await Repository.open(settings.backup)
        stores = await open_objects(settings.objects)
        recipient = settings.backup.recipient
        backups = await repository.backups_of(facts.system_identifier, recipient)
        for one in backups.damaged:
            say(str(one))
        _refuse_small_disk(settings.backup.url, facts)
        known = {} if not backups.whole else await read_list(repository, backups.whole[-1].objects)
        say("files")
        before, _ = await copy_objects(stores, repository, recipient, known)
        say(f"database, {facts.bytes / 1e6:,.0f} MB")
        name = _id(facts.now)
        base = await repository.store(
            f"{folder_of(name)}base.tar.gz.age",
            sealed(base_backup(connection, url, facts.major), recipient),
            expected_bytes=facts.bytes,
        )
        end_time: datetime = await connection.fetchval("SELECT clock_timestamp()")
        say("files that came meanwhile")
        after, size = await copy_objects(stores, repository, recipient, known | before)
        objects = before | after
        object_list = await repository.store(f"{folder_of(name)}objects.txt", of_bytes(listed(objects)))
        say("reading back what was stored")
        for file in (base, object_list, *(objects[one] for one in objects.keys() - known.keys())):
            await repository.check(file)
        backup = Backup(
            id=name,
            begin_time=facts.now,
            end_time=end_time,
            mesh_version=version("sessionmesh"),
            schema_version=facts.schema_version,
            server_version=facts.version,
            system_identifier=facts.system_identifier,
            generation=facts.generation,
            database=facts.database,
            role=facts.role,
            database_bytes=facts.bytes,
            master_keys=facts.master_keys,
            recipient=recipient,
            wal_from=facts.segment,
            base=base,
            objects=object_list,
            object_count=len(objects),
            object_bytes=size,
        )
        await repository.add(backup)
        if backups.damaged:
            say(
                "nothing is deleted, as nobody knows what the damaged ones need: bring back their files, or "
                "delete them"
            )
            return backup, []
        return backup, await prune(repository, policy)


def _refuse_small_disk(url: str, facts: Facts) -> None:
    """Compressed it may need a fourth of it; but a backup that fills a disk helps nobody."""
    parts = urlsplit(url)
    if parts.scheme != "file":
        return
    free = shutil.disk_usage(Path(unquote(parts.path))).free
    if free < facts.bytes:
        raise Refused(
            f"MESH_BACKUP_URL has room for {free / 1e9:.1f} GB, and the database has "
            f"{facts.bytes / 1e9:.1f} GB: make room, or keep fewer backups"
        )


def _id(moment: datetime) -> str:
    return moment.strftime("%Y%m%dT%H%M%S%fZ")
