"""Where backups are: a directory, or a bucket of an S3.

backups/ID/{base.tar.gz.age,objects.txt,backup.json}   backup.json comes last, and goes first
objects/NN/NAME.gz.age                                 one for each file, whatever backups have it
wal/SYSTEM/SEGMENT.gz.age                              the log, and SEGMENT.partial.gz.age, its end
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass

from mesh_cli.backup import Damaged, Failed, Refused
from mesh_cli.backup.records import Backup, StoredFile, decoded, encoded
from mesh_cli.backup.streams import Bytes, Counted, of_bytes, read_by_others
from mesh_core.errors import MeshError, StartupError
from mesh_core.settings import StoreSettings
from mesh_media.stores.named_stores import open_store
from mesh_media.stores.object_store import FoundObject, ListedStore

_PAGE = 1000
_RECORD = "backup.json"


@dataclass(frozen=True, slots=True)
class Backups:
    """What there is: whole backups, the oldest first, and why each of the others cannot be used."""

    whole: tuple[Backup, ...]
    damaged: tuple[Damaged, ...]


class Repository:
    """Raises `Failed` when the store does not answer, or is full."""

    def __init__(self, store: ListedStore) -> None:
        self._store = store

    @classmethod
    async def open(cls, settings: StoreSettings) -> Repository:
        """Raises `Refused`."""
        try:
            return cls(await open_store(settings))
        except (StartupError, MeshError) as error:
            raise Refused(f"MESH_BACKUP_URL: {error}") from None

    async def store(self, name: str, chunks: Bytes, expected_bytes: int = 0) -> StoredFile:
        """Stores all of it, or nothing. `expected_bytes`: as much as it may be, where that is gigabytes."""
        counted = Counted()
        try:
            async with read_by_others(counted.of(chunks)) as passing:
                await self._store.put(name, passing, expected_bytes)
        except MeshError as error:
            raise Failed(f"{name} cannot be stored: {error}") from None
        return StoredFile(name, counted.size, counted.sha256)

    async def read(self, file: StoredFile) -> Bytes:
        """Raises `Damaged` at its end, when these were not the bytes that were stored."""
        counted = Counted()
        async with aclosing(self.read_unchecked(file.name, file.size)) as chunks:
            async for chunk in counted.of(chunks):
                yield chunk
        if counted.sha256 != file.sha256:
            raise Damaged(f"{file.name} is damaged: it has another hash than it was stored with")

    async def check(self, file: StoredFile) -> None:
        """Reads all of it. Raises `Damaged`."""
        async for _ in self.read(file):
            pass

    async def read_whole(self, name: str) -> bytes:
        """A small file."""
        size = await self.size(name)
        if size is None:
            raise Damaged(f"{name} is missing")
        return b"".join([chunk async for chunk in self._store.get(name, 0, size)])

    async def read_unchecked(self, name: str, size: int) -> Bytes:
        """A file whose hash is noted nowhere. Raises `Damaged` when it is missing, or shorter."""
        try:
            async with aclosing(self._store.get(name, 0, size)) as chunks:
                async for chunk in chunks:
                    yield chunk
        except FileNotFoundError:
            raise Damaged(f"{name} is missing") from None
        except MeshError as error:
            if error.reason == "FILE_DAMAGED":
                raise Damaged(f"{name} is damaged: it is too short") from None
            raise Failed(f"{name} cannot be read: {error}") from None

    async def size(self, name: str) -> int | None:
        """Bytes of a file; None when there is none."""
        try:
            return await self._store.size(name)
        except MeshError as error:
            raise Failed(f"the backups cannot be read: {error}") from None

    async def delete(self, name: str) -> None:
        try:
            await self._store.delete(name)
        except MeshError as error:
            raise Failed(f"{name} cannot be deleted: {error}") from None

    async def files(self, folder: str) -> AsyncIterator[FoundObject]:
        """All files whose names begin with `folder`, which ends with a slash, by name."""
        after = folder[:-1] + "."  # sorts before the slash
        while True:
            try:
                page = await self._store.page(after, _PAGE)
            except MeshError as error:
                raise Failed(f"the backups cannot be listed: {error}") from None
            for one in page:
                if one.key.startswith(folder):
                    yield one
                elif one.key > folder:
                    return
            if len(page) < _PAGE:
                return
            after = page[-1].key

    async def backups(self) -> Backups:
        """All backups; a damaged one hides none of the others."""
        names = [one.key async for one in self.files("backups/") if one.key.endswith(f"/{_RECORD}")]
        whole, damaged = [], []
        for name in names:
            try:
                whole.append(decoded(await self.read_whole(name), name))
            except Damaged as error:
                damaged.append(error)
        return Backups(tuple(whole), tuple(damaged))

    async def backups_of(self, system: int, recipient: str) -> Backups:
        """The same. Raises `Refused` when some are of another server or for another key: logs and files are
        stored once for all of them.
        """
        backups = await self.backups()
        for one in backups.whole:
            if one.system_identifier != system:
                raise Refused(
                    "MESH_BACKUP_URL has backups of another database: give each its own place, or their logs "
                    "and rules of what is kept would mix"
                )
            if one.recipient != recipient:
                raise Refused(
                    "MESH_BACKUP_URL has backups for another key than MESH_BACKUP_RECIPIENT: give each its "
                    "own place, or files that both need could be opened with one of the keys only"
                )
        return backups

    async def add(self, backup: Backup) -> None:
        """From here on the backup is there."""
        await self.store(f"{folder_of(backup.id)}{_RECORD}", of_bytes(encoded(backup)))

    async def remove(self, backup: Backup) -> None:
        """Its objects and its log stay."""
        for name in (f"{folder_of(backup.id)}{_RECORD}", backup.base.name, backup.objects.name):
            await self.delete(name)


def folder_of(backup: str) -> str:
    """Where a backup's own files are."""
    return f"backups/{backup}/"
