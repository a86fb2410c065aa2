"""Small files that come inside send requests: stored first, then named by their ids like any other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from hashlib import blake2b, sha256

import grpc

from mesh_core.errors import InvalidField
from mesh_core.rpc.server.status import from_rpc_error
from mesh_core.validation import to_duration
from mesh_session_node.context.context import SessionContext
from mesh_session_node.store.media import MediaClient, media_of
from sessionmesh.v1 import content_pb2, media_pb2, message_pb2

KEPT_FOR = timedelta(days=1)
"""How long a file is kept at least whose message is not accepted in the end."""


def has_inline_file(request: message_pb2.SendMessageRequest) -> bool:
    """Whether the request has the bytes of its file in it."""
    reference = media_of(request.content)
    return reference is not None and bool(reference.inline_data)


async def store_inline_file(
    client: MediaClient, session: SessionContext, request: message_pb2.SendMessageRequest, request_id: str
) -> None:
    """Stores the request's file, and has the request name it. The same request stores the same file.

    Raises `InvalidField` for a file that cannot be sent so, and what the media service refuses.
    """
    content = request.content
    reference = media_of(content)
    assert reference is not None  # noqa: S101 - `has_inline_file`
    data, kind = reference.inline_data, content.WhichOneof("kind") or ""
    options = media_pb2.StorageOptions(
        mime_type=reference.mime_type,
        sha256=sha256(data).digest(),
        keep_for=to_duration(KEPT_FOR),
        purpose=_purpose(content),
    )
    if kind == "document":
        options.file_name = _plain_name(content.document.file_name)
    header = media_pb2.UploadHeader(
        request_id=_request_id(session.id, request_id, data),
        account_id=session.id,
        size_bytes=len(data),
        options=options,
        origin=media_pb2.MEDIA_ORIGIN_INLINE,
    )
    try:
        media = await client.upload(session.ref.tenant, header, _pieces(data))
    except grpc.aio.AioRpcError as error:
        refused = from_rpc_error(error)
        if isinstance(refused, InvalidField):
            raise InvalidField(f"content.{kind}.media.inline_data", refused.description) from None
        raise refused from None
    reference.ClearField("inline_data")
    reference.media_id, reference.mime_type = media.id, media.mime_type
    if kind == "video" and data.startswith(_GIF):
        content.video.gif_playback = True


async def _pieces(data: bytes) -> AsyncIterator[bytes]:
    yield data


def _purpose(content: content_pb2.Content) -> media_pb2.MediaPurpose.ValueType:
    if content.video.video_note:
        return media_pb2.MEDIA_PURPOSE_VIDEO_NOTE
    return _PURPOSES.get(content.WhichOneof("kind") or "", media_pb2.MEDIA_PURPOSE_UNSPECIFIED)


def _request_id(account_id: str, request_id: str, data: bytes) -> str:
    named = f"{account_id}\0{request_id}\0".encode()
    return f"inline-{blake2b(named + data, digest_size=16).hexdigest()}"


def _plain_name(name: str) -> str:
    """A document's name may be what the network takes; a file's has no path."""
    return name.replace("/", "_").replace("\\", "_")[:255] if name.strip(".") else ""


_GIF = b"GIF8"
_PURPOSES = {
    "image": media_pb2.MEDIA_PURPOSE_IMAGE,
    "video": media_pb2.MEDIA_PURPOSE_VIDEO,
    "document": media_pb2.MEDIA_PURPOSE_DOCUMENT,
    "sticker": media_pb2.MEDIA_PURPOSE_STICKER,
    "voice_note": media_pb2.MEDIA_PURPOSE_VOICE,
}
