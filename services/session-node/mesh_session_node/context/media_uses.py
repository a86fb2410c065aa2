"""What messages refer to files for: the media service keeps a file as long as the rules for that say."""

from __future__ import annotations

from asyncpg.pgproto.pgproto import UUID

from mesh_core.ids import Prefix, decode
from mesh_session_node.drivers.interface.content import STATUS
from mesh_session_node.journal import MediaUse
from mesh_session_node.store.media import media_of
from sessionmesh.v1 import content_pb2, media_pb2


def outgoing_media_use(
    message: UUID, content: content_pb2.Content, chat: str, due: int | None
) -> MediaUse | None:
    """That a message which the account sends refers to the file that it is; None for one that is no file.

    `due` is when it is to be sent, if not now: the file is kept for it until then, and as long afterwards.
    """
    media_id = _file(content)
    if not media_id:
        return None
    media = decode(Prefix.MEDIA, media_id, "media_id")
    return MediaUse(message, media, _category(content, chat, sent=True), due)


def fetched_media_use(
    message: UUID, media_id: str, content: content_pb2.Content, chat: str, *, sent: bool
) -> MediaUse:
    """The same for a message of the network once its file is stored; it may have been taken back meanwhile.
    `sent`: by the account.
    """
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
