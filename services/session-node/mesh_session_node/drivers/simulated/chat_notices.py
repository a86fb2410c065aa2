"""What the network tells of chats and labels, as the session wants it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mesh_session_node.drivers.interface.chat_actions import LabelFacts
from mesh_session_node.drivers.interface.chat_notices import (
    ChatEmptied,
    ChatNotice,
    ChatRead,
    ChatSet,
    Labelled,
    LabelSet,
)
from sessionmesh.simnet.v1 import wire_pb2 as wire


def app_state_of(entry: wire.AppStateEntry) -> ChatNotice | None:
    """What the account's phone changed; None for what is not about chats."""
    kind, _, about = entry.name.partition("/")
    read = _READERS.get(kind)
    return None if read is None else read(about, entry.value)


def chat_read_of(read: wire.ChatRead) -> ChatNotice:
    """The account's phone has read a chat."""
    return ChatRead(read.chat, read.message_id, read.until_us)


def disappearing_of(told: wire.DisappearingSet) -> ChatNotice:
    """Messages of a chat disappear after another time."""
    return ChatSet(told.chat, disappear_after=told.seconds)


def _label(label_id: str, value: bytes) -> ChatNotice:
    label = wire.Label.FromString(value)
    color = label.color if label.HasField("color") else None
    return LabelSet(LabelFacts(label_id, label.name, color), deleted=not value)


def _on_chat(about: str, value: bytes) -> ChatNotice:
    label_id, _, chat = about.partition("/")
    return Labelled(label_id, chat, bool(value))


def _on_message(about: str, value: bytes) -> ChatNotice:
    label_id, _, rest = about.partition("/")
    chat, _, network_id = rest.partition("/")
    return Labelled(label_id, chat, bool(value), network_id)


def _until(value: bytes) -> int:
    """Until when what is gone was sent; a device that says no time means all of it."""
    return 0 if value in (b"", b"1") else int(value)


_READERS: Mapping[str, Callable[[str, bytes], ChatNotice]] = {
    "archive": lambda chat, value: ChatSet(chat, archived=bool(value), pinned=False if value else None),
    "mute": lambda chat, value: ChatSet(chat, mute_until=int(value or b"0")),
    "pin": lambda chat, value: ChatSet(chat, pinned=bool(value)),
    "unread": lambda chat, value: ChatSet(chat, marked_unread=True) if value else ChatRead(chat),
    "clear": lambda chat, value: ChatEmptied(chat, deleted=False, until=_until(value)),
    "delete": lambda chat, value: ChatEmptied(chat, deleted=True, until=_until(value)),
    "label": _label,
    "label-chat": _on_chat,
    "label-message": _on_message,
}
