"""What the sidecar tells of chats and labels, as the session wants it."""

from __future__ import annotations

from mesh_session_node.drivers.interface.chat_actions import LabelFacts
from mesh_session_node.drivers.interface.chat_notices import (
    ChatEmptied,
    ChatRead,
    ChatSet,
    Labelled,
    LabelSet,
)
from sessionmesh.internal.v1 import linked_device_pb2 as pb


def set_of(told: pb.DeviceChatSet) -> ChatSet:
    """Something of a chat is so now."""
    return ChatSet(
        told.chat,
        archived=told.archived if told.HasField("archived") else None,
        mute_until=told.mute_until_us if told.HasField("mute_until_us") else None,
        pinned=told.pinned if told.HasField("pinned") else None,
        marked_unread=told.marked_unread if told.HasField("marked_unread") else None,
        disappear_after=(told.disappear_after_seconds if told.HasField("disappear_after_seconds") else None),
        name=told.name if told.HasField("name") else None,
    )


def read_of(told: pb.DeviceChatRead) -> ChatRead:
    """The account's phone has read a chat."""
    return ChatRead(told.chat, told.network_message_id, told.until_us)


def emptied_of(told: pb.DeviceChatEmptied) -> ChatEmptied:
    """A chat was cleared or deleted."""
    return ChatEmptied(told.chat, deleted=told.deleted, until=told.until_us)


def label_of(told: pb.DeviceLabel) -> LabelSet:
    """A label is so now."""
    label = LabelFacts(told.id, told.name, told.color if told.HasField("color") else None)
    return LabelSet(label, deleted=told.deleted)


def labelled_of(told: pb.DeviceLabelled) -> Labelled:
    """A label was put on something, or taken off."""
    return Labelled(told.label_id, told.chat, told.labelled, told.network_message_id)
