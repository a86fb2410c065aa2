"""Files in messages: the API's form to the simulated network's, and back."""

from __future__ import annotations

from google.protobuf.message import Message

from mesh_session_node.drivers.interface.content import MediaPart
from sessionmesh.simnet.v1 import wire_pb2 as wire
from sessionmesh.v1 import content_pb2

SHOWN_AS = frozenset({"image", "video", "audio", "voice_note", "document", "sticker"})
"""Kinds of content that are a file, by which the wire names them, too. A round video is a `video_note`."""
_FLAGS = ("caption", "view_once", "gif_playback", "animated", "waveform")
"""Fields that some kinds have, and the wire has under the same names."""
_INT32, _INT64 = 2**31 - 1, 2**63 - 1


def to_blob(kind: str, shown: Message, part: MediaPart | None) -> wire.Blob:
    """The wire's form of a file; without `part` only what is said of it, as where it is quoted."""
    blob = wire.Blob(shown_as=kind)
    if kind == "video" and shown.video_note:  # type: ignore[attr-defined]  # a VideoContent
        blob.shown_as = "video_note"
    fields = shown.DESCRIPTOR.fields_by_name
    for name in (*_FLAGS, "file_name"):
        if name in fields:
            setattr(blob, name, getattr(shown, name))
    if part is not None:
        media = part.media
        blob.ref, blob.sha256, blob.size = part.blob.ref, part.blob.sha256, part.blob.size
        blob.mime = media.mime_type
        blob.file_name = blob.file_name or media.file_name
        blob.width, blob.height = media.width, media.height
        blob.duration_ms = media.duration.ToMilliseconds()
        blob.waveform = blob.waveform or media.waveform
        blob.animated = blob.animated or (kind == "sticker" and media.animated)
        if not blob.view_once:  # what can be opened once is not shown before
            blob.thumbnail = media.thumbnail.preview
    return blob


def shown_as(blob: wire.Blob) -> str:
    """Which kind of content a file is; what is not known is a document."""
    if blob.shown_as == "video_note":
        return "video"
    return blob.shown_as if blob.shown_as in SHOWN_AS else "document"


def read_blob(blob: wire.Blob, shown: Message) -> None:
    """Fill in a kind of content that is a file, still to be fetched."""
    media: content_pb2.MediaReference = shown.media  # type: ignore[attr-defined]  # every one of them has it
    media.size_bytes = min(blob.size, _INT64)
    media.mime_type = blob.mime
    media.sha256 = blob.sha256
    media.state = content_pb2.MEDIA_STATE_PENDING
    fields = shown.DESCRIPTOR.fields_by_name
    for name in (*_FLAGS, "file_name"):
        if name in fields:
            setattr(shown, name, getattr(blob, name))
    for name in ("width", "height"):
        if name in fields:
            setattr(shown, name, min(getattr(blob, name), _INT32))
    if "duration" in fields and blob.duration_ms:
        shown.duration.FromMilliseconds(blob.duration_ms)  # type: ignore[attr-defined]  # as looked up
    if blob.shown_as == "video_note":
        shown.video_note = True  # type: ignore[attr-defined]  # a VideoContent
