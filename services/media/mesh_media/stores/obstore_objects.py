"""What obstore does alike for a directory and S3."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from math import ceil

import obstore
import structlog
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import LocalStore, S3Store

from mesh_core.disk import FULL, DiskFull
from mesh_core.errors import DataLoss, Unavailable
from mesh_media.stores.credentials import NoCredentials
from mesh_media.stores.object_store import CHUNK_BYTES, Source

logger = structlog.get_logger(__name__)

PART_BYTES = 5 * 1024 * 1024
"""Size of the parts in which large objects are uploaded: S3 takes none smaller."""
MOST_PARTS = 10_000
"""Of one object, in S3."""
PARTS_AT_ONCE = 1
"""Of one object; each takes its size in memory."""


class ObstoreObjects:
    """Put, get and delete through obstore."""

    def __init__(self, store: LocalStore | S3Store) -> None:
        self._store = store

    async def put(self, key: str, source: Source, expected_bytes: int = 0) -> None:
        size = part_bytes(expected_bytes)
        try:
            await obstore.put_async(self._store, key, source, chunk_size=size, max_concurrency=PARTS_AT_ONCE)
        except BaseError as error:
            if any(sign in str(error) for sign in _FULL):
                logger.error("the object store is full", cause=_first_line(error))  # noqa: TRY400 - the cause tells
                raise DiskFull("the object store") from error
            raise unavailable(error) from error

    async def get(self, key: str, start: int, end: int) -> AsyncGenerator[bytes, None]:
        if start == end:  # an empty range is an error to a store
            return
        try:
            async for part in self._parts(key, start, end):
                for at in range(0, len(part), CHUNK_BYTES):
                    yield bytes(part[at : at + CHUNK_BYTES])
                start += len(part)
        except FileNotFoundError:
            raise
        except BaseError as error:
            # Some stores refuse a range that begins behind the end of what is left of an object.
            size = await self.size(key)
            if size is None or size >= end:
                raise unavailable(error) from error
        if start < end:
            raise damaged()

    async def size(self, key: str) -> int | None:
        try:
            return (await obstore.head_async(self._store, key))["size"]
        except FileNotFoundError:
            return None
        except BaseError as error:
            raise unavailable(error) from error

    async def unready(self) -> str:
        try:
            await obstore.get_async(self._store, "readiness")  # an object that nobody stores
        except FileNotFoundError:
            return ""
        except (PermissionDeniedError, UnauthenticatedError) as error:
            # S3 tells keys for objects only that what is not there is forbidden. HEAD would not say so.
            return "" if _FORBIDDEN in str(error) else "the object store refuses the keys"
        except BaseError:
            return "the object store does not answer"
        return ""

    async def delete(self, key: str) -> None:
        try:
            await obstore.delete_async(self._store, key)
        except FileNotFoundError:
            return
        except BaseError as error:
            raise unavailable(error) from error

    async def delete_all(self, keys: Sequence[str]) -> None:
        try:
            await obstore.delete_async(self._store, [*keys])
        except FileNotFoundError:
            raise
        except BaseError as error:
            raise unavailable(error) from error

    async def _parts(self, key: str, start: int, end: int) -> AsyncIterator[memoryview]:
        """The bytes as they come; fewer where the object ends before `end`."""
        found = await obstore.get_async(self._store, key, options={"range": (start, end)})
        async for part in found.stream(min_chunk_size=CHUNK_BYTES):
            yield memoryview(part)


def part_bytes(expected_bytes: int) -> int:
    """The size of the parts of an object of about so many bytes, or a quarter more: 5 MiB, and for 5 TiB, the
    largest object that S3 takes, 656 MiB.
    """
    return max(PART_BYTES, ceil(expected_bytes * _SLACK / MOST_PARTS))


def unavailable(error: Exception) -> Unavailable:
    """What callers are told: the store's own message can name its address and bucket, not for them to see.
    Keys that it no longer takes are told to who runs the mesh.
    """
    if isinstance(error, (PermissionDeniedError, UnauthenticatedError, NoCredentials)):
        logger.error("the object store refuses the keys", cause=_first_line(error))
    return Unavailable(
        f"the object store does not answer ({type(error).__name__})", "BACKEND_UNAVAILABLE", retry_after=1.0
    )


def damaged() -> DataLoss:
    """What callers are told of an object whose bytes are not those that were stored."""
    return DataLoss("the stored file is damaged", "FILE_DAMAGED")


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


_FORBIDDEN = "<Code>AccessDenied</Code>"
_SLACK = 1.25
_FULL = (
    *(f"os error {number})" for number in FULL),
    "code: 507",  # and codes of S3 that come with other numbers
    "QuotaExceeded",
    "StorageFull",
    "InsufficientCapacity",
    "InsufficientStorage",
    "storage cap exceeded",
)
"""What stores say whose disk is full, or that may take no more."""
