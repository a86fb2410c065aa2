"""MediaService: the API over uploads, media rows and the object store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc.aio
from prometheus_client import Counter

from mesh_core import ids
from mesh_core.errors import InvalidField, NotFound
from mesh_core.ids import Prefix
from mesh_core.paging import Pager
from mesh_core.rpc.auth import current_identity
from mesh_core.rpc.server.drain import finishes
from mesh_core.telemetry import tracing
from mesh_core.validation import duration, labels, text, to_timestamp
from mesh_media.api.uploads import Uploads
from mesh_media.repository.media_repository import MediaRepository
from mesh_media.repository.object_repository import ObjectRepository
from mesh_media.repository.rows import MediaRow
from mesh_media.stores.object_store import ObjectStore
from sessionmesh.v1 import content_pb2, media_pb2, media_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]
DEFAULT_URL_TTL = timedelta(minutes=15)
MAX_URL_TTL = timedelta(days=7)

DOWNLOADS = Counter("mesh_media_downloads", "Downloads begun.")
DOWNLOADED_BYTES = Counter("mesh_media_downloaded_bytes", "Bytes sent to downloaders.")


class MediaService(media_pb2_grpc.MediaServiceServicer):
    """Files of tenants. Retention policies, prunes and migrations are answered NOT_SERVED."""

    def __init__(
        self,
        media: MediaRepository,
        objects: ObjectRepository,
        store: ObjectStore,
        uploads: Uploads,
        pager: Pager,
        delete_grace: timedelta,
    ) -> None:
        self._media = media
        self._objects = objects
        self._store = store
        self._uploads = uploads
        self._pager = pager
        self._delete_grace = delete_grace

    async def UploadMedia(
        self, request_iterator: AsyncIterator[media_pb2.UploadMediaRequest], context: Context
    ) -> media_pb2.UploadMediaResponse:
        row = await self._uploads.receive(request_iterator, current_identity())
        return media_pb2.UploadMediaResponse(media=media_message(row))

    @finishes
    async def DownloadMedia(
        self, request: media_pb2.DownloadMediaRequest, context: Context
    ) -> AsyncIterator[media_pb2.DownloadMediaResponse]:
        row = await self._visible(request.media_id)
        if not 0 <= request.offset <= row.size:
            raise InvalidField("offset", f"must be between 0 and the file's size, {row.size}")
        if request.limit < 0:
            raise InvalidField("limit", "must not be negative")
        end = min(row.size, request.offset + request.limit) if request.limit else row.size
        DOWNLOADS.inc()
        with tracing.span("mesh.media.download", attributes={"mesh.media.size": end - request.offset}):
            yield media_pb2.DownloadMediaResponse(media=media_message(row))
            try:
                async for chunk in self._store.get(row.key, request.offset, end):
                    DOWNLOADED_BYTES.inc(len(chunk))
                    yield media_pb2.DownloadMediaResponse(chunk=chunk)
            except FileNotFoundError:  # it was deleted, and the grace is over
                raise NotFound("media", request.media_id) from None

    async def GetMedia(
        self, request: media_pb2.GetMediaRequest, context: Context
    ) -> media_pb2.GetMediaResponse:
        return media_pb2.GetMediaResponse(media=media_message(await self._visible(request.media_id)))

    async def ListMedia(
        self, request: media_pb2.ListMediaRequest, context: Context
    ) -> media_pb2.ListMediaResponse:
        tenant = current_identity().tenant_for(request.tenant_id)
        text("mime_type_prefix", request.mime_type_prefix, 127)
        wanted = labels("labels", request.labels)
        page = self._pager.page(request, tenant.bytes)
        rows = await self._media.page(
            tenant, request.mime_type_prefix, request.origin, wanted, page.after_id, page.fetch
        )
        shown, next_page = page.cut(rows, media_message, lambda row: row.id.bytes)
        return media_pb2.ListMediaResponse(media=shown, next_page_token=next_page)

    async def DeleteMedia(
        self, request: media_pb2.DeleteMediaRequest, context: Context
    ) -> media_pb2.DeleteMediaResponse:
        row = await self._visible(request.media_id)
        await self._media.delete(row.id, self._delete_grace)
        return media_pb2.DeleteMediaResponse()

    async def CreateDownloadUrl(
        self, request: media_pb2.CreateDownloadUrlRequest, context: Context
    ) -> media_pb2.CreateDownloadUrlResponse:
        row = await self._visible(request.media_id)
        ttl = DEFAULT_URL_TTL
        if request.HasField("ttl"):
            ttl = duration("ttl", request.ttl, least=timedelta(seconds=1), most=MAX_URL_TTL)
        url = await self._store.download_url(row.key, ttl, row.file_name, row.mime_type)
        return media_pb2.CreateDownloadUrlResponse(url=url, expire_time=to_timestamp(datetime.now(UTC) + ttl))

    async def GetMediaUsage(
        self, request: media_pb2.GetMediaUsageRequest, context: Context
    ) -> media_pb2.GetMediaUsageResponse:
        usage = await self._objects.usage(current_identity().tenant_for(request.tenant_id))
        return media_pb2.GetMediaUsageResponse(
            objects=usage.media,
            bytes=usage.bytes,
            max_bytes=usage.max_bytes,
            shared_bytes=usage.shared_bytes,
            compressed_bytes=usage.compressed_bytes,
        )

    async def _visible(self, media_id: str) -> MediaRow:
        """The row, if the caller may know of it; raises `InvalidField` or `NotFound`."""
        row = await self._media.get(ids.decode(Prefix.MEDIA, media_id, "media_id"))
        current_identity().check_sees(row.tenant, "media", media_id)
        return row


def media_message(row: MediaRow) -> media_pb2.Media:
    """The row as a proto. Every row is READY, because it is added after its bytes are stored."""
    return media_pb2.Media(
        id=ids.encode(Prefix.MEDIA, row.id),
        tenant_id=ids.encode(Prefix.TENANT, row.tenant),
        state=content_pb2.MEDIA_STATE_READY,
        mime_type=row.mime_type,
        size=row.size,
        sha256=row.sha256,
        original_size=row.original_size,
        original_sha256=row.original_sha256,
        file_name=row.file_name,
        width=row.width,
        height=row.height,
        origin=media_pb2.MediaOrigin.ValueType(row.origin),
        labels=row.labels,
        create_time=to_timestamp(row.create_time),
        expire_time=to_timestamp(row.expire_time) if row.expire_time else None,
    )
