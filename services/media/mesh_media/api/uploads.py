"""UploadMedia: from the first frame of the stream to the media row."""

from __future__ import annotations

from mesh_core import validation
from mesh_core.at_once import AtOnce
from mesh_core.database.requests import Method, request_digest
from mesh_core.errors import InvalidField
from mesh_core.rpc.auth import Identity, Role
from mesh_core.telemetry import tracing
from mesh_media.ingest.announcements import Announcement, announce, whose
from mesh_media.ingest.ingest import Ingest
from mesh_media.ingest.intake import Request, takes_long
from mesh_media.ingest.room import Room
from mesh_media.processing.file_types import hinted_type
from mesh_media.processing.spool import Frames, SpooledFile, next_frame, spool_upload
from mesh_media.repository.rows import MediaRow
from sessionmesh.v1 import media_pb2

MOST_UPLOADS = 16
"""Uploads of a tenant that a process takes at once, those of the mesh itself apart: a node bounds these."""
RETRY_SECONDS = 1.0


class Uploads:
    """Receives files from callers, and from the mesh itself."""

    def __init__(self, ingest: Ingest) -> None:
        self._ingest = ingest
        self._limits = ingest.limits
        self._running = AtOnce(MOST_UPLOADS, "uploads", "uploads", RETRY_SECONDS)

    async def receive(self, frames: Frames, identity: Identity) -> MediaRow:
        """Reads a whole upload and stores it. Nothing becomes visible unless all of it succeeds.

        Raises `DeadlineExceeded` for one that comes too slowly, and `ResourceExhausted` RATE_LIMITED where
        the tenant has `MOST_UPLOADS` already.
        """
        header = await read_header(frames, identity, self._limits.max_bytes)
        owner = whose(identity, header.tenant_id, header.account_id, "header.")
        origin = header.origin or media_pb2.MEDIA_ORIGIN_UPLOAD
        announcement = announce(owner, origin, header.options, await self._ingest.policies.of(owner[0]))
        if identity.role is Role.MESH:
            return await self._take(frames, header, announcement)
        with self._running.one(announcement.tenant):
            return await self._take(frames, header, announcement)

    async def _take(
        self, frames: Frames, header: media_pb2.UploadHeader, announcement: Announcement
    ) -> MediaRow:
        # What the network says of a file's size is a hint, too: nothing is promised to it.
        at_most = self._limits.max_bytes if announcement.foreign else None
        promised = 0 if announcement.foreign else header.size_bytes
        span = tracing.span("mesh.media.upload", attributes={"mesh.media.size": header.size_bytes})
        with span:
            async with self._ingest.rooms.room(announcement.tenant) as room:
                await room.take(promised, announcement.account)
                async with spool_upload(frames, header, self._limits.folder, at_most=at_most) as file:
                    if file.size > promised:
                        await room.take(file.size - promised)
                    if announcement.origin == media_pb2.MEDIA_ORIGIN_INLINE:  # what was announced is a hint
                        hint = hinted_type(announcement.options.mime_type, file.head)
                        announcement.options.mime_type = hint
                    announcement = announcement.typed_by_name(file.head)
                    request = (Method.UPLOAD_MEDIA, header.request_id, request_digest(header, file.sha256))
                    if header.asynchronous and (mime_type := takes_long(announcement, file)):
                        return await self._later(room, announcement, mime_type, file, request)
                    return await self._ingest.intake.take(room, announcement, file, request)

    async def _later(
        self, room: Room, announcement: Announcement, mime_type: str, file: SpooledFile, request: Request
    ) -> MediaRow:
        row = await self._ingest.intake.take_later(room, announcement, mime_type, file, request)
        self._ingest.processing.wake()
        return row


async def read_header(frames: Frames, identity: Identity, max_bytes: int) -> media_pb2.UploadHeader:
    """The header of an upload; its options are not checked yet.

    Raises `InvalidField` for the first field that is wrong, and `DeadlineExceeded` when nothing comes.
    """
    first = await next_frame(frames)
    if first is None or first.WhichOneof("frame") != "header":
        raise InvalidField("header", "must be the first frame")
    header = first.header
    validation.request_id(header.request_id, "header.request_id")
    validation.choice("header.origin", header.origin, media_pb2.MediaOrigin.values(), "the origins")
    if header.origin > media_pb2.MEDIA_ORIGIN_UPLOAD and identity.role is not Role.MESH:
        raise InvalidField("header.origin", "only the mesh itself may say other than UPLOAD")
    if header.origin != media_pb2.MEDIA_ORIGIN_NETWORK and not 1 <= header.size_bytes <= max_bytes:
        raise InvalidField("header.size_bytes", f"must be between 1 and {max_bytes}")
    return header
