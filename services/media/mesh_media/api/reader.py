"""Reading stored files, from wherever they are meanwhile, and only as they were stored."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from hashlib import sha256

import structlog

from mesh_core import ids
from mesh_core.errors import DataLoss
from mesh_core.ids import Prefix
from mesh_core.metrics import counter
from mesh_core.usage.counts import used_by
from mesh_media.api.variants import Variant, VariantFile, file_of
from mesh_media.repository.media_repository import MediaRepository
from mesh_media.repository.rows import MediaRow
from mesh_media.stores.object_store import ObjectStore
from mesh_media.stores.obstore_objects import damaged

logger = structlog.get_logger(__name__)

DOWNLOADS = counter(
    "mesh_media_downloads_total", "Downloads begun, by links too.", answers="How much is downloaded?"
)
DOWNLOADED_BYTES = counter(
    "mesh_media_downloaded_bytes_total", "Bytes sent to downloaders.", answers="How much is downloaded?"
)
DAMAGED = counter(
    "mesh_media_damaged_downloads_total",
    "Downloads of objects that were lost, cut off or changed.",
    answers="Has the store lost something?",
)


class Reader:
    """Reads variants of media."""

    def __init__(self, media: MediaRepository, store: ObjectStore) -> None:
        self._media = media
        self._store = store

    async def read(
        self, row: MediaRow, variant: Variant, start: int, end: int
    ) -> AsyncGenerator[bytes, None]:
        """The bytes `start` to `end` (not included) in chunks.

        The whole of a variant is compared with its hash: where it differs, its last chunk is not given. A
        part is not, since only the whole has a hash; a part that is missing is noticed. Raises `DataLoss`,
        `NotFound` when the media was deleted meanwhile, and `Unavailable`.
        """
        file = file_of(row, variant)
        DOWNLOADS.inc()
        used = used_by(row.tenant)
        try:
            chunks = self._chunks(row, variant, start, end)
            async for chunk in _checked(chunks, file) if end - start == file.size else chunks:
                DOWNLOADED_BYTES.inc(len(chunk))
                used.media_downloaded_bytes += len(chunk)
                yield chunk
        except DataLoss:
            DAMAGED.inc()
            logger.error("a stored file is damaged", media=ids.encode(Prefix.MEDIA, row.id), key=file.key)  # noqa: TRY400 - all is said
            raise

    async def _chunks(
        self, row: MediaRow, variant: Variant, start: int, end: int
    ) -> AsyncGenerator[bytes, None]:
        key = file_of(row, variant).key
        while True:
            try:
                async for chunk in self._store.get(key, start, end):
                    start += len(chunk)
                    yield chunk
            except FileNotFoundError:
                now = file_of(await self._media.get(row.id), variant)
                if now.key == key:
                    raise damaged() from None
                key = now.key  # it moved to another store
            else:
                return


async def _checked(chunks: AsyncGenerator[bytes, None], file: VariantFile) -> AsyncGenerator[bytes, None]:
    digest, held = sha256(), b""
    async for chunk in chunks:
        digest.update(chunk)
        if held:
            yield held
        held = chunk
    if digest.digest() != file.sha256:
        raise damaged()
    if held:
        yield held
