"""MediaService: the API over uploads, media rows and the object store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import timedelta
from typing import Any

import grpc.aio
from asyncpg.pgproto.pgproto import UUID

from mesh_core import ids
from mesh_core.errors import NotFound, Unimplemented
from mesh_core.ids import Prefix
from mesh_core.paging import Pager
from mesh_core.rpc.auth import Identity, current_identity
from mesh_core.rpc.server.drain import finishes, taken_within
from mesh_core.validation import at_least, labels, text, timestamp
from mesh_media.api.downloads import READ_SECONDS, check_download, download_frames
from mesh_media.api.fetches import FetchRequests
from mesh_media.api.links import DownloadUrls
from mesh_media.api.lookups import Lookups
from mesh_media.api.reader import Reader
from mesh_media.api.uploads import Uploads
from mesh_media.api.variants import check_variant
from mesh_media.repository.media_repository import MediaRepository
from mesh_media.repository.object_repository import ObjectRepository
from mesh_media.repository.resource import account_id, media_message
from mesh_media.repository.rows import MediaQuery, MediaRow
from sessionmesh.v1 import content_pb2, media_pb2, media_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]


class MediaService(media_pb2_grpc.MediaServiceServicer):
    """Files of tenants. A key that is limited to accounts reaches only what is of these."""

    def __init__(
        self,
        media: MediaRepository,
        objects: ObjectRepository,
        reader: Reader,
        urls: DownloadUrls,
        uploads: Uploads,
        fetches: FetchRequests,
        pager: Pager,
        delete_grace: timedelta,
    ) -> None:
        self._media = media
        self._objects = objects
        self._reader = reader
        self._urls = urls
        self._uploads = uploads
        self._fetches = fetches
        self._lookups = Lookups(media)
        self._pager = pager
        self._delete_grace = delete_grace

    async def UploadMedia(
        self, request_iterator: AsyncIterator[media_pb2.UploadMediaRequest], context: Context
    ) -> media_pb2.UploadMediaResponse:
        row = await self._uploads.receive(request_iterator, current_identity())
        return media_pb2.UploadMediaResponse(media=media_message(row))

    async def FetchMedia(
        self, request: media_pb2.FetchMediaRequest, context: Context
    ) -> media_pb2.FetchMediaResponse:
        row = await self._fetches.accept(request, current_identity())
        return media_pb2.FetchMediaResponse(media=media_message(row))

    async def LookupMedia(
        self, request: media_pb2.LookupMediaRequest, context: Context
    ) -> media_pb2.LookupMediaResponse:
        row = await self._lookups.find(request, current_identity())
        return media_pb2.LookupMediaResponse(media=media_message(row))

    @finishes
    @taken_within(READ_SECONDS)
    async def DownloadMedia(
        self, request: media_pb2.DownloadMediaRequest, context: Context
    ) -> AsyncIterator[media_pb2.DownloadMediaResponse]:
        check_download(request)
        row = await self._visible(request.media_id)
        async with aclosing(download_frames(self._reader, row, request)) as frames:
            async for frame in frames:
                yield frame

    async def GetMedia(
        self, request: media_pb2.GetMediaRequest, context: Context
    ) -> media_pb2.GetMediaResponse:
        return media_pb2.GetMediaResponse(media=media_message(await self._visible(request.media_id)))

    async def ListMedia(
        self, request: media_pb2.ListMediaRequest, context: Context
    ) -> media_pb2.ListMediaResponse:
        tenant = current_identity().tenant_for(request.tenant_id)
        page = self._pager.page(request, tenant.bytes)
        wanted = _query(request.filter, tenant, current_identity())
        rows = await self._media.page(wanted, page.after_id, page.fetch) if wanted is not None else []
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
        check_variant(request.variant)
        return await self._urls.create(await self._visible(request.media_id), request)

    async def GetMediaUsage(
        self, request: media_pb2.GetMediaUsageRequest, context: Context
    ) -> media_pb2.GetMediaUsageResponse:
        usage = await self._objects.usage(current_identity().tenant_for(request.tenant_id))
        return media_pb2.GetMediaUsageResponse(
            stored=media_pb2.MediaCount(objects=usage.media, size_bytes=usage.bytes),
            reserved_bytes=usage.reserved_bytes,
            max_bytes=usage.max_bytes,
            shared_bytes=usage.shared_bytes,
            compressed_bytes=usage.compressed_bytes,
            by_age=[
                media_pb2.MediaAgeUsage(
                    age=media_pb2.MediaAge.ValueType(age),
                    stored=media_pb2.MediaCount(objects=count, size_bytes=size),
                )
                for age, (count, size) in usage.by_age.items()
            ],
        )

    async def _visible(self, media_id: str) -> MediaRow:
        """The row, if the caller may know of it; raises `InvalidField` or `NotFound`."""
        row = await self._media.get(ids.decode(Prefix.MEDIA, media_id, "media_id"))
        identity = current_identity()
        identity.check_sees(row.tenant, "media", media_id)
        if not identity.sees_account(account_id(row)):
            raise NotFound("media", media_id)
        return row


def _query(wanted: media_pb2.MediaFilter, tenant: UUID, identity: Identity) -> MediaQuery | None:
    """What to list; None when nothing can match. Raises `InvalidField`, and `Unimplemented` NOT_SERVED."""
    text("filter.mime_type_prefix", wanted.mime_type_prefix, 127)
    at_least("filter.min_size_bytes", wanted.min_size_bytes, 0)
    query = MediaQuery(
        tenant=tenant,
        accounts=identity.account_uuids,
        mime_type_prefix=wanted.mime_type_prefix,
        origin=wanted.origin,
        labels=labels("filter.labels", wanted.labels),
        start=timestamp("filter.start_time", wanted.start_time) if wanted.HasField("start_time") else None,
        end=timestamp("filter.end_time", wanted.end_time) if wanted.HasField("end_time") else None,
        min_size=wanted.min_size_bytes,
    )
    for name in ("account_id", "category"):  # these need to know what refers to a file
        if getattr(wanted, name):
            raise Unimplemented(f"filter.{name}: is not served by this version", "NOT_SERVED")
    every_row_is_ready = wanted.state in (
        content_pb2.MEDIA_STATE_UNSPECIFIED,
        content_pb2.MEDIA_STATE_READY,
    )
    return query if every_row_is_ready else None
