"""The object stores of the mesh, by name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from datetime import timedelta
from pathlib import Path
from urllib.parse import unquote, urlsplit

from mesh_core.errors import InvalidField, StartupError, Unavailable
from mesh_core.settings import MAIN_STORE, ObjectsSettings, StoreSettings
from mesh_media.stores.buckets import prepare_bucket
from mesh_media.stores.directory import Directory
from mesh_media.stores.object_store import (
    FoundObject,
    ListedStore,
    Source,
    StoreUrl,
    key_in,
    path_of,
    store_of,
)
from mesh_media.stores.s3 import S3, minio_client


class Stores:
    """All stores as one: an `ObjectStore` whose keys say where."""

    def __init__(self, stores: Mapping[str, ListedStore]) -> None:
        self._stores = stores

    @property
    def names(self) -> list[str]:
        """The names of all stores, `main` first."""
        return [*self._stores]

    async def unready(self) -> str:
        """Why the store `main` cannot be used; "" when it can."""
        return await self._stores[MAIN_STORE].unready()

    def check(self, field: str, name: str) -> None:
        """Raises `InvalidField` for a name that no store has."""
        if name not in self._stores:
            raise InvalidField(field, f"must be the name of a store: {', '.join(self._stores)}")

    async def put(self, key: str, source: Source) -> None:
        store, path = self._of(key)
        await store.put(path, source)

    async def get(self, key: str, start: int, end: int) -> AsyncGenerator[bytes, None]:
        store, path = self._of(key)
        async with aclosing(store.get(path, start, end)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def size(self, key: str) -> int | None:
        store, path = self._of(key)
        return await store.size(path)

    async def delete(self, key: str) -> None:
        store, path = self._of(key)
        await store.delete(path)

    async def delete_all(self, keys: Sequence[str]) -> None:
        paths: dict[ListedStore, list[str]] = {}
        for key in keys:
            store, path = self._of(key)
            paths.setdefault(store, []).append(path)
        for store, those in paths.items():
            await store.delete_all(those)

    async def page_of(self, name: str, after: str, limit: int) -> Sequence[FoundObject]:
        """As `page` of one store, but with keys that say that it is this one."""
        page = await self._stores[name].page(path_of(after), limit)
        return [FoundObject(key_in(name, one.key), one.size, one.unfinished) for one in page]

    async def download_url(self, key: str, ttl: timedelta, file_name: str, mime_type: str) -> StoreUrl | None:
        store, path = self._of(key)
        return await store.download_url(path, ttl, file_name, mime_type)

    def _of(self, key: str) -> tuple[ListedStore, str]:
        store = self._stores.get(store_of(key))
        if store is None:
            raise Unavailable(
                f"this process does not know the object store {store_of(key)}",
                "BACKEND_UNAVAILABLE",
                retry_after=1.0,
            )
        return store, path_of(key)


async def open_stores(settings: ObjectsSettings) -> Stores:
    """The configured stores; makes folders and buckets that are missing. Raises `StartupError`."""
    named: dict[str, StoreSettings] = {MAIN_STORE: settings, **settings.others}
    opened = await asyncio.gather(*map(open_store, named.values()))
    return Stores(dict(zip(named, opened, strict=True)))


async def open_store(settings: StoreSettings) -> ListedStore:
    """One store; raises `StartupError`."""
    parts = urlsplit(settings.url)
    try:
        if parts.scheme == "file":
            return await asyncio.to_thread(Directory, Path(unquote(parts.path)))
        await asyncio.to_thread(prepare_bucket, minio_client(settings), parts.netloc)
        return S3(settings, parts.netloc)
    except StartupError as error:
        raise StartupError(f"{settings.url}: {error}") from None
