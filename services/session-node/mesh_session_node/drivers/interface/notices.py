"""What a network tells by itself beside messages, their receipts and restrictions: one dataclass for each
kind of thing. Addresses are canonical ones; times are microseconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mesh_session_node.drivers.interface.chat_notices import ChatNotice
from mesh_session_node.drivers.interface.contact_notices import PersonChanged
from mesh_session_node.drivers.interface.content import Identity
from mesh_session_node.drivers.interface.group_notices import GroupNotice
from sessionmesh.v1 import call_pb2, channel_pb2, message_pb2


@dataclass(frozen=True, slots=True)
class TypingShown:
    """Somebody writes or records in a chat, or stopped doing so."""

    chat: str
    person: str
    state: message_pb2.TypingState.ValueType
    identity: Identity | None = None


@dataclass(frozen=True, slots=True)
class PresenceShown:
    """Somebody whom the account watches is online, or no longer. `last_seen` is None where that is not
    shown.
    """

    person: str
    online: bool
    last_seen: int | None = None
    identity: Identity | None = None


@dataclass(frozen=True, slots=True)
class CallOffered:
    """Somebody calls the account, or a group of it."""

    call_id: str
    caller: str
    time: int
    group: str = ""
    video: bool = False
    identity: Identity | None = None


@dataclass(frozen=True, slots=True)
class CallEnded:
    """A call has ended, for whatever reason the network says."""

    call_id: str
    caller: str
    time: int
    cause: call_pb2.CallEndCause.ValueType
    group: str = ""
    identity: Identity | None = None


@dataclass(frozen=True, slots=True)
class ChannelTold:
    """A channel as it is now: the account follows it, or no more (its role is GUEST), it changed, or it is
    gone (its state is DELETED). What is returned of a `ChannelActions` is like it.
    """

    channel: channel_pb2.Channel


@dataclass(frozen=True, slots=True)
class PostsTold:
    """Posts of a channel were seen, reacted to or edited. Their content is there where the network has it."""

    channel: str
    posts: Sequence[channel_pb2.ChannelPost]


@dataclass(frozen=True, slots=True)
class UnknownNotice:
    """Something that this version cannot read. It is acknowledged, so that it does not come for ever."""

    kind: str = ""


Notice = (
    TypingShown
    | PresenceShown
    | CallOffered
    | CallEnded
    | ChannelTold
    | PostsTold
    | ChatNotice
    | GroupNotice
    | PersonChanged
    | UnknownNotice
)
