"""Stored events as callers see them: as protos, as webhook JSON, and as the frames of a stream."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from google.protobuf.json_format import MessageToJson

from mesh_core.events import Cursor, StoredEvent
from mesh_core.paging import MAX_BYTES
from mesh_core.validation import to_timestamp
from mesh_webhook.events.filters import EventFilter
from sessionmesh.v1.event_pb2 import Event, EventBatch, Heartbeat, SubscribeResponse

MAX_FRAME_EVENTS = 100


def event_message(stored: StoredEvent) -> Event:
    """The event with `commit_time` and `cursor`, which are columns and not part of the stored bytes."""
    event = Event.FromString(stored.body)
    event.commit_time.CopyFrom(to_timestamp(stored.commit_time))
    event.cursor = stored.cursor.encode()
    return event


def event_json(event: Event) -> bytes:
    """The event as proto JSON on one line, with field names as in the proto."""
    text = MessageToJson(event, preserving_proto_field_name=True, indent=None, ensure_ascii=False)
    return text.encode()


def matching_events(stored: Iterable[StoredEvent], wanted: EventFilter) -> list[Event]:
    """The events that pass the filter, as messages, in the same order."""
    candidates = (event_message(event) for event in stored if wanted.matches(event.type, event.account))
    return [event for event in candidates if wanted.matches_labels(event.labels)]


def event_frames(events: Iterable[Event]) -> Iterator[SubscribeResponse]:
    """Frames of at most `MAX_FRAME_EVENTS` events and `MAX_BYTES`; an event that is larger travels alone."""
    frame: list[Event] = []
    used_bytes = 0
    for event in events:
        size = event.ByteSize()
        if frame and (len(frame) == MAX_FRAME_EVENTS or used_bytes + size > MAX_BYTES):
            yield SubscribeResponse(events=EventBatch(events=frame))
            frame, used_bytes = [], 0
        frame.append(event)
        used_bytes += size
    if frame:
        yield SubscribeResponse(events=EventBatch(events=frame))


def heartbeat_frame(cursor: Cursor) -> SubscribeResponse:
    """A frame without events: the stream has handled everything up to `cursor`."""
    return SubscribeResponse(heartbeat=Heartbeat(cursor=cursor.encode()))
