"""A directory as an object store."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Sequence
from datetime import timedelta
from itertools import islice
from pathlib import Path

from obstore.exceptions import BaseError
from obstore.store import LocalStore

from mesh_core.errors import StartupError
from mesh_media.stores.object_store import FoundObject, StoreUrl
from mesh_media.stores.obstore_objects import ObstoreObjects

UNFINISHED = "#"
"""In the names of files that are being written, behind the name that they get at the end."""


class Directory(ObstoreObjects):
    """Files named for their keys. They have no web addresses of their own."""

    def __init__(self, folder: Path) -> None:
        """Makes the folder when it is missing; raises `StartupError`."""
        try:
            super().__init__(LocalStore(folder, mkdir=True))
        except BaseError as error:
            raise StartupError(f"the folder {folder} cannot be used for objects: {error}") from None
        self._folder = folder

    async def unready(self) -> str:
        there = await asyncio.to_thread(os.access, self._folder, os.R_OK | os.W_OK | os.X_OK)
        return "" if there else "the folder of objects is gone, or not to be written to"

    async def delete(self, key: str) -> None:
        if UNFINISHED in key:  # obstore knows of no such names
            await asyncio.to_thread((self._folder / key).unlink, missing_ok=True)
        else:
            await super().delete(key)

    async def delete_all(self, keys: Sequence[str]) -> None:
        for key in keys:
            if UNFINISHED in key:
                await self.delete(key)
        await super().delete_all([key for key in keys if UNFINISHED not in key])

    async def page(self, after: str, limit: int) -> Sequence[FoundObject]:
        return await asyncio.to_thread(lambda: [*islice(_files(self._folder, "", after), limit)])

    async def download_url(self, key: str, ttl: timedelta, file_name: str, mime_type: str) -> StoreUrl | None:
        return None


def _files(folder: Path, prefix: str, after: str) -> Iterator[FoundObject]:
    """The files below a folder, in the order of their keys: names have no character that sorts before `/`."""
    with os.scandir(folder) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        key = prefix + entry.name
        if entry.is_dir(follow_symlinks=False):
            if f"{key}/~" > after:
                yield from _files(folder / entry.name, f"{key}/", after)
        elif key > after:
            try:
                size = entry.stat(follow_symlinks=False).st_size
            except FileNotFoundError:  # deleted since it was listed
                continue
            yield FoundObject(key, size, UNFINISHED in entry.name)
