"""Uploads: from the first frame of the stream to the media row."""

from __future__ import annotations

from collections import Counter as Counts
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import structlog
from asyncpg.pgproto.pgproto import UUID
from prometheus_client import Counter

from mesh_core import ids, validation
from mesh_core.database import UNAVAILABLE
from mesh_core.database.requests import request_digest
from mesh_core.errors import InvalidField, ResourceExhausted, Unimplemented
from mesh_core.ids import Prefix
from mesh_core.rpc.auth import Identity, Role
from mesh_core.telemetry import tracing
from mesh_media.processing.file_types import normalised
from mesh_media.processing.processed import ProcessedFile
from mesh_media.processing.processor import Processor
from mesh_media.processing.spool import Frames, SpooledFile, next_frame, spool
from mesh_media.repository.media_repository import MediaRepository
from mesh_media.repository.object_repository import ObjectRepository
from mesh_media.repository.rows import MediaRow, NewMedia
from mesh_media.stores.object_store import ObjectStore
from sessionmesh.v1 import media_pb2

logger = structlog.get_logger(__name__)

MOST_UPLOADS = 16
"""Uploads of a tenant that a process takes at once, those of the mesh itself apart: a node bounds these."""
RETRY_SECONDS = 1.0
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
        processor: Processor,
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
        self._processor = processor
        self._running: Counts[UUID] = Counts()

    async def receive(self, frames: Frames, identity: Identity) -> MediaRow:
        """Reads a whole upload and stores it. Nothing becomes visible unless all of it succeeds.

        Raises `DeadlineExceeded` for one that comes too slowly, and `ResourceExhausted` RATE_LIMITED where
        the tenant has `MOST_UPLOADS` already.
        """
        header = await read_header(frames, identity, self._max_bytes)
        tenant = UUID(identity.tenant_for(header.tenant_id, "header.tenant_id").bytes)
        account = None
        if header.account_id:
            account = ids.decode(Prefix.ACCOUNT, header.account_id, "header.account_id")
        if identity.role is Role.MESH:
            return await self._store_reserved(frames, header, tenant, account)
        with self._place(tenant):
            return await self._store_reserved(frames, header, tenant, account)

    @contextmanager
    def _place(self, tenant: UUID) -> Iterator[None]:
        if self._running[tenant] >= MOST_UPLOADS:
            raise ResourceExhausted(
                f"the tenant has {MOST_UPLOADS} uploads under way here",
                "RATE_LIMITED",
                quota="uploads",
                retry_after=RETRY_SECONDS,
            )
        self._running[tenant] += 1
        try:
            yield
        finally:
            self._running -= Counts([tenant])

    async def _store_reserved(
        self, frames: Frames, header: media_pb2.UploadHeader, tenant: UUID, account: UUID | None
    ) -> MediaRow:
        key = f"{tenant.hex}/{ids.new_uuid().hex}"
        await self._objects.reserve(tenant, account, key, header.size_bytes, self._lifetime)
        written = False
        try:
            with tracing.span("mesh.media.upload", attributes={"mesh.media.size": header.size_bytes}):
                async with spool(frames, header, self._folder) as file:
                    compression = header.options.compression
                    processing = self._processor.process(
                        tenant, file, header.options, compression, foreign=False
                    )
                    async with processing as processed:
                        written = True
                        with tracing.span("mesh.media.store", attributes={"mesh.media.size": processed.size}):
                            await self._store.put(key, processed.source)
                    row = await self._media.add(
                        _new_media(header, tenant, account, key, file, processed),
                        header.request_id,
                        request_digest(header, file.sha256),
                    )
        except BaseException:  # cancelled, too
            await self._give_back(key, written=written)
            raise
        UPLOADS.inc()
        UPLOADED_BYTES.inc(file.size)
        STORED_BYTES.inc(processed.size)
        return row

    async def _give_back(self, key: str, *, written: bool) -> None:
        try:
            await self._objects.give_back(key, written=written)
        except UNAVAILABLE as error:  # then it goes with its lifetime
            logger.warning("the room of a failed upload is not given back yet", key=key, problem=repr(error))


async def read_header(frames: Frames, identity: Identity, max_bytes: int) -> media_pb2.UploadHeader:
    """The checked header of an upload.

    Raises `InvalidField` for the first field that is wrong, `Unimplemented` for what is not served yet, and
    `DeadlineExceeded` when nothing comes.
    """
    first = await next_frame(frames)
    if first is None or first.WhichOneof("frame") != "header":
        raise InvalidField("header", "must be the first frame")
    header = first.header
    validation.request_id(header.request_id, "header.request_id")
    if not 1 <= header.size_bytes <= max_bytes:
        raise InvalidField("header.size_bytes", f"must be between 1 and {max_bytes}")
    validation.choice("header.origin", header.origin, media_pb2.MediaOrigin.values(), "the origins")
    if header.origin > media_pb2.MEDIA_ORIGIN_UPLOAD and identity.role is not Role.MESH:
        raise InvalidField("header.origin", "only the mesh itself may say other than UPLOAD")
    _check_options(header.options)
    if header.asynchronous:
        raise _not_served("header.asynchronous")
    return header


def _check_options(options: media_pb2.StorageOptions) -> None:
    field = "header.options"
    if options.sha256 and len(options.sha256) != 32:
        raise InvalidField(f"{field}.sha256", "must be 32 bytes")
    name = validation.text(f"{field}.file_name", options.file_name, MAX_FILE_NAME)
    if "/" in name or "\\" in name or name in (".", ".."):
        raise InvalidField(f"{field}.file_name", "must be a name without a path")
    validation.labels(f"{field}.labels", options.labels, MAX_LABELS)
    _keep_for(options)
    validation.choice(f"{field}.purpose", options.purpose, media_pb2.MediaPurpose.values(), "the purposes")
    validation.choice(
        f"{field}.compression", options.compression, media_pb2.Compression.values(), "the levels"
    )
    if options.purpose not in (media_pb2.MEDIA_PURPOSE_UNSPECIFIED, media_pb2.MEDIA_PURPOSE_DOCUMENT):
        raise _not_served(f"{field}.purpose")
    if options.compression == media_pb2.COMPRESSION_AGGRESSIVE:
        raise _not_served(f"{field}.compression")
    if options.keep_original:
        raise _not_served(f"{field}.keep_original")


def _keep_for(options: media_pb2.StorageOptions) -> timedelta | None:
    if not options.HasField("keep_for"):
        return None
    return validation.duration(
        "header.options.keep_for", options.keep_for, least=timedelta(seconds=1), most=MAX_KEEP_FOR
    )


def _not_served(field: str) -> Unimplemented:
    return Unimplemented(f"{field}: is not served by this version", "NOT_SERVED")


def _new_media(
    header: media_pb2.UploadHeader,
    tenant: UUID,
    account: UUID | None,
    key: str,
    file: SpooledFile,
    processed: ProcessedFile,
) -> NewMedia:
    options = header.options
    declared = normalised(options.mime_type)
    return NewMedia(
        id=ids.new_uuid(),
        tenant=tenant,
        account=account,
        key=key,
        mime_type=processed.mime_type,
        declared_mime_type=declared if declared != processed.mime_type else "",
        size=processed.size,
        sha256=processed.sha256,
        original_size=file.size,
        original_sha256=file.sha256,
        file_name=options.file_name,
        unprocessed=processed.unprocessed,
        width=processed.width,
        height=processed.height,
        animated=processed.animated,
        origin=header.origin or media_pb2.MEDIA_ORIGIN_UPLOAD,
        labels=dict(options.labels),
        keep_for=_keep_for(options),
    )
