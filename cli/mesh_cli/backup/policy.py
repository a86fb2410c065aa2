"""Which backups are kept, and what goes with the others."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from mesh_cli.backup.log_files import is_history
from mesh_cli.backup.objects import read_list
from mesh_cli.backup.records import Backup
from mesh_cli.backup.repository import Repository, folder_of


@dataclass(frozen=True, slots=True)
class Policy:
    """The newest backup of each of so many days, and of so many weeks (UTC) that have one."""

    daily: int
    weekly: int

    def kept(self, backups: Sequence[Backup]) -> set[str]:
        """Ids of what is kept of these, the newest always; the oldest comes first."""
        newest = [one.id for one in backups[-1:]]
        days = _newest_of(backups, lambda one: one.end_time.date(), self.daily)
        weeks = _newest_of(backups, lambda one: one.end_time.isocalendar()[:2], self.weekly)
        return {*newest, *days, *weeks}


async def prune(repository: Repository, policy: Policy) -> list[str]:
    """Deletes the other backups, with the objects and the log that only they needed, and what interrupted
    ones left.

    Returns the ids of the backups that went.
    """
    backups = (await repository.backups()).whole
    kept_ids = policy.kept(backups)
    kept = [one for one in backups if one.id in kept_ids]
    gone = [one for one in backups if one.id not in kept_ids]
    needed = {name for one in kept for name in await read_list(repository, one.objects)}
    for one in gone:
        await repository.remove(one)
    for folder, is_needed in (
        ("backups/", lambda name: any(name.startswith(folder_of(one.id)) for one in kept)),
        ("objects/", needed.__contains__),
        ("wal/", lambda name: _is_needed_log(name, kept)),
    ):
        for name in [one.key async for one in repository.files(folder) if not is_needed(one.key)]:
            await repository.delete(name)
    return [one.id for one in gone]


def _newest_of(backups: Sequence[Backup], span: Callable[[Backup], Hashable], most: int) -> list[str]:
    newest = {span(one): one.id for one in backups}
    return [*newest.values()][-most:] if most else []


def _is_needed_log(name: str, kept: Sequence[Backup]) -> bool:
    _, system, file = name.split("/", 2)
    of_system = [one for one in kept if str(one.system_identifier) == system]
    if is_history(file):
        return bool(of_system)
    # Timelines, the first eight digits, do not count: a segment has its place on all of them.
    return any(file[8:24] >= one.wal_from[8:24] for one in of_system)
