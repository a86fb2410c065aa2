"""Uploads: from the first frame of the stream to the media row."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

from asyncpg.pgproto.pgproto import UUID
from prometheus_client import Counter

from mesh_core import ids, validation
from mesh_core.database.requests import request_digest
from mesh_core.errors import InvalidField
from mesh_core.rpc.auth import Identity, Role
from mesh_core.telemetry import tracing
from mesh_media.processing.compressor import Compressor, ProcessedFile
from mesh_media.processing.spool import SpooledFile, spool
from mesh_media.repository.media_repository import MediaRepository
from mesh_media.repository.object_repository import ObjectRepository
from mesh_media.repository.rows import MediaRow, NewMedia
from mesh_media.stores.object_store import ObjectStore
from sessionmesh.v1 import media_pb2

Frames = AsyncIterator[media_pb2.UploadMediaRequest]

MAX_FILE_NAME = 255
MAX_LABELS = 16
MAX_KEEP_FOR = timedelta(days=3650)

UPLOADS = Counter("mesh_media_uploads", "Files taken in.")
UPLOADED_BYTES = Counter("mesh_media_uploaded_bytes", "Bytes as they came.")
STORED_BYTES = Counter("mesh_media_stored_bytes", "Bytes after recompressing, shared objects included.")


class Uploads:
    """Receives files, processes them and stores them."""

    def __init__(
        self,
        media: MediaRepository,
        objects: ObjectRepository,
        store: ObjectStore,
        compressor: Compressor,
        *,
        max_bytes: int,
        lifetime: timedelta,
        folder: str,
    ) -> None:
        """An upload may have `max_bytes` and take as long as `lifetime`.

        Meanwhile it is in a temporary file in `folder`, or, if that is empty, where the system keeps them.
        """
        self._max_bytes = max_bytes
        self._lifetime = lifetime
        self._folder = folder
        self._media = media
        self._objects = objects
        self._store = store
        self._compressor = compressor

    async def receive(self, frames: Frames, identity: Identity) -> MediaRow:
        """Reads a whole upload and stores it. Nothing becomes visible unless all of it succeeds."""
        header = await read_header(frames, identity, self._max_bytes)
        tenant = identity.tenant_for(header.tenant_id, "header.tenant_id")
        key = f"{tenant.hex}/{ids.new_uuid().hex}"
        await self._objects.reserve(tenant, key, header.size, self._lifetime)
        with tracing.span("mesh.media.upload", attributes={"mesh.media.size": header.size}):
            async with spool(frames, header, self._folder) as file:
                processed = await self._compressor.process(
                    file, header.mime_type, keep_original=header.keep_original
                )
                with tracing.span("mesh.media.store", attributes={"mesh.media.size": processed.size}):
                    await self._store.put(key, processed.source)
                row = await self._media.add(
                    _new_media(header, tenant, key, file, processed),
                    header.request_id,
                    request_digest(header, file.sha256),
                )
        UPLOADS.inc()
        UPLOADED_BYTES.inc(file.size)
        STORED_BYTES.inc(processed.size)
        return row


async def read_header(frames: Frames, identity: Identity, max_bytes: int) -> media_pb2.UploadHeader:
    """The checked header of an upload; raises `InvalidField` for the first field that is wrong."""
    first = await anext(frames, None)
    if first is None or first.WhichOneof("frame") != "header":
        raise InvalidField("header", "must be the first frame")
    header = first.header
    validation.request_id(header.request_id, "header.request_id")
    if not 1 <= header.size <= max_bytes:
        raise InvalidField("header.size", f"must be between 1 and {max_bytes}")
    if header.sha256 and len(header.sha256) != 32:
        raise InvalidField("header.sha256", "must be 32 bytes")
    validation.text("header.file_name", header.file_name, MAX_FILE_NAME)
    if "/" in header.file_name or "\\" in header.file_name or header.file_name in (".", ".."):
        raise InvalidField("header.file_name", "must be a name without a path")
    validation.labels("header.labels", header.labels, MAX_LABELS)
    if header.HasField("keep_for"):
        validation.duration("header.keep_for", header.keep_for, least=timedelta(seconds=1), most=MAX_KEEP_FOR)
    if header.origin == media_pb2.MEDIA_ORIGIN_NETWORK and identity.role is not Role.MESH:
        raise InvalidField("header.origin", "only the mesh itself may say NETWORK")
    return header


def _new_media(
    header: media_pb2.UploadHeader, tenant: UUID, key: str, file: SpooledFile, processed: ProcessedFile
) -> NewMedia:
    keep_for = None
    if header.HasField("keep_for"):
        keep_for = validation.duration(
            "header.keep_for", header.keep_for, least=timedelta(0), most=MAX_KEEP_FOR
        )
    return NewMedia(
        id=ids.new_uuid(),
        tenant=tenant,
        key=key,
        mime_type=processed.mime_type,
        size=processed.size,
        sha256=processed.sha256,
        original_size=file.size,
        original_sha256=file.sha256,
        file_name=header.file_name,
        width=processed.width,
        height=processed.height,
        origin=header.origin or media_pb2.MEDIA_ORIGIN_UPLOAD,
        labels=dict(header.labels),
        keep_for=keep_for,
    )
