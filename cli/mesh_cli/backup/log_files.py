"""Names of the files of Postgres' log, as its tools write them, and as they are stored."""

from __future__ import annotations

import re

from mesh_cli.backup import Damaged
from mesh_cli.backup.repository import Repository
from mesh_cli.backup.streams import opened

SUFFIX = ".gz.age"
PARTIAL = ".partial"
_SEGMENTS_IN_LOG = 256
_READINGS = 5
_SEGMENT = re.compile(r"[0-9A-F]{24}")
_HISTORY = re.compile(r"[0-9A-F]{8}\.history")


def folder_of_log(system: int) -> str:
    """Where the log of a server is stored."""
    return f"wal/{system}/"


def is_history(file: str) -> bool:
    """Whether it tells where a timeline left another."""
    return _HISTORY.match(file) is not None


def is_whole(file: str) -> bool:
    """Whether a file of pg_receivewal is one that it writes to no more."""
    return _SEGMENT.fullmatch(file) is not None or _HISTORY.fullmatch(file) is not None


def place(segment: str) -> int:
    """The number of a segment, whatever its timeline."""
    return int(segment[8:16], 16) * _SEGMENTS_IN_LOG + int(segment[16:24], 16)


async def stored_log(repository: Repository, system: int, first: str) -> dict[str, tuple[str, int]]:
    """The files from the segment `first` on: name, and where it is stored with how many bytes.

    Of a segment whose end is missing there is what was written of it, under its whole name.
    """
    folder, found = folder_of_log(system), {}
    async for one in repository.files(folder):
        if one.unfinished:  # of a follower that is storing it, or ended while it did
            continue
        name = one.key.removeprefix(folder).removesuffix(SUFFIX)
        if is_history(name) or name[8:24] >= first[8:24]:
            found[name] = (one.key, one.size)
    whole = {name: where for name, where in found.items() if not name.endswith(PARTIAL)}
    ends = {name.removesuffix(PARTIAL): where for name, where in found.items() if name.endswith(PARTIAL)}
    return ends | whole


async def read_log(repository: Repository, stored: str, size: int, identity: str) -> bytes:
    """One file of the log, a segment at most. Raises `Damaged`.

    While the log is followed, its end is stored anew every few seconds, and then as a whole segment: where
    that happens during the reading, it is read again.
    """
    end = f"{PARTIAL}{SUFFIX}"
    for reading in range(_READINGS):
        if reading > 0:
            stored, size = await _as_it_is_now(repository, stored, end)
        try:
            chunks = opened(repository.read_unchecked(stored, size), identity, stored)
            return b"".join([chunk async for chunk in chunks])
        except Damaged:
            if not stored.endswith(end):
                raise
    raise Damaged(f"{stored} is damaged")


async def _as_it_is_now(repository: Repository, stored: str, end: str) -> tuple[str, int]:
    for name in (stored, stored.removesuffix(end) + SUFFIX):
        if (size := await repository.size(name)) is not None:
            return name, size
    raise Damaged(f"{stored} is missing")
