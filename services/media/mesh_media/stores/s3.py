"""A bucket of S3, Amazon's or any other's, as an object store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from ssl import SSLError, create_default_context
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

import obstore
from minio import Minio
from minio.credentials.providers import Provider
from obstore.exceptions import BaseError
from obstore.store import S3Store
from urllib3 import PoolManager, Retry, Timeout

from mesh_core.errors import StartupError
from mesh_core.settings import StoreSettings
from mesh_media.stores.credentials import NoCredentials, credentials_of, end_of, for_obstore
from mesh_media.stores.object_store import FoundObject, StoreUrl
from mesh_media.stores.obstore_objects import ObstoreObjects, unavailable

if TYPE_CHECKING:  # obstore has it for type checkers only
    from obstore.store import ClientConfig, S3Config

READ_BYTES = 4 * 1024 * 1024
"""How much is asked for at a time: no request stands open while whoever downloads is slow."""
RETRY_SECONDS = 10.0
"""How long S3 is tried before it counts as unavailable."""


class S3(ObstoreObjects):
    """Objects of one bucket, which exists."""

    def __init__(self, settings: StoreSettings, bucket: str) -> None:
        """Raises `StartupError` for certificates that cannot be read."""
        self._keys = credentials_of(settings)
        self._signer = minio_client(settings, settings.public_endpoint, self._keys)
        super().__init__(_store(settings, bucket, self._keys))
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

    async def download_url(self, key: str, ttl: timedelta, file_name: str, mime_type: str) -> StoreUrl | None:
        headers: dict[str, str | list[str] | tuple[str]] = {
            "response-content-type": mime_type,
            "response-content-disposition": attachment(file_name),
        }

        def signed() -> StoreUrl:
            now = datetime.now(UTC)
            url = self._signer.presigned_get_object(
                self._bucket, key, expires=ttl, response_headers=headers, request_date=now
            )
            # S3 takes an address no longer than the keys that signed it.
            return StoreUrl(url, min(now + ttl, end_of(self._keys.retrieve()) or now + ttl))

        try:
            return await asyncio.to_thread(signed)
        except NoCredentials as error:
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


def minio_client(
    settings: StoreSettings, endpoint: str = "", keys: Provider | None = None, *, seconds: float | None = None
) -> Minio:
    """What obstore does not do: buckets, their rules, and signed URLs with headers; at the settings' endpoint
    unless another is given. With `seconds` each request is made once, and no longer waited for. Raises
    `StartupError` for certificates that cannot be read.
    """
    at = urlsplit(endpoint or _endpoint(settings))
    client = Minio(
        at.netloc,
        credentials=keys or credentials_of(settings),
        region=settings.region,
        secure=at.scheme == "https",
        http_client=_http(settings.ca_file, seconds),
    )
    if _is_virtual(settings):
        client.enable_virtual_style_endpoint()  # type: ignore[no-untyped-call]
    else:
        client.disable_virtual_style_endpoint()  # type: ignore[no-untyped-call]
    return client


def _http(ca_file: str, seconds: float | None) -> PoolManager:
    context = create_default_context()
    if ca_file:
        try:
            context.load_verify_locations(ca_file)
        except (OSError, SSLError) as error:
            raise StartupError(f"ca_file {ca_file} has no certificates that can be read: {error}") from None
    if seconds is not None:
        return PoolManager(timeout=Timeout(seconds), ssl_context=context, retries=False)
    retries = Retry(total=3, backoff_factor=0.2, status_forcelist=[500, 502, 503, 504])
    return PoolManager(timeout=Timeout(connect=5.0, read=30.0), ssl_context=context, retries=retries)


def _store(settings: StoreSettings, bucket: str, keys: Provider) -> S3Store:
    virtual, endpoint = _is_virtual(settings), urlsplit(_endpoint(settings))
    if virtual:  # obstore wants the bucket in it
        endpoint = endpoint._replace(netloc=f"{bucket}.{endpoint.netloc}")
    client: ClientConfig = {
        "allow_http": endpoint.scheme == "http",
        # http_proxy in the environment is not meant for the mesh's own servers. Only another one replaces it.
        "proxy_url": "http://proxy.invalid",
        "proxy_excludes": endpoint.hostname or "",
    }
    if settings.ca_file:
        client["root_certificate"] = Path(settings.ca_file).read_bytes()
    return S3Store(
        bucket,
        endpoint=endpoint.geturl(),
        region=settings.region,
        virtual_hosted_style_request=virtual,
        client_options=client,
        retry_config={"max_retries": 5, "retry_timeout": timedelta(seconds=RETRY_SECONDS)},
        credential_provider=for_obstore(keys),
        config=_encryption(settings),
    )


def _endpoint(settings: StoreSettings) -> str:
    return settings.endpoint or f"https://s3.{settings.region}.amazonaws.com"


def _is_virtual(settings: StoreSettings) -> bool:
    """Whether a bucket is named in the host: no certificate of Amazon's is for names with dots."""
    if settings.addressing:
        return settings.addressing == "virtual"
    return not settings.endpoint and "." not in urlsplit(settings.url).netloc


def _encryption(settings: StoreSettings) -> S3Config:
    if settings.encryption == "s3":
        return {"server_side_encryption": "AES256"}
    if settings.encryption == "kms" and settings.kms_key:
        return {"server_side_encryption": "aws:kms", "sse_kms_key_id": settings.kms_key}
    return {"server_side_encryption": "aws:kms"} if settings.encryption else {}
