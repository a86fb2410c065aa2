"""Contents of messages: the API's form to the simulated network's, and back."""

from __future__ import annotations

import time
from collections.abc import Sequence

import structlog
from google.protobuf.message import DecodeError, Message

from mesh_session_node.drivers.interface.content import Identity, Incoming, MediaPart, Reference, References
from mesh_session_node.drivers.simulated.blobs import SHOWN_AS, read_blob, shown_as, to_blob
from sessionmesh.simnet.v1 import wire_pb2 as wire
from sessionmesh.v1 import content_pb2, message_pb2
from sessionmesh.v1.common_pb2 import MessageRef

logger = structlog.get_logger(__name__)

SENDABLE = SHOWN_AS | {
    "text",
    "location",
    "contact_cards",
    "poll",
    "reaction",
    "buttons",
    "list",
    "template",
    "group_invite",
    "appointment",
    "product",
    "album",
    "live_location",
    "poll_vote",
    "choice",
    "product_list",
    "flow",
    "location_request",
    "address_request",
}
"""The kinds of content that are sent."""
_OTHER = frozenset(
    field.name
    for field in content_pb2.Content.DESCRIPTOR.fields
    if field.name not in ("text", "reaction", "revoked", "unknown", *SHOWN_AS)
)
_ABOUT = {"poll_vote": "poll", "choice": "message", "form_reply": "message"}
"""Kinds that are about an earlier message, and their field that names it."""


def to_wire(
    request: message_pb2.SendMessageRequest, references: References, media: MediaPart | None
) -> tuple[bytes, Sequence[str]]:
    """The serialised wire content, and the references of the blobs in it."""
    content = request.content
    out = _written(content, references.target, media)
    blobs: Sequence[str] = () if media is None else (media.blob.ref,)
    if content.text.HasField("preview"):
        preview = content.text.preview
        out.context.link_preview.url = preview.url
        out.context.link_preview.title = preview.title
        out.context.link_preview.description = preview.description
        out.context.link_preview.thumbnail = preview.thumbnail
    if content.text.HasField("style"):
        style = content.text.style
        out.context.style.background_color, out.context.style.text_color = (
            style.background_color,
            style.text_color,
        )
        out.context.style.font = style.font
    if references.album is not None:
        out.context.album = references.album.network_id
    if request.HasField("options"):
        options = request.options
        if (reply_to := references.reply_to) is not None:
            out.context.reply_to = reply_to.network_id
            out.context.reply_to_sender = reply_to.sender
            if reply_to.content is not None:
                out.context.quoted = _written(reply_to.content, None, None).SerializeToString()
        out.context.mentions.extend(options.mentions)
        out.context.expire_seconds = options.disappear_after.seconds
        out.context.forward_score = options.forward_score
        out.context.forwarded = options.forward_score > 0
    return out.SerializeToString(), blobs


def to_audience(audience: message_pb2.StatusAudience) -> wire.Audience:
    """Who sees a status post."""
    only = audience.kind == message_pb2.STATUS_AUDIENCE_KIND_ONLY
    return wire.Audience(only=only, addresses=audience.addresses)


def from_wire(inbound: wire.Inbound) -> Incoming:
    """What arrived. What this version cannot read is kept as it came."""
    try:
        return _incoming(inbound)
    except Exception:  # whatever its sender put in: it must not come again for ever
        logger.exception("a message cannot be read", network_id=inbound.id)
        unknown = content_pb2.UnknownContent(raw=inbound.content)
        return Incoming(
            network_id=inbound.id,
            chat=inbound.chat,
            sender=inbound.sender,
            push_name=inbound.push_name,
            content=content_pb2.Content(unknown=unknown),
            time=inbound.time_us,
            from_account=inbound.from_me,
        )


def _incoming(inbound: wire.Inbound) -> Incoming:
    content, blob, edited = content_pb2.Content(), None, None
    target: Reference | None = None
    try:
        came = wire.Content.FromString(inbound.content)
    except DecodeError:
        came = wire.Content()
    kind, context = came.WhichOneof("kind"), came.context
    if kind == "edit":
        target = Reference(came.edit.id, inbound.chat, inbound.sender)
        edited = _read(came.edit.content)[0]
        if not edited.HasField("unknown"):
            context.mentions.extend(wire.Content.FromString(came.edit.content).context.mentions)
        content.unknown.kind = "edit"
    elif kind == "revoke":
        target = Reference(came.revoke.id, inbound.chat, came.revoke.sender or inbound.sender)
        content.revoked.SetInParent()
    else:
        content, blob, target = _read(inbound.content)
    reply_to = None
    if context.reply_to:
        quoted = _read(context.quoted)[0] if context.quoted else None
        reply_to = Reference(context.reply_to, "", context.reply_to_sender, quoted)
    return Incoming(
        network_id=inbound.id,
        chat=inbound.chat,
        sender=inbound.sender,
        push_name=inbound.push_name,
        content=content,
        time=inbound.time_us,
        from_account=inbound.from_me,
        identity=identity_of(inbound.identity) if inbound.HasField("identity") else None,
        reply_to=reply_to,
        target=target,
        mentions=tuple(context.mentions),
        forward_score=min(context.forward_score or int(context.forwarded), _MAX_FORWARD_SCORE),
        expire_seconds=context.expire_seconds,
        album=context.album,
        blob=blob,
        edited=edited,
    )


def content_of(raw: bytes) -> content_pb2.Content:
    """A serialised wire content in the API's form. What this version cannot read is kept as it came."""
    try:
        return _read(raw)[0]
    except Exception:  # whatever its writer put in
        logger.exception("a post cannot be read")
        return content_pb2.Content(unknown=content_pb2.UnknownContent(raw=raw))


def identity_of(identity: wire.Identity) -> Identity:
    """Who somebody is, as the wire says it."""
    return Identity(identity.phone, identity.user_id, identity.hidden_id, identity.username)


def _written(content: content_pb2.Content, target: Reference | None, media: MediaPart | None) -> wire.Content:
    kind = content.WhichOneof("kind") or ""
    out = wire.Content()
    if kind == "text":
        out.text = content.text.body
    elif kind in SHOWN_AS:
        out.blob.CopyFrom(to_blob(kind, getattr(content, kind), media))
    elif kind == "reaction":
        out.reaction.emoji = content.reaction.emoji
        if target is not None:
            out.reaction.id, out.reaction.sender = target.network_id, target.sender
    else:
        out.other.kind = kind
        out.other.body = _body(content, kind, target).SerializeToString()
    return out


def _body(content: content_pb2.Content, kind: str, target: Reference | None) -> Message:
    """A kind in the API's form as others may see it: without ids of the mesh, and what only it knows."""
    said = content_pb2.Content()
    said.CopyFrom(content)
    body: Message = getattr(said, kind)
    if kind in _ABOUT:
        about = MessageRef()
        if target is not None:
            about.network_message_id, about.sender = target.network_id, target.sender
        getattr(body, _ABOUT[kind]).CopyFrom(about)
    elif kind == "album":
        body.ClearField("items")
    elif kind == "poll":
        body.ClearField("totals")
    elif kind == "live_location":
        said.live_location.sequence = time.time_ns() // 1_000_000
    return body


def _read(raw: bytes) -> tuple[content_pb2.Content, bytes | None, Reference | None]:
    """The content, what fetches its blob, and the message that it is about."""
    content = content_pb2.Content()
    try:
        came = wire.Content.FromString(raw)
    except DecodeError:
        content.unknown.raw = raw
        return content, None, None
    kind = came.WhichOneof("kind")
    if kind == "text":
        content.text.body = came.text
        if came.context.HasField("link_preview"):
            _read_preview(came.context.link_preview, content.text)
        if came.context.HasField("style"):
            _read_style(came.context.style, content.text.style)
    elif kind == "blob":
        read_blob(came.blob, getattr(content, shown_as(came.blob)))
        return content, came.blob.SerializeToString(), None
    elif kind == "reaction":
        content.reaction.emoji = came.reaction.emoji
        return content, None, Reference(came.reaction.id, "", came.reaction.sender)
    elif kind == "other" and came.other.kind in _OTHER:
        return content, None, _read_other(came, raw, content)
    else:
        content.unknown.kind = came.other.kind if kind == "other" else kind or ""
        content.unknown.raw = raw
    return content, None, None


def _read_other(came: wire.Content, raw: bytes, content: content_pb2.Content) -> Reference | None:
    """Read a kind whose body is in the API's form; the message that it is about. The ids of the mesh in it
    are somebody else's.
    """
    kind = came.other.kind
    body: Message = getattr(content, kind)
    try:
        body.MergeFromString(came.other.body)
    except DecodeError:
        content.unknown.kind = kind
        content.unknown.raw = raw
        return None
    body.SetInParent()
    if kind not in _ABOUT:
        return None
    ref: MessageRef = getattr(body, _ABOUT[kind])
    ref.message_id = ""
    network_id = ref.network_message_id or came.context.reply_to
    if not network_id:
        return None
    return Reference(network_id, ref.chat, ref.sender or came.context.reply_to_sender)


def _read_style(style: wire.TextStyle, shown: content_pb2.TextStyle) -> None:
    shown.background_color, shown.text_color = style.background_color, style.text_color
    if style.font in content_pb2.TextFont.values():
        shown.font = style.font  # type: ignore[assignment]  # one of them


def _read_preview(preview: wire.LinkPreview, text: content_pb2.TextContent) -> None:
    text.preview.url, text.preview.title = preview.url, preview.title
    text.preview.description, text.preview.thumbnail = preview.description, preview.thumbnail


_MAX_FORWARD_SCORE = 127
