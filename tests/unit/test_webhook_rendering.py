"""The JSON of events: every field of every type, by the names of the protos, and nothing lost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import ErrorInfo

from mesh_webhook.events.rendering import event_json
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
