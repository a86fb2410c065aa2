"""A sample of every type of event: made up, from the fields that the protos have, so that none is forgotten.

A field gets a value by what it is called or, failing that, by its type. Of a `oneof` the first is set, flags
stay false, and what only some types of an event have is left out of the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.api.field_behavior_pb2 import INPUT_ONLY, field_behavior
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from mesh_core.ids import Prefix
from mesh_webhook.events.catalogue import PAYLOAD_OF, PAYLOADS
from sessionmesh.v1 import (
    call_pb2,
    channel_pb2,
    content_pb2,
    job_pb2,
    media_pb2,
    message_pb2,
    session_pb2,
    template_pb2,
)
from sessionmesh.v1.event_pb2 import Event

TIME_SECONDS, TIME_NANOS = 1_777_888_800, 250_000_000
"""When it all happened: 2026-05-04T10:00:00.250Z."""


def sample(event_type: str) -> Event:
    """An event of that type as it could have come, the same one each time; its cursor is empty."""
    payload = PAYLOAD_OF[event_type]
    event = Event(type=event_type, labels={"campaign": "spring"}, traceparent=_TEXTS["traceparent"])
    for name in ("id", "tenant_id", "occur_time", "commit_time"):
        _fill(event, Event.DESCRIPTOR.fields_by_name[name], ())
    if payload not in _OF_TENANTS:
        event.account_id = _id("account_id")
    _fill_all(getattr(event, payload), ())
    for path, value in {**_OF_PAYLOADS.get(payload, {}), **_OF_TYPES.get(event_type, {})}.items():
        _change(getattr(event, payload), path, value)
    return event


def _fill_all(message: Message, within: tuple[str, ...]) -> None:
    """Every field of `message`, which is inside messages of types with these names."""
    message.SetInParent()
    within = (*within, message.DESCRIPTOR.full_name)
    for field in message.DESCRIPTOR.fields:
        group = field.containing_oneof
        if group is not None and len(group.fields) > 1 and field is not group.fields[0]:
            continue
        if INPUT_ONLY not in field.GetOptions().Extensions[field_behavior] and field.name not in _LEFT_OUT:
            _fill(message, field, within)


def _fill(message: Any, field: Any, within: tuple[str, ...]) -> None:
    kind = field.message_type
    if kind is not None and kind.GetOptions().map_entry:
        getattr(message, field.name)["campaign"] = "spring"
    elif kind is not None and kind.full_name in _WELL_KNOWN:
        _set(message, field.name, _WELL_KNOWN[kind.full_name])
    elif kind is not None:
        if kind.full_name in within:  # a message that quotes a message
            return
        target = getattr(message, field.name)
        _fill_all(target.add() if field.is_repeated else target, within)
    else:
        value = _value(message, field)
        if value:
            _set(message, field.name, [value] if field.is_repeated else value)


def _value(message: Message, field: Any) -> object:
    owner = message.DESCRIPTOR.name
    for known in (f"{owner}.{field.name}", field.name):
        if known in _NUMBERS:
            return _NUMBERS[known]
        if known in _TEXTS:
            return _TEXTS[known]
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_ENUM:
            return field.enum_type.values[min(1, len(field.enum_type.values) - 1)].number
        case FieldDescriptor.CPPTYPE_BOOL:
            return False
        case FieldDescriptor.CPPTYPE_STRING if field.type == FieldDescriptor.TYPE_BYTES:
            return bytes(range(32))
        case FieldDescriptor.CPPTYPE_STRING:
            return _id(f"{owner.lower()}_id" if field.name == "id" else field.name) or field.name.replace(
                "_", " "
            )
    return 1


def _set(message: Any, name: str, value: Any) -> None:
    """A mapping is a message's fields, a list those of a repeated field."""
    if isinstance(value, list):
        for one in value:
            if isinstance(one, Mapping):
                getattr(message, name).add(**one)
            else:
                getattr(message, name).append(one)
    elif isinstance(value, Mapping):
        target = getattr(message, name)
        target.SetInParent()
        for key, one in value.items():
            _set(target, key, one)
    else:
        setattr(message, name, value)


def _change(message: Any, path: str, value: object) -> None:
    """Sets the field at a dotted path, or (None) clears it."""
    *parents, name = path.split(".")
    for parent in parents:
        message = getattr(message, parent)
    if value is None:
        message.ClearField(name)
    else:
        _set(message, name, value)


def _id(name: str) -> str:
    """What a field of that name names, where it is something of the mesh's."""
    prefix = _PREFIXES.get(name)
    return f"{prefix}_01M80SWXV5EMYAB01019B0170N" if prefix else ""


_PREFIXES = {
    "event_id": Prefix.EVENT,
    "tenant_id": Prefix.TENANT,
    "account_id": Prefix.ACCOUNT,
    "message_id": Prefix.MESSAGE,
    "media_id": Prefix.MEDIA,
    "picture_media_id": Prefix.MEDIA,
    "endpoint_id": Prefix.ENDPOINT,
    "job_id": Prefix.JOB,
    "attempt_id": Prefix.PAIRING,
}
_WELL_KNOWN: Mapping[str, Mapping[str, object]] = {
    "google.protobuf.Timestamp": {"seconds": TIME_SECONDS, "nanos": TIME_NANOS},
    "google.protobuf.Duration": {"seconds": 60},
    "google.protobuf.FieldMask": {"paths": ["name"]},
}
_TEXTS = {
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "Person.address": "phone:+4915112345678",
    "Person.username": "ann",
    "user_id": "4915112345678",
    "hidden_id": "183746502910473",
    "business_scoped_id": "DE.183746502910473",
    "phone": "+4915112345678",
    "display_name": "Ann",
    "full_name": "Ann Example",
    "first_name": "Ann",
    "push_name": "Ann",
    "verified_name": "Example",
    "name": "Spring",
    "subject": "whe_01M80SWXV5EMYAB01019B0170N",
    "language": "en",
    "chat": "phone:+4915112345678",
    "Chat.address": "phone:+4915112345678",
    "MessageRef.sender": "phone:+4915112345678",
    "Group.address": "group:120363041234567890",
    "CommunityGroup.address": "group:120363041234567890",
    "Community.address": "group:120363041234567891",
    "Channel.address": "channel:120363041234567892",
    "group": "group:120363041234567890",
    "announcement_group": "group:120363041234567890",
    "community": "group:120363041234567891",
    "channel": "channel:120363041234567892",
    "mentions": "phone:+4915112345678",
    "network_message_id": "3EB0A1B2C3D4E5F60718",
    "external_id": "order-4711",
    "node_id": "node-1",
    "call_id": "5F2A9C01D4E87B36",
    "Label.id": "5",
    "label_id": "5",
    "label_ids": "5",
    "Template.id": "594425479261596",
    "picture_id": "1746352800",
    "invite_code": "Kd3vXzP0Yx4GqL5mNbRtUw",
    "invite_url": "https://example.org/invite",
    "emoji": "\N{THUMBS UP SIGN}",
    "answer": "This one",
    "answers": "This one",
    "text": "Hello",
    "body": "Hello",
    "mime_type": "image/jpeg",
    "file_name": "photo.jpg",
    "etag": "3",
    "reason": "it answered 410 Gone",
    "subscription": "orders",
    "about": "Out until Monday",
    "description": "What blooms when",
    "Template.name": "spring_offer",
    "footer": "Until Sunday",
    "title": "More",
}
_NUMBERS = {
    "width": 1280,
    "height": 960,
    "size_bytes": 48_213,
    "original_size_bytes": 391_204,
    "paired": True,
    "per_minute": 60,
    "per_hour": 1000,
    "per_day": 10_000,
}
# What only some events have, and what stands beside the sample's one way for things to go.
_LEFT_OUT = frozenset(
    {
        "error",
        "failure",
        "failure_code",
        "failure_detail",
        "wait_reason",
        "unprocessed_reason",
        "declared_mime_type",
        "delete_time",
        "purge_time",
        "rejected_reason",
        "rejected_detail",
        "next_connect_time",
        "restrictions",
        "risk",
        "duration",
        "waveform",
        "thumbnail",
        "album",
        "referral",
        "quoted",
        "last_message",
        "reply_to",
        "audience",
        "style",
        "preview",
        "preview_mode",
        "schedule_time",
        "expire_time",
        "edit_time",
        "end_time",
        "forward_score",
        "disappear_after",
    }
)
_TIME = _WELL_KNOWN["google.protobuf.Timestamp"]
_OF_TENANTS = frozenset({"job", "test", "endpoint_disabled", "subscription_expired"})
_INBOUND: Mapping[str, object] = {
    "message.direction": message_pb2.DIRECTION_INBOUND,
    "message.status": None,
    "message.origin": None,
    "message.recipient": None,
    "message.external_id": None,
    "message.update_time": None,
}
_OF_PAYLOADS: dict[str, Mapping[str, object]] = {
    "session": {
        "session.state": session_pb2.SESSION_STATE_CONNECTED,
        "session.detail": None,
        "session.recent_failures": None,
        "previous_state": session_pb2.SESSION_STATE_CONNECTING,
    },
    "pairing": {"step.code": {"code": "ABCD1234"}},
    "message_status": {"member": None},
    "message_changed": _INBOUND,
    "message_overdue": {"message.sender": None, "message.from_account": True},
    "poll": {"poll.sender": None, "poll.from_account": True},
    "chat": {"chat.mute_until": None},
    "label_assignment": {"labelled": True},
    "presence": {"presence.typing": None, "presence.chat": None, "presence.last_seen_time": None},
    "group_members": {"reason": None},
    "community_groups": {"unlinked": None},
    "channel_post": {"post.ref.chat": _TEXTS["channel"], "post.ref.sender": None},
    "call": {"group": None, "end_cause": None},
    "template": {
        "template.status": template_pb2.TEMPLATE_STATUS_APPROVED,
        "template.header": None,
        "template.cards": None,
        "template.limited_time_offer": None,
        "template.authentication": None,
    },
    "job": {
        "job.kind": job_pb2.JOB_KIND_REPLAY_EVENTS,
        "job.state": job_pb2.JOB_STATE_RUNNING,
        "job.account_id": None,
        "job.failed": None,
        "job.total": None,
        "job.total_bytes": None,
        "job.done_bytes": None,
    },
}
_OF_TYPES: dict[str, Mapping[str, object]] = {
    "account.deleted": {"account.delete_time": _TIME, "account.purge_time": _TIME},
    "session.restrictions_changed": {
        "previous_state": None,
        "session.restrictions": [
            {"kind": 1, "detail": "You may not write to new people", "until_time": _TIME}
        ],
    },
    "message.received": _INBOUND,
    "message.synced": {
        "message.origin": message_pb2.MESSAGE_ORIGIN_OTHER_DEVICE,
        "message.status": message_pb2.MESSAGE_STATUS_SENT,
        "message.external_id": None,
    },
    **{
        event_type: {
            "status": message_pb2.MessageStatus.Value(
                f"MESSAGE_STATUS_{event_type.removeprefix('message.').upper()}"
            )
        }
        for event_type in PAYLOADS["message_status"]
    },
    "message.edited": {"message.edit_time": _TIME},
    "message.revoked": {"message.content.revoked": {}},
    "media.ready": {"media.state": content_pb2.MEDIA_STATE_READY},
    "media.failed": {
        "media.state": content_pb2.MEDIA_STATE_FAILED,
        "media.failure": media_pb2.MEDIA_FAILURE_GONE,
    },
    "group.joined": {"changed_fields": None},
    "community.deactivated": {"community.own_role": None},
    "channel.deleted": {"channel.state": channel_pb2.CHANNEL_STATE_DELETED},
    "call.ended": {"end_time": _TIME, "end_cause": call_pb2.CALL_END_CAUSE_MISSED},
}
