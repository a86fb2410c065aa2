"""What a network tells of chats and labels: what the account's phone did with them, as a rule."""

from __future__ import annotations

from dataclasses import dataclass, field

from mesh_session_node.drivers.interface.chat_actions import LabelFacts


@dataclass(frozen=True, slots=True)
class ChatSet:
    """Something of a chat is so now; what is None is as before. `mute_until` is in microseconds since the
    epoch, `disappear_after` in seconds; 0 is none.
    """

    chat: str
    archived: bool | None = None
    mute_until: int | None = None
    pinned: bool | None = None
    marked_unread: bool | None = None
    disappear_after: int | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class ChatRead:
    """The account's phone has read a chat, up to the message with the network's id; "": up to those that were
    sent at a time, in microseconds since the epoch; 0: all of it.
    """

    chat: str
    network_id: str = ""
    until: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class ChatEmptied:
    """A chat's messages were deleted on the account's phone, or the chat with them: those that were sent
    until a time, in microseconds since the epoch; 0: all of them.
    """

    chat: str
    deleted: bool
    until: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class LabelSet:
    """A label is so now, or is deleted."""

    label: LabelFacts
    deleted: bool = False


@dataclass(frozen=True, slots=True)
class Labelled:
    """A label was put on a chat or taken off, or with `network_id` on a message of it."""

    label_id: str
    chat: str
    labelled: bool
    network_id: str = ""


ChatNotice = ChatSet | ChatRead | ChatEmptied | LabelSet | Labelled
