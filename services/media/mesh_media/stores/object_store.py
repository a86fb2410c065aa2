"""What an object store does, whatever it is; and keys, which say which store of several has the object:
`NAME:path`, or only the path in `main`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol, TypeAlias

from mesh_core.settings import MAIN_STORE

Source: TypeAlias = Path | bytes | AsyncGenerator[bytes, None]
"""A file, its bytes, or its bytes as they come."""
CHUNK_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class FoundObject:
    """An object that a store has: its key, and its size in bytes.

    `unfinished`: what a process that ended left of a write; the key is not the one that was written.
    """

    key: str
    size: int
    unfinished: bool = False


@dataclass(frozen=True, slots=True)
class StoreUrl:
    """A URL that serves an object until `ends`."""

    url: str
    ends: datetime


class ObjectStore(Protocol):
    """Objects by key (`folder/name`), which are never changed. A store that does not answer raises
    `Unavailable`, one whose disk is full `DiskFull`.
    """

    async def put(self, key: str, source: Source) -> None:
        """Stores all bytes of `source`, or nothing; raises what that raises."""

    def get(self, key: str, start: int, end: int) -> AsyncGenerator[bytes, None]:
        """The bytes `start` to `end` (not included) in chunks of `CHUNK_BYTES` at most; FileNotFoundError for
        an unknown key, `DataLoss` for an object that has fewer bytes.
        """

    async def size(self, key: str) -> int | None:
        """Bytes of an object; None for an unknown key."""

    async def delete(self, key: str) -> None:
        """Deletes an object; does nothing for an unknown key."""

    async def delete_all(self, keys: Sequence[str]) -> None:
        """Deletes objects in few requests. Raises when one is not there or cannot be deleted: of the others
        some may be deleted then.
        """

    async def download_url(self, key: str, ttl: timedelta, file_name: str, mime_type: str) -> StoreUrl | None:
        """A URL that serves the object for `ttl`, or less where what it is signed with ends earlier; None
        when the store has no URLs.
        """


class ListedStore(ObjectStore, Protocol):
    """One store, which knows what it has."""

    async def put(self, key: str, source: Source, expected_bytes: int = 0) -> None:
        """As above. `expected_bytes`: about how many there will be, where that may be more than 40 GB."""

    async def page(self, after: str, limit: int) -> Sequence[FoundObject]:
        """At most `limit` objects behind the key `after`, in the order of their keys; "" for the first."""

    async def unready(self) -> str:
        """Why objects cannot be stored or read now, in a few words; "" when they can."""


def store_of(key: str) -> str:
    """The name of the store that a key's object is in."""
    name, separator, _ = key.partition(":")
    return name if separator else MAIN_STORE


def path_of(key: str) -> str:
    """A key without its store."""
    return key.rpartition(":")[2]


def key_in(store: str, path: str) -> str:
    """The key of an object in a store."""
    return path if store == MAIN_STORE else f"{store}:{path}"
