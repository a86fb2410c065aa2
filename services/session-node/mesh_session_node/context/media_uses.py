"""What messages refer to files for: the media service keeps a file as long as the rules for that say."""

from __future__ import annotations

from asyncpg.pgproto.pgproto import UUID

from mesh_core.ids import Prefix, decode
from mesh_session_node.journal import MediaUse
from mesh_session_node.store.media import media_of
from sessionmesh.v1 import content_pb2, media_pb2

STATUS = "status"
"""The chat of status posts."""


def media_use(
    message: UUID, content: content_pb2.Content, chat: str, *, sent: bool, media_id: str = ""
) -> MediaUse | None:
    """That the message refers to the file that it is; None for one that is no file.

    `sent`: by the account. `media_id` names the file of a message that may have been taken back meanwhile.
    """
    media_id = media_id or _file(content)
    if not media_id:
        return None
    return MediaUse(message, decode(Prefix.MEDIA, media_id, "media_id"), _category(content, chat, sent=sent))


def revoked_media_use(message: UUID, content: content_pb2.Content) -> MediaUse | None:
    """The same for a message that is taken back; `content` is what it said before."""
    media_id = _file(content)
    if not media_id:
        return None
    return MediaUse(message, decode(Prefix.MEDIA, media_id, "media_id"), media_pb2.MEDIA_CATEGORY_REVOKED)


def _file(content: content_pb2.Content) -> str:
    reference = media_of(content)
    return "" if reference is None else reference.media_id


def _category(content: content_pb2.Content, chat: str, *, sent: bool) -> media_pb2.MediaCategory.ValueType:
    kind = content.WhichOneof("kind") or ""
    if kind == "revoked":
        return media_pb2.MEDIA_CATEGORY_REVOKED
    if chat == STATUS:
        return media_pb2.MEDIA_CATEGORY_STATUS
    if kind in _ONCE and getattr(content, kind).view_once:
        return media_pb2.MEDIA_CATEGORY_VIEW_ONCE
    return media_pb2.MEDIA_CATEGORY_SENT if sent else media_pb2.MEDIA_CATEGORY_RECEIVED


_ONCE = frozenset({"image", "video", "voice_note"})
