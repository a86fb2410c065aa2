"""The media service, which the node calls with the mesh's key on behalf of a tenant; and which kinds of
content are files.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Mapping

from asyncpg.pgproto.pgproto import UUID
from grpc import StatusCode
from grpc.aio import AioRpcError

from mesh_core.errors import FailedPrecondition, InvalidField, Unavailable
from mesh_core.etcd.discovery import ServiceDirectory
from mesh_core.rpc.channels import ChannelPool, call_metadata, mesh_metadata
from sessionmesh.v1 import content_pb2, media_pb2, media_pb2_grpc

MEDIA_KINDS: Mapping[str, tuple[str, ...]] = {
    "image": ("image/jpeg", "image/png"),
    "video": ("video/mp4", "video/3gpp"),
    "audio": ("audio/aac", "audio/amr", "audio/mp4", "audio/mpeg", "audio/ogg", "audio/opus"),
    "voice_note": ("audio/ogg", "audio/opus"),
    "document": ("",),
    "sticker": ("image/webp",),
}
"""Kinds of content that are a file, and how its MIME type must begin for networks to show it."""


def media_of(content: content_pb2.Content) -> content_pb2.MediaReference | None:
    """The file that a content is, if it is one."""
    kind = content.WhichOneof("kind")
    if kind is None or kind not in MEDIA_KINDS:
        return None
    reference: content_pb2.MediaReference = getattr(content, kind).media
    return reference


def check_media(content: content_pb2.Content, media: media_pb2.Media) -> None:
    """Raises `FailedPrecondition` MEDIA_NOT_READY; `InvalidField` for a file that does not fit the kind."""
    kind = content.WhichOneof("kind") or ""
    if media.state != content_pb2.MEDIA_STATE_READY:
        raise FailedPrecondition(f"media {media.id} is not ready", "MEDIA_NOT_READY")
    if (problem := _problem_of(kind, media)) is None:
        return
    hint = f": upload it with purpose {_PURPOSES[kind]}" if kind in _PURPOSES else ""
    raise InvalidField(
        f"content.{kind}.media.media_id", f"is {problem}, which cannot be sent as {kind}{hint}"
    )


def _problem_of(kind: str, media: media_pb2.Media) -> str | None:
    """What a file is that networks would not show as this kind of content."""
    if media.origin == media_pb2.MEDIA_ORIGIN_NETWORK:  # which has shown it
        fits = media.mime_type.startswith(_OF_THE_NETWORK.get(kind, MEDIA_KINDS[kind]))
        return None if fits else media.mime_type
    if not media.mime_type.startswith(MEDIA_KINDS[kind]):
        return media.mime_type
    if kind == "sticker" and (media.width, media.height) != (STICKER_SIDE, STICKER_SIDE):
        return f"of {media.width}x{media.height} pixels"
    if kind == "video" and media.unprocessed_reason in _MAY_BE_OF_ANY_CODEC:
        return "a film of which nobody knows whether phones play it"
    return None


STICKER_SIDE = 512
_OF_THE_NETWORK = {
    "image": ("image/",),
    "video": ("video/",),
    "audio": ("audio/",),
    "voice_note": ("audio/",),
}
_PURPOSES = {"image": "IMAGE", "video": "VIDEO", "voice_note": "VOICE", "sticker": "STICKER"}
_MAY_BE_OF_ANY_CODEC = frozenset(
    {media_pb2.UNPROCESSED_REASON_TOO_COMPLEX, media_pb2.UNPROCESSED_REASON_RESOURCE_LIMIT}
)
"""Why a film is kept that would have become H.264. OFF is its uploader's own matter."""


class MediaClient:
    """Raises `grpc.aio.AioRpcError` as gRPC does, and `Unavailable` when there is no media service."""

    def __init__(
        self, channels: ChannelPool, directory: ServiceDirectory, address: str, mesh_key: str
    ) -> None:
        self._channels = channels
        self._directory = directory
        self._address = address
        self._mesh_key = mesh_key
        self._ready: dict[tuple[UUID, str], tuple[float, media_pb2.Media]] = {}

    async def get(self, tenant: UUID, media_id: str) -> media_pb2.Media:
        """A media object. READY ones are remembered for a few seconds, for one that goes to many: they no
        longer change, but may be deleted.
        """
        known = self._ready.get((tenant, media_id))
        if known is not None and time.monotonic() - known[0] < _REMEMBERED_SECONDS:
            return known[1]
        request = media_pb2.GetMediaRequest(media_id=media_id)
        answer = await self._stub().GetMedia(request, metadata=self._metadata(tenant), timeout=_TIMEOUT)
        return self._remembered(tenant, answer.media)

    async def download(self, tenant: UUID, media_id: str) -> AsyncIterator[bytes]:
        """The bytes of a media object, in pieces."""
        call = self._stub().DownloadMedia(
            media_pb2.DownloadMediaRequest(media_id=media_id), metadata=self._metadata(tenant)
        )
        async for frame in call:
            if frame.WhichOneof("frame") == "chunk":
                yield frame.chunk

    async def look_up(self, tenant: UUID, sha256: bytes) -> media_pb2.Media | None:
        """The newest media with these bytes, as they are stored or as they came; None when there is none."""
        request = media_pb2.LookupMediaRequest(sha256=sha256)
        try:
            answer = await self._stub().LookupMedia(
                request, metadata=self._metadata(tenant), timeout=_TIMEOUT
            )
        except AioRpcError as error:
            if error.code() in (StatusCode.NOT_FOUND, StatusCode.UNIMPLEMENTED):  # by the version before
                return None
            raise
        media: media_pb2.Media = answer.media
        return media

    async def upload(
        self, tenant: UUID, header: media_pb2.UploadHeader, pieces: AsyncIterator[bytes]
    ) -> media_pb2.Media:
        """Store a file that came from the network, or with a send. Raises what `pieces` does, too."""
        broken: list[Exception] = []

        async def frames() -> AsyncIterator[media_pb2.UploadMediaRequest]:
            yield media_pb2.UploadMediaRequest(header=header)
            try:
                async for piece in pieces:
                    yield media_pb2.UploadMediaRequest(chunk=piece)
            except Exception as error:
                broken.append(error)  # grpc.aio keeps it to itself, and cancels the call
                raise

        try:
            answer = await self._stub().UploadMedia(frames(), metadata=self._metadata(tenant))
        except (asyncio.CancelledError, AioRpcError):
            task = asyncio.current_task()
            if broken and not (task and task.cancelling()):
                raise broken[0] from None
            raise
        return self._remembered(tenant, answer.media)

    def _remembered(self, tenant: UUID, media: media_pb2.Media) -> media_pb2.Media:
        if media.state == content_pb2.MEDIA_STATE_READY:
            if len(self._ready) >= _MAX_REMEMBERED:
                self._ready.clear()
            self._ready[tenant, media.id] = (time.monotonic(), media)
        return media

    def _stub(self) -> media_pb2_grpc.MediaServiceAsyncStub:
        address = self._address
        if not address:
            services = self._directory.services()
            if not services:
                raise Unavailable("no media service is running", "NO_INSTANCE", retry_after=1.0)
            address = random.choice(services).address  # noqa: S311 - spreads load, guards nothing
        return media_pb2_grpc.MediaServiceStub(self._channels.get(address))

    def _metadata(self, tenant: UUID) -> tuple[tuple[str, str], ...]:
        return call_metadata(mesh_metadata(self._mesh_key, tenant))


_MAX_REMEMBERED = 20_000
_REMEMBERED_SECONDS = 5.0
_TIMEOUT = 20.0
