"""Copies of objects in another store, which are read back and compared with the hash of what was stored."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from hashlib import sha256
from time import monotonic

from mesh_media.repository.moving_repository import Moving
from mesh_media.stores.named_stores import Stores
from mesh_media.stores.obstore_objects import PART_BYTES, damaged


class Copier:
    """Copies objects at one pace."""

    def __init__(self, stores: Stores, pace: Pace) -> None:
        self._stores = stores
        self._pace = pace

    async def copy(self, one: Moving, key: str) -> None:
        """Writes the object's bytes as `key`. Raises FileNotFoundError, `DataLoss` when they are not what was
        stored, `DiskFull` and `Unavailable`.
        """
        if one.size <= PART_BYTES:
            await self._stores.put(key, b"".join([chunk async for chunk in self._read(one)]))
        else:
            await self._stores.put(key, self._read(one))
        digest = sha256()
        async for chunk in self._stores.get(key, 0, one.size):
            digest.update(chunk)
        if digest.digest() != one.sha256:
            raise damaged()

    async def _read(self, one: Moving) -> AsyncGenerator[bytes, None]:
        async for chunk in self._stores.get(one.key, 0, one.size):
            await self._pace.keep(len(chunk))
            yield chunk


class Pace:
    """Holds all who share it to so many bytes a second; None: to nothing."""

    def __init__(self, bytes_per_second: int | None) -> None:
        self._bytes_per_second = bytes_per_second
        self._free_at = monotonic()

    async def keep(self, size: int) -> None:
        """Waits until `size` bytes more are within the pace."""
        if self._bytes_per_second is None:
            return
        self._free_at = max(self._free_at, monotonic()) + size / self._bytes_per_second
        await asyncio.sleep(self._free_at - monotonic())
