"""Contents of messages: the API's form to the simulated network's, and back."""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.message import DecodeError, Message

from mesh_session_node.drivers.interface.content import Incoming, MediaPart, References
from sessionmesh.simnet.v1 import wire_pb2 as wire
from sessionmesh.v1 import content_pb2, message_pb2

_SHOWN = {
    "image": content_pb2.ImageContent,
    "video": content_pb2.VideoContent,
    "audio": content_pb2.AudioContent,
    "voice": content_pb2.VoiceContent,
    "document": content_pb2.DocumentContent,
    "sticker": content_pb2.StickerContent,
}
_OTHER = frozenset(
    field.name
    for field in content_pb2.Content.DESCRIPTOR.fields
    if field.name not in ("text", "unknown", *_SHOWN)
)


def to_wire(
    request: message_pb2.SendMessageRequest,
    references: References,
    media: MediaPart | None,
    mentions: Sequence[str],
) -> tuple[bytes, Sequence[str]]:
    """The serialised wire content, and the references of the blobs in it."""
    content, options = request.content, request.options
    kind = content.WhichOneof("kind") or ""
    out = wire.Content()
    blobs: Sequence[str] = ()
    if kind == "text":
        out.text = content.text.body
    elif kind in _SHOWN and media is not None:
        out.blob.CopyFrom(_blob(kind, getattr(content, kind), media))
        blobs = (media.blob.ref,)
    elif kind == "reaction":
        out.reaction.id = references.target
        out.reaction.emoji = content.reaction.emoji
    else:
        body: Message = getattr(content, kind)
        out.other.kind = kind
        out.other.body = body.SerializeToString()
    if request.HasField("options"):
        out.context.reply_to = references.reply_to
        out.context.reply_to_sender = references.reply_to_sender
        out.context.mentions.extend(mentions)
        out.context.expire_seconds = min(options.disappear_after_seconds, 2**32 - 1)
        out.context.forwarded = options.forwarded
    return out.SerializeToString(), blobs


def from_wire(inbound: wire.Inbound) -> Incoming:
    """What arrived. What this version cannot read is kept as it came."""
    content, blob, target, edited = content_pb2.Content(), None, "", None
    try:
        came = wire.Content.FromString(inbound.content)
    except DecodeError:
        came = wire.Content()
    kind = came.WhichOneof("kind")
    if kind == "edit":
        target = came.edit.id
        edited = _content(came.edit.content)[0]
        content.unknown.kind = "edit"
    elif kind == "revoke":
        target = came.revoke.id
        content.revoked.SetInParent()
    else:
        content, blob, target = _content(inbound.content)
    context = came.context
    return Incoming(
        network_id=inbound.id,
        chat=inbound.chat,
        sender=inbound.sender,
        push_name=inbound.push_name,
        content=content,
        time=inbound.time_us,
        reply_to=context.reply_to,
        target=target,
        mentions=tuple(context.mentions),
        forwarded=context.forwarded,
        expire_seconds=context.expire_seconds,
        blob=blob,
        edited=edited,
    )


def _content(raw: bytes) -> tuple[content_pb2.Content, bytes | None, str]:
    """The content, what fetches its blob, and the network id of a reaction's message."""
    content = content_pb2.Content()
    try:
        came = wire.Content.FromString(raw)
    except DecodeError:
        content.unknown.raw = raw
        return content, None, ""
    kind = came.WhichOneof("kind")
    if kind == "text":
        content.text.body = came.text
    elif kind == "blob":
        _read_blob(came.blob, content)
        return content, came.blob.SerializeToString(), ""
    elif kind == "reaction":
        content.reaction.emoji = came.reaction.emoji
        return content, None, came.reaction.id
    elif kind == "other" and came.other.kind in _OTHER:
        field: Message = getattr(content, came.other.kind)
        try:
            field.MergeFromString(came.other.body)
            field.SetInParent()
        except DecodeError:
            content.unknown.kind = came.other.kind
            content.unknown.raw = raw
    else:
        content.unknown.kind = came.other.kind if kind == "other" else kind or ""
        content.unknown.raw = raw
    return content, None, ""


def _blob(kind: str, shown: Message, media: MediaPart) -> wire.Blob:
    return wire.Blob(
        ref=media.blob.ref,
        sha256=media.blob.sha256,
        mime=media.mime_type,
        size=media.blob.size,
        caption=getattr(shown, "caption", ""),
        file_name=getattr(shown, "file_name", "") or media.file_name,
        shown_as=kind,
        width=media.width,
        height=media.height,
        duration_ms=int(media.duration_seconds * 1000),
    )


def _read_blob(blob: wire.Blob, content: content_pb2.Content) -> None:
    kind = blob.shown_as if blob.shown_as in _SHOWN else "document"
    shown = getattr(content, kind)
    shown.media.size = blob.size
    shown.media.mime_type = blob.mime
    shown.media.sha256 = blob.sha256
    shown.media.state = content_pb2.MEDIA_STATE_PENDING
    fields = shown.DESCRIPTOR.fields_by_name
    for name, value in (
        ("caption", blob.caption),
        ("file_name", blob.file_name),
        ("width", blob.width),
        ("height", blob.height),
        ("duration_seconds", blob.duration_ms / 1000),
    ):
        if name in fields:
            setattr(shown, name, value)
