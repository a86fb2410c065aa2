"""Events as callers see them: the stored event with its place in the order, and the JSON of it."""

from __future__ import annotations

from google.protobuf.json_format import MessageToJson

from mesh_core.events import StoredEvent
from mesh_core.validation import to_timestamp
from sessionmesh.v1.event_pb2 import Event


def complete(stored: StoredEvent) -> Event:
    """The event with `commit_time` and `cursor`."""
    event = Event.FromString(stored.body)
    event.commit_time.CopyFrom(to_timestamp(stored.commit_time))
    event.cursor = stored.cursor.encode()
    return event


def to_json(event: Event) -> bytes:
    """Its proto JSON on one line, field names as in the proto."""
    text = MessageToJson(event, preserving_proto_field_name=True, indent=None, ensure_ascii=False)
    return text.encode()
