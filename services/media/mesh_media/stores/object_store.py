"""The object store: a directory or S3 behind one interface."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

import obstore
import structlog
from minio import Minio
from minio.error import MinioException
from obstore.exceptions import BaseError
from obstore.store import LocalStore, S3Store

from mesh_core.disk import FULL, DiskFull
from mesh_core.errors import FailedPrecondition, StartupError, Unavailable
from mesh_core.settings import ObjectsSettings

logger = structlog.get_logger(__name__)

CHUNK_BYTES = 256 * 1024


class ObjectStore(Protocol):
    """Objects by key (`folder/name`). A store that does not answer raises `Unavailable`."""

    async def put(self, key: str, source: Path | bytes) -> None:
        """Stores all bytes of `source`, or nothing."""

    def get(self, key: str, start: int, end: int) -> AsyncIterator[bytes]:
        """The bytes `start` to `end` (not included) in chunks; FileNotFoundError for an unknown key."""

    async def delete(self, key: str) -> None:
        """Deletes an object; does nothing for an unknown key."""

    async def download_url(self, key: str, ttl: timedelta, file_name: str, mime_type: str) -> str:
        """A URL that serves the object for `ttl`; raises `FailedPrecondition` when the store has no URLs."""


async def open_store(settings: ObjectsSettings) -> ObjectStore:
    """The configured store; makes its folder or bucket when it is missing. Raises `StartupError`."""
    parts = urlsplit(settings.url)
    if parts.scheme == "file":
        folder = Path(unquote(parts.path))
        try:
            return _Directory(LocalStore(folder, mkdir=True))
        except BaseError as error:
            raise StartupError(f"MESH_OBJECTS_URL={settings.url!r} cannot be used: {error}") from None
    bucket = parts.netloc
    client = _minio(settings)
    try:
        if not await asyncio.to_thread(client.bucket_exists, bucket):
            await asyncio.to_thread(client.make_bucket, bucket)
    except (MinioException, OSError, ValueError) as error:
        raise StartupError(f"MESH_OBJECTS_URL={settings.url!r} cannot be used: {error}") from None
    return _S3(_s3(settings, bucket), client, bucket)


class _ObstoreObjects:
    """What obstore does alike for a directory and S3."""

    def __init__(self, store: LocalStore | S3Store) -> None:
        self._store = store

    async def put(self, key: str, source: Path | bytes) -> None:
        try:
            await obstore.put_async(self._store, key, source)
        except BaseError as error:
            raise _unavailable(error) from error

    async def get(self, key: str, start: int, end: int) -> AsyncIterator[bytes]:
        if start == end:  # an empty range is an error to a store
            return
        try:
            found = await obstore.get_async(self._store, key, options={"range": (start, end)})
            async for chunk in found.stream(min_chunk_size=CHUNK_BYTES):
                for at in range(0, len(chunk), CHUNK_BYTES):
                    yield bytes(chunk[at : at + CHUNK_BYTES])
        except FileNotFoundError:
            raise
        except BaseError as error:
            raise _unavailable(error) from error

    async def delete(self, key: str) -> None:
        try:
            await obstore.delete_async(self._store, key)
        except FileNotFoundError:
            return
        except BaseError as error:
            raise _unavailable(error) from error


class _Directory(_ObstoreObjects):
    async def put(self, key: str, source: Path | bytes) -> None:
        """Raises `DiskFull`, too."""
        try:
            await super().put(key, source)
        except Unavailable as error:
            if any(f"os error {number}" in str(error.__cause__) for number in FULL):
                logger.error("the disk of the object store is full", cause=str(error.__cause__))  # noqa: TRY400 - the cause tells
                raise DiskFull("the object store") from error
            raise

    async def download_url(self, key: str, ttl: timedelta, file_name: str, mime_type: str) -> str:
        raise FailedPrecondition(
            "the object store is a directory, which has no web addresses; use DownloadMedia",
            "UNSUPPORTED_BY_STORE",
        )


class _S3(_ObstoreObjects):
    def __init__(self, store: S3Store, client: Minio, bucket: str) -> None:
        super().__init__(store)
        self._client = client
        self._bucket = bucket

    async def download_url(self, key: str, ttl: timedelta, file_name: str, mime_type: str) -> str:
        shown = "".join(c if c.isascii() and c.isprintable() and c not in '"\\' else "_" for c in file_name)
        headers: dict[str, str | list[str] | tuple[str]] = {
            "response-content-type": mime_type,
            "response-content-disposition": f'attachment; filename="{shown}"' if shown else "attachment",
        }
        try:
            return await asyncio.to_thread(
                self._client.presigned_get_object,
                self._bucket,
                key,
                expires=ttl,
                response_headers=headers,
            )
        except (MinioException, OSError) as error:
            raise _unavailable(error) from error


def _s3(settings: ObjectsSettings, bucket: str) -> S3Store:
    return S3Store(
        bucket,
        endpoint=settings.endpoint or None,
        access_key_id=settings.access_key or None,
        secret_access_key=settings.secret_key or None,
        region=settings.region,
        virtual_hosted_style_request=not settings.endpoint,
        client_options={"allow_http": settings.endpoint.startswith("http://")},
    )


def _minio(settings: ObjectsSettings) -> Minio:
    endpoint = urlsplit(settings.endpoint or f"https://s3.{settings.region}.amazonaws.com")
    return Minio(
        endpoint.netloc,
        access_key=settings.access_key or None,
        secret_key=settings.secret_key or None,
        region=settings.region,
        secure=endpoint.scheme == "https",
    )


def _unavailable(error: Exception) -> Unavailable:
    # The store's own message can name its address and bucket, which callers must not see.
    return Unavailable(
        f"the object store does not answer ({type(error).__name__})", "BACKEND_UNAVAILABLE", retry_after=1.0
    )
