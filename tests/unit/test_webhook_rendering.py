"""The JSON of events: every field of every type, by the names of the protos, and nothing lost."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import ErrorInfo

from mesh_core import ids
from mesh_core.events import Cursor, StoredEvent
from mesh_webhook.events.rendering import MAX_SHOWN_BYTES, event_body, event_json, event_message
from sessionmesh.v1.event_pb2 import Event

PAYLOADS = [field.name for field in Event.DESCRIPTOR.oneofs_by_name["payload"].fields]
CONTENT_KINDS = [
    field.name for field in Event.DESCRIPTOR.file.pool.FindMessageTypeByName("sessionmesh.v1.Content").fields
]


@pytest.mark.parametrize("payload", PAYLOADS)
def test_an_event_of_each_type_comes_back_equal(payload: str) -> None:
    event = Event(id="evt_1", type="a.b", cursor="AQ-_", labels={"k": "ü\0"})
    fill(getattr(event, payload))
    assert event.WhichOneof("payload") == payload
    assert json_format.Parse(event_json(event), Event()) == event


@pytest.mark.parametrize("kind", CONTENT_KINDS)
def test_content_of_each_kind_comes_back_equal(kind: str) -> None:
    event = Event(type="message.received")
    fill(getattr(event.message.message.content, kind))
    assert event.message.message.content.WhichOneof("kind") == kind
    assert json_format.Parse(event_json(event), Event()) == event


@pytest.mark.parametrize("payload", PAYLOADS)
def test_names_are_those_of_the_protos(payload: str) -> None:
    event = Event(type="a.b")
    fill(getattr(event, payload))
    rendered = json.loads(event_json(event))
    assert set(rendered) == {"type", payload}
    assert set(rendered[payload]) <= {field.name for field in getattr(event, payload).DESCRIPTOR.fields}
    assert "commitTime" not in rendered


def test_absent_is_told_from_zero() -> None:
    event = Event(type="job.updated")
    event.job.job.total = 0
    assert json.loads(event_json(event))["job"]["job"] == {"total": "0"}
    event.job.job.ClearField("total")
    assert json.loads(event_json(event))["job"]["job"] == {}


def test_the_details_of_an_error_are_shown() -> None:
    event = Event(type="job.updated")
    event.job.job.error.message = "the node is gone"
    event.job.job.error.details.add().Pack(ErrorInfo(reason="RESOURCE_NOT_FOUND"))
    [detail] = json.loads(event_json(event))["job"]["job"]["error"]["details"]
    assert detail == {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "RESOURCE_NOT_FOUND"}


def test_the_json_is_one_line() -> None:
    assert b"\n" not in event_json(Event(type="a.b", labels={"k": "two\nlines"}))


def poisoned(path: str) -> bytes:
    """An event whose field at `path`, a time or a duration, is 30 million years from now."""
    event = Event(id="evt_1", type="message.received", labels={"k": "v"})
    inside: Any = event
    for name in path.split("."):
        inside = getattr(inside, name)
    inside.seconds = 10**15
    return event.SerializeToString()


def nested(depth: int) -> bytes:
    """An event whose unknown field 9999 has groups in groups."""
    return Event(type="a.b").SerializeToString() + b"\xfb\xf0\x04" * depth + b"\xfc\xf0\x04" * depth


FOREIGN = {
    "occur time": poisoned("occur_time"),
    "appointment": poisoned("message.message.content.appointment.start_time"),
    "expiry": poisoned("message.message.content.voice_note.duration"),
    "no proto": b"\xff\xff",
    "cut off": poisoned("occur_time")[:-1],
    "text that is not UTF-8": b"\x22\x01\xff",
    "lone surrogate": b"\x22\x03\xed\xa0\x80",
    "depth": nested(5000),
    "detail of an unknown type": b"\xea\x02\x12\x0a\x10\x4a\x0e\x1a\x0c\x0a\x0aexample/No",
    "large": b"\xff" * 1_000_000,
}


@pytest.mark.parametrize("name", FOREIGN)
def test_whatever_is_stored_has_a_body_with_its_id_type_and_times(name: str) -> None:
    event_id = ids.new_uuid()
    stored = StoredEvent(
        Cursor(1, 7, 1), event_id, ids.new_uuid(), ids.new_uuid(), "message.received", FOREIGN[name], NOW
    )
    shown = json.loads(event_body(stored, event_message(stored)))
    assert shown["commit_time"] == "2026-05-04T10:00:00Z"
    assert shown["cursor"] == stored.cursor.encode()
    if "unrenderable" in shown:
        assert (shown["id"], shown["type"]) == (ids.encode(ids.Prefix.EVENT, event_id), "message.received")
        assert base64.b64decode(shown["unrenderable"]["stored_event"]) == FOREIGN[name][:MAX_SHOWN_BYTES]
        assert int(shown["unrenderable"]["stored_bytes"]) == len(FOREIGN[name])
        assert shown["unrenderable"]["reason"]


def test_what_can_be_read_of_an_event_without_json_is_kept() -> None:
    body = poisoned("message.message.content.appointment.start_time")
    stored = StoredEvent(Cursor(1, 7, 1), ids.new_uuid(), ids.new_uuid(), ids.new_uuid(), "a.b", body, NOW)
    shown = json.loads(event_body(stored, event_message(stored)))
    assert shown["labels"] == {"k": "v"}
    assert "message" not in shown
    assert "start_time" in shown["unrenderable"]["reason"]


def test_a_subscriber_gets_an_event_that_has_no_json_as_it_is() -> None:
    body = poisoned("message.message.content.appointment.start_time")
    stored = StoredEvent(Cursor(1, 7, 1), ids.new_uuid(), ids.new_uuid(), ids.new_uuid(), "a.b", body, NOW)
    assert event_message(stored).message.message.content.appointment.start_time.seconds == 10**15


def fill(message: Message, depth: int = 0) -> None:
    """Sets every field, of each oneof the first, to something that is not its default."""
    if message.DESCRIPTOR.full_name in ("google.protobuf.Timestamp", "google.protobuf.Duration"):
        message.seconds = 1_700_000_000  # type: ignore[attr-defined]  # both have it
        return
    message.SetInParent()
    for field in wanted(message):
        if field.message_type is not None and depth >= MAX_DEPTH:
            continue
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            getattr(message, field.name)["key"] = "value"
        elif field.message_type is not None:
            inside = getattr(message, field.name)
            fill(inside.add() if field.is_repeated else inside, depth + 1)
        elif field.is_repeated:
            getattr(message, field.name).append(value(field))
        else:
            setattr(message, field.name, value(field))


def wanted(message: Message) -> Iterator[Any]:
    """The fields to set; details of errors are of any type, and have a test of their own."""
    for field in message.DESCRIPTOR.fields:
        group = field.containing_oneof
        if (group is None or group.fields[0] is field) and field.full_name != "google.rpc.Status.details":
            yield field


def value(field: Any) -> object:
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING:
            return b"\x00\xff" if field.type == FieldDescriptor.TYPE_BYTES else "text ü \0"
        case FieldDescriptor.CPPTYPE_BOOL:
            return True
        case FieldDescriptor.CPPTYPE_ENUM:
            return field.enum_type.values[-1].number
        case FieldDescriptor.CPPTYPE_DOUBLE | FieldDescriptor.CPPTYPE_FLOAT:
            return 0.5
        case _:
            return 7


MAX_DEPTH = 5
NOW = datetime(2026, 5, 4, 10, tzinfo=UTC)
