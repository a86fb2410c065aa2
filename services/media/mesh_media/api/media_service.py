"""MediaService: the API over uploads, media rows and the object store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, nullcontext
from datetime import timedelta
from typing import Any

import grpc.aio

from mesh_core import ids
from mesh_core.at_once import AtOnce
from mesh_core.errors import NotFound
from mesh_core.ids import Prefix
from mesh_core.jobs import job_message
from mesh_core.rpc.auth import Role, current_identity
from mesh_core.rpc.server.drain import finishes, taken_within
from mesh_media.api.downloads import (
    MOST_DOWNLOADS,
    READ_SECONDS,
    RETRY_SECONDS,
    check_download,
    download_frames,
)
from mesh_media.api.fetches import FetchRequests, look_up
from mesh_media.api.links import DownloadUrls
from mesh_media.api.reader import Reader
from mesh_media.api.stock import Stock
from mesh_media.api.uploads import Uploads
from mesh_media.api.variants import check_variant
from mesh_media.migration.migrations import Migrations
from mesh_media.migration.scans import Scans
from mesh_media.repository.media_repository import MediaRepository
from mesh_media.repository.resource import media_message
from mesh_media.repository.rows import MediaRow
from sessionmesh.v1 import media_pb2, media_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]


class MediaService(media_pb2_grpc.MediaServiceServicer):
    """Files of tenants. A key that is limited to accounts reaches only what is of these."""

    def __init__(
        self,
        media: MediaRepository,
        reader: Reader,
        urls: DownloadUrls,
        uploads: Uploads,
        fetches: FetchRequests,
        stock: Stock,
        migrations: Migrations,
        scans: Scans,
        delete_grace: timedelta,
    ) -> None:
        self._media = media
        self._reader = reader
        self._urls = urls
        self._uploads = uploads
        self._fetches = fetches
        self._stock = stock
        self._migrations = migrations
        self._scans = scans
        self._delete_grace = delete_grace
        self._downloads = AtOnce(MOST_DOWNLOADS, "downloads", "downloads", RETRY_SECONDS)

    async def UploadMedia(
        self, request_iterator: AsyncIterator[media_pb2.UploadMediaRequest], context: Context
    ) -> media_pb2.UploadMediaResponse:
        row = await self._uploads.receive(request_iterator, current_identity())
        return media_pb2.UploadMediaResponse(media=media_message(await self._seen(row)))

    async def FetchMedia(
        self, request: media_pb2.FetchMediaRequest, context: Context
    ) -> media_pb2.FetchMediaResponse:
        row = await self._fetches.accept(request, current_identity())
        return media_pb2.FetchMediaResponse(media=media_message(await self._seen(row)))

    async def LookupMedia(
        self, request: media_pb2.LookupMediaRequest, context: Context
    ) -> media_pb2.LookupMediaResponse:
        row = await look_up(self._media, request, current_identity())
        return media_pb2.LookupMediaResponse(media=media_message(row))

    @finishes
    @taken_within(READ_SECONDS)
    async def DownloadMedia(
        self, request: media_pb2.DownloadMediaRequest, context: Context
    ) -> AsyncIterator[media_pb2.DownloadMediaResponse]:
        check_download(request)
        row = await self._visible(request.media_id)
        is_mesh = current_identity().role is Role.MESH  # nodes download a few at a time
        with nullcontext() if is_mesh else self._downloads.one(row.tenant):
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
        return await self._stock.listings.list(request)

    async def DeleteMedia(
        self, request: media_pb2.DeleteMediaRequest, context: Context
    ) -> media_pb2.DeleteMediaResponse:
        row = await self._visible(request.media_id)
        await self._media.delete(row.id, self._delete_grace, current_identity().account_uuids)
        return media_pb2.DeleteMediaResponse()

    async def CreateDownloadUrl(
        self, request: media_pb2.CreateDownloadUrlRequest, context: Context
    ) -> media_pb2.CreateDownloadUrlResponse:
        check_variant(request.variant)
        return await self._urls.create(await self._visible(request.media_id), request)

    async def GetMediaUsage(
        self, request: media_pb2.GetMediaUsageRequest, context: Context
    ) -> media_pb2.GetMediaUsageResponse:
        return await self._stock.usage.of_tenant(request)

    async def ListAccountMediaUsage(
        self, request: media_pb2.ListAccountMediaUsageRequest, context: Context
    ) -> media_pb2.ListAccountMediaUsageResponse:
        return await self._stock.usage.of_accounts(request)

    async def GetMediaPolicy(
        self, request: media_pb2.GetMediaPolicyRequest, context: Context
    ) -> media_pb2.GetMediaPolicyResponse:
        return await self._stock.policies.get(request)

    async def UpdateMediaPolicy(
        self, request: media_pb2.UpdateMediaPolicyRequest, context: Context
    ) -> media_pb2.UpdateMediaPolicyResponse:
        return await self._stock.policies.update(request)

    async def PruneMedia(
        self, request: media_pb2.PruneMediaRequest, context: Context
    ) -> media_pb2.PruneMediaResponse:
        return await self._stock.prunes.begin(request)

    async def MigrateStorage(
        self, request: media_pb2.MigrateStorageRequest, context: Context
    ) -> media_pb2.MigrateStorageResponse:
        row = await self._migrations.start(request)
        self._migrations.wake()
        return media_pb2.MigrateStorageResponse(job=job_message(row))

    async def ScanStorage(
        self, request: media_pb2.ScanStorageRequest, context: Context
    ) -> media_pb2.ScanStorageResponse:
        row = await self._scans.start(request)
        self._scans.wake()
        return media_pb2.ScanStorageResponse(job=job_message(row))

    async def _visible(self, media_id: str) -> MediaRow:
        """The row, if the caller may know of it; raises `InvalidField` or `NotFound`."""
        row = await self._media.get(ids.decode(Prefix.MEDIA, media_id, "media_id"))
        current_identity().check_sees(row.tenant, "media", media_id)
        return await self._seen(row)

    async def _seen(self, row: MediaRow) -> MediaRow:
        """A row of the caller's tenant as its key may see it; raises `NotFound`."""
        if (accounts := current_identity().account_uuids) is None:
            return row
        seen = await self._media.seen_by(row, accounts)
        if seen is None:
            raise NotFound("media", ids.encode(Prefix.MEDIA, row.id))
        return seen
