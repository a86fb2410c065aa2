"""One upload, from its header to its row."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

from asyncpg.pgproto.pgproto import UUID

from mesh_core import ids
from mesh_core.database.requests import payload_digest
from mesh_core.errors import InvalidField
from mesh_core.objects import ObjectStore
from mesh_core.rpc.auth import Identity
from mesh_core.telemetry import tracing
from mesh_core.validation import duration
from mesh_media import metrics
from mesh_media.catalogue import Catalogue, MediaRow, NewMedia
from mesh_media.compressor import Compressor, Prepared
from mesh_media.header import LONGEST_KEPT, check_header
from mesh_media.settings import MediaSettings
from mesh_media.spool import Spooled, spooled
from sessionmesh.v1 import media_pb2

Frames = AsyncIterator[media_pb2.UploadMediaRequest]


class Uploads:
    """Takes files in."""

    def __init__(
        self, settings: MediaSettings, catalogue: Catalogue, store: ObjectStore, compressor: Compressor
    ) -> None:
        self._settings = settings
        self._catalogue = catalogue
        self._store = store
        self._compressor = compressor

    async def take(self, frames: Frames, identity: Identity) -> MediaRow:
        """Read a whole upload and store it; nothing is visible unless all of it went well."""
        header = await self._header(frames, identity)
        tenant = identity.tenant_for(header.tenant_id, "header.tenant_id")
        key = f"{tenant.hex}/{ids.new_uuid().hex}"
        lifetime = timedelta(seconds=self._settings.upload_seconds)
        await self._catalogue.reserve(tenant, key, header.size, lifetime)
        with tracing.span("mesh.media.upload", attributes={"mesh.media.size": header.size}):
            async with spooled(frames, header, self._settings.spool) as file:
                prepared = await self._compressor.prepare(
                    file, header.mime_type, keep_original=header.keep_original
                )
                with tracing.span("mesh.media.store", attributes={"mesh.media.size": prepared.size}):
                    await self._store.put(key, prepared.source)
                row = await self._catalogue.add(
                    _new_media(header, tenant, key, file, prepared), header.request_id, _digest(header, file)
                )
        metrics.uploads.inc()
        metrics.uploaded_bytes.inc(file.size)
        metrics.stored_bytes.inc(prepared.size)
        return row

    async def _header(self, frames: Frames, identity: Identity) -> media_pb2.UploadHeader:
        first = await anext(frames, None)
        if first is None or first.WhichOneof("frame") != "header":
            raise InvalidField("header", "must be the first frame")
        check_header(first.header, identity, self._settings.max_bytes)
        return first.header


def _new_media(
    header: media_pb2.UploadHeader, tenant: UUID, key: str, file: Spooled, prepared: Prepared
) -> NewMedia:
    keep_for = None
    if header.HasField("keep_for"):
        keep_for = duration("header.keep_for", header.keep_for, least=timedelta(0), most=LONGEST_KEPT)
    return NewMedia(
        id=ids.new_uuid(),
        tenant=tenant,
        key=key,
        mime_type=prepared.mime_type,
        size=prepared.size,
        sha256=prepared.sha256,
        original_size=file.size,
        original_sha256=file.sha256,
        file_name=header.file_name,
        width=prepared.width,
        height=prepared.height,
        origin=header.origin or media_pb2.MEDIA_ORIGIN_UPLOAD,
        labels=dict(header.labels),
        keep_for=keep_for,
    )


def _digest(header: media_pb2.UploadHeader, file: Spooled) -> bytes:
    """What tells two uploads under one request id apart: the header's wishes and the bytes."""
    wishes = media_pb2.UploadHeader()
    wishes.CopyFrom(header)
    wishes.ClearField("request_id")
    return payload_digest(wishes.SerializeToString(deterministic=True) + file.sha256)
