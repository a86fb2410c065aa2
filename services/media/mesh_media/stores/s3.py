"""A bucket of S3, Amazon's or any other's, as an object store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

import obstore
from minio import Minio
from minio.error import MinioException
from obstore.exceptions import BaseError
from obstore.store import S3Store

from mesh_core.settings import StoreSettings
from mesh_media.stores.object_store import FoundObject
from mesh_media.stores.obstore_objects import ObstoreObjects, unavailable

if TYPE_CHECKING:  # obstore has it for type checkers only
    from obstore.store import S3Config

READ_BYTES = 4 * 1024 * 1024
"""How much is asked for at a time: no request stands open while whoever downloads is slow."""
RETRY_SECONDS = 10.0
"""How long S3 is tried before it counts as unavailable."""


class S3(ObstoreObjects):
    """Objects of one bucket, which exists."""

    def __init__(self, settings: StoreSettings, bucket: str) -> None:
        super().__init__(_store(settings, bucket))
        self._signer = minio_client(settings, settings.public_endpoint)
        self._bucket = bucket

    async def page(self, after: str, limit: int) -> Sequence[FoundObject]:
        # S3's own listing is in this order and at most 1,000 long.
        listing = obstore.list(self._store, offset=after or None, chunk_size=limit)
        try:
            async for page in listing:
                return [FoundObject(one["path"], one["size"]) for one in page]
        except BaseError as error:
            raise unavailable(error) from error
        return []

    async def download_url(self, key: str, ttl: timedelta, file_name: str, mime_type: str) -> str | None:
        headers: dict[str, str | list[str] | tuple[str]] = {
            "response-content-type": mime_type,
            "response-content-disposition": attachment(file_name),
        }
        try:
            return await asyncio.to_thread(
                self._signer.presigned_get_object,
                self._bucket,
                key,
                expires=ttl,
                response_headers=headers,
            )
        except (MinioException, OSError) as error:
            raise unavailable(error) from error

    async def _parts(self, key: str, start: int, end: int) -> AsyncIterator[memoryview]:
        while start < end:
            asked = min(end, start + READ_BYTES)
            part = await obstore.get_range_async(self._store, key, start=start, end=asked)
            yield memoryview(part)
            if len(part) < asked - start:
                return
            start = asked


def attachment(file_name: str) -> str:
    """The value of Content-Disposition that has browsers store a file, whatever it is, under this name."""
    if not file_name:
        return "attachment"
    plain = "".join(c if c.isascii() and c.isprintable() and c not in '"\\%' else "_" for c in file_name)
    exact = "" if plain == file_name else f"; filename*=UTF-8''{quote(file_name, safe='')}"
    return f'attachment; filename="{plain}"{exact}'


def minio_client(settings: StoreSettings, endpoint: str = "") -> Minio:
    """What obstore does not do: buckets, their rules, and signed URLs with headers; at the settings' endpoint
    unless another is given.
    """
    at = urlsplit(endpoint or settings.endpoint or f"https://s3.{settings.region}.amazonaws.com")
    return Minio(
        at.netloc,
        access_key=settings.access_key or None,
        secret_key=settings.secret_key or None,
        region=settings.region,
        secure=at.scheme == "https",
    )


def _store(settings: StoreSettings, bucket: str) -> S3Store:
    return S3Store(
        bucket,
        endpoint=settings.endpoint or None,
        access_key_id=settings.access_key or None,
        secret_access_key=settings.secret_key or None,
        region=settings.region,
        virtual_hosted_style_request=not settings.endpoint,
        client_options={"allow_http": settings.endpoint.startswith("http://")},
        retry_config={"max_retries": 5, "retry_timeout": timedelta(seconds=RETRY_SECONDS)},
        config=_encryption(settings),
    )


def _encryption(settings: StoreSettings) -> S3Config:
    if settings.encryption == "s3":
        return {"server_side_encryption": "AES256"}
    if settings.encryption == "kms" and settings.kms_key:
        return {"server_side_encryption": "aws:kms", "sse_kms_key_id": settings.kms_key}
    return {"server_side_encryption": "aws:kms"} if settings.encryption else {}
