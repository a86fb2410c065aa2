"""Whether a backup could be restored: all of it is read, opened and compared, and nothing is written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from mesh_cli.backup.log_files import is_history, place, read_log, stored_log
from mesh_cli.backup.objects import check_objects, read_list
from mesh_cli.backup.records import Backup
from mesh_cli.backup.repository import Repository
from mesh_cli.backup.streams import opened
from mesh_cli.backup.unpacking import unpack


@dataclass(frozen=True, slots=True)
class Verified:
    """What was found whole: files of the database and of the mesh, and segments of the log without a gap."""

    files: int
    objects: int
    segments: int


async def verify(
    repository: Repository, backup: Backup, identity: str, say: Callable[[str], None]
) -> Verified:
    """Raises `Damaged`, with the file."""
    say("database")
    tar = opened(repository.read(backup.base), identity, backup.base.name)
    files = await unpack(tar, backup.base.name, None)
    say("files")
    objects = await read_list(repository, backup.objects)
    await check_objects(repository, objects, identity)
    say("log")
    log = await stored_log(repository, backup.system_identifier, backup.wal_from)
    for stored, size in log.values():
        await read_log(repository, stored, size, identity)
    return Verified(files, len(objects), unbroken([name for name in log if not is_history(name)]))


def unbroken(segments: list[str]) -> int:
    """How many come after each other from the first on: to the end of these a database can be brought."""
    places = sorted({place(name) for name in segments})
    return next((n for n, (a, b) in enumerate(pairwise(places), 1) if b != a + 1), len(places))
