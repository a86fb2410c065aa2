"""What the network tells beside messages, as the session wants it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mesh_session_node.drivers.interface.contact_notices import PersonChanged
from mesh_session_node.drivers.interface.notices import (
    CallEnded,
    CallOffered,
    ChannelTold,
    Notice,
    PostsTold,
    PresenceShown,
    TypingShown,
    UnknownNotice,
)
from mesh_session_node.drivers.simulated import group_encoding
from mesh_session_node.drivers.simulated.channel_actions import channel_of, post_of
from mesh_session_node.drivers.simulated.chat_notices import app_state_of, chat_read_of, disappearing_of
from mesh_session_node.drivers.simulated.encoding import identity_of
from sessionmesh.simnet.v1 import wire_pb2 as wire
from sessionmesh.v1 import call_pb2, message_pb2


def notice_of(notice: wire.Notice) -> Notice:
    """What happened."""
    kind = notice.WhichOneof("kind") or ""
    read = _READERS.get(kind)
    return UnknownNotice(kind) if read is None else read(getattr(notice, kind))


def typing_of(typing: wire.Typing) -> Notice:
    """Somebody writes."""
    state = _TYPING.get(typing.state, message_pb2.TYPING_STATE_UNSPECIFIED)
    return TypingShown(typing.chat, typing.sender, state, identity_of(typing.identity))


def presence_of(presence: wire.Presence) -> Notice:
    """Somebody is online, or not."""
    return PresenceShown(
        presence.sender, presence.available, presence.last_seen_us or None, identity_of(presence.identity)
    )


def _offered(call: wire.CallOffered) -> Notice:
    return CallOffered(
        call.call_id, call.caller, call.time_us, call.group, call.video, identity_of(call.identity)
    )


def _ended(call: wire.CallEnded) -> Notice:
    cause = _ENDS.get(call.end, call_pb2.CALL_END_CAUSE_UNSPECIFIED)
    return CallEnded(call.call_id, call.caller, call.time_us, cause, call.group, identity_of(call.identity))


def _app_state(entry: wire.AppStateEntry) -> Notice:
    return app_state_of(entry) or UnknownNotice(entry.name.partition("/")[0])


def _channel(told: wire.Channel) -> Notice:
    return ChannelTold(channel_of(told))


def _posts(told: wire.ChangedPosts) -> Notice:
    return PostsTold(told.channel, [post_of(told.channel, post) for post in told.posts])


def _person(changed: wire.PersonChanged) -> Notice:
    def told(field: str) -> Any:
        return getattr(changed, field) if changed.HasField(field) else None  # type: ignore[arg-type]

    return PersonChanged(
        changed.person,
        changed.time_us,
        identity_of(changed.identity),
        told("saved"),
        changed.full_name,
        changed.first_name,
        told("push_name"),
        told("about"),
        told("picture_id"),
        told("blocked"),
    )


_READERS: Mapping[str, Callable[[Any], Notice]] = {
    "app_state": _app_state,
    "call_ended": _ended,
    "call_offered": _offered,
    "chat_read": chat_read_of,
    "disappearing_set": disappearing_of,
    "community_ended": group_encoding.ended_of,
    "community_groups_changed": group_encoding.groups_changed_of,
    "group_changed": group_encoding.changed_of,
    "group_entered": group_encoding.entered_of,
    "join_requested": group_encoding.requested_of,
    "members_changed": group_encoding.members_changed_of,
    "channel": _channel,
    "posts": _posts,
    "person_changed": _person,
}
"""By the kind of notice."""
_TYPING = {
    wire.TYPING_STATE_TYPING: message_pb2.TYPING_STATE_TYPING,
    wire.TYPING_STATE_RECORDING: message_pb2.TYPING_STATE_RECORDING,
    wire.TYPING_STATE_PAUSED: message_pb2.TYPING_STATE_PAUSED,
}
_ENDS = {
    wire.CALL_END_ACCEPTED_ELSEWHERE: call_pb2.CALL_END_CAUSE_ACCEPTED_ELSEWHERE,
    wire.CALL_END_REJECTED_ELSEWHERE: call_pb2.CALL_END_CAUSE_REJECTED_ELSEWHERE,
    wire.CALL_END_REJECTED: call_pb2.CALL_END_CAUSE_REJECTED,
    wire.CALL_END_MISSED: call_pb2.CALL_END_CAUSE_MISSED,
    wire.CALL_END_TIMED_OUT: call_pb2.CALL_END_CAUSE_TIMED_OUT,
    wire.CALL_END_BUSY: call_pb2.CALL_END_CAUSE_BUSY,
    wire.CALL_END_FAILED: call_pb2.CALL_END_CAUSE_FAILED,
}
