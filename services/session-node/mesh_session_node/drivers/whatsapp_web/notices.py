"""What the sidecar tells beside messages, as the session wants it."""

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
from mesh_session_node.drivers.whatsapp_web import chat_notices, group_notices
from mesh_session_node.drivers.whatsapp_web.encoding import identity_of, micros
from sessionmesh.internal.v1 import linked_device_pb2 as pb
from sessionmesh.v1.channel_pb2 import Channel


def notice_of(notice: pb.DeviceNotice) -> Notice:
    """What happened."""
    kind = notice.WhichOneof("notice") or ""
    read = _READERS.get(kind)
    return UnknownNotice(kind) if read is None else read(getattr(notice, kind))


def _typing(typing: pb.DeviceTyping) -> Notice:
    return TypingShown(typing.chat, typing.sender, typing.state, identity_of(typing.identity))


def _presence(presence: pb.DevicePresence) -> Notice:
    seen = micros(presence.last_seen_time) if presence.HasField("last_seen_time") else None
    return PresenceShown(presence.person, presence.online, seen, identity_of(presence.identity))


def _offered(call: pb.DeviceCallOffered) -> Notice:
    who = identity_of(call.identity)
    return CallOffered(call.call_id, call.caller, micros(call.time), call.group, call.video, who)


def _ended(call: pb.DeviceCallEnded) -> Notice:
    who = identity_of(call.identity)
    return CallEnded(call.call_id, call.caller, micros(call.time), call.cause, call.group, who)


def _channel(told: Channel) -> Notice:
    return ChannelTold(told)


def _posts(told: pb.DevicePosts) -> Notice:
    return PostsTold(told.channel, told.posts)


def _person(changed: pb.DevicePersonChanged) -> Notice:
    def told(field: str) -> Any:
        return getattr(changed, field) if changed.HasField(field) else None  # type: ignore[arg-type]

    return PersonChanged(
        changed.person,
        micros(changed.time),
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
    "call_ended": _ended,
    "call_offered": _offered,
    "chat_emptied": chat_notices.emptied_of,
    "chat_read": chat_notices.read_of,
    "chat_set": chat_notices.set_of,
    "community_ended": group_notices.ended_of,
    "community_groups_changed": group_notices.groups_changed_of,
    "group_changed": group_notices.changed_of,
    "group_entered": group_notices.entered_of,
    "join_requested": group_notices.requested_of,
    "members_changed": group_notices.members_changed_of,
    "channel": _channel,
    "posts": _posts,
    "person_changed": _person,
    "label": chat_notices.label_of,
    "labelled": chat_notices.labelled_of,
    "presence": _presence,
    "typing": _typing,
}
"""By the kind of notice."""
