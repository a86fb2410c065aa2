"""Stored events as callers see them: as protos, as webhook JSON, and as the frames of a stream.

Nothing here raises for what an event contains: one event must not stop those behind it, which are other
tenants' too. What cannot be shown goes out as `unrenderable`, and is counted and logged.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import structlog
from google.protobuf.json_format import MessageToJson
from google.protobuf.timestamp_pb2 import Timestamp

from mesh_core import ids, validation
from mesh_core.errors import InvalidField
from mesh_core.events import Cursor, StoredEvent
from mesh_core.ids import Prefix
from mesh_core.metrics import counters
from mesh_core.paging import MAX_BYTES
from mesh_core.validation import to_timestamp
from mesh_webhook.events.filters import EventFilter
from sessionmesh.v1.event_pb2 import Event, EventBatch, Heartbeat, SubscribeResponse, UnrenderableEvent

logger = structlog.get_logger(__name__)

MAX_FRAME_EVENTS = 100
MAX_SHOWN_BYTES = 64 * 1024
"""How much of an event that cannot be shown goes out as it is stored."""

UNRENDERABLE = counters(
    "mesh_webhook_unrenderable_events_total",
    "Events that went out without their payload.",
    answers="Can everything be shown that is stored?",
    form=["json", "proto"],
)


def event_message(stored: StoredEvent) -> Event:
    """The event with `commit_time` and `cursor`, which are columns and not part of the stored bytes.

    Bytes that are no event make an `unrenderable` one of the columns.
    """
    try:
        event = Event.FromString(stored.body)
    except Exception as error:  # the bytes are foreign, and what decoders raise is not said
        return _unrenderable(stored, Event(), error, "proto")
    event.commit_time.CopyFrom(to_timestamp(stored.commit_time))
    event.cursor = stored.cursor.encode()
    return event


def event_body(stored: StoredEvent, event: Event) -> bytes:
    """The body of the webhook of `event`, the message of `stored`; `unrenderable` where it has no JSON."""
    try:
        return event_json(event)
    except Exception as error:  # times out of range, depth: each raises something of its own
        return event_json(_unrenderable(stored, event, error, "json"))


def event_json(event: Event) -> bytes:
    """The event as proto JSON on one line, with field names as in the proto; raises where it has no JSON."""
    text = MessageToJson(event, preserving_proto_field_name=True, indent=None, ensure_ascii=False)
    return text.encode()


def matching_event(stored: StoredEvent, wanted: EventFilter) -> Event | None:
    """The event as a message, if it passes the filter."""
    if not wanted.matches(stored.type, stored.account):
        return None
    event = event_message(stored)
    return event if wanted.matches_labels(event.labels) else None


def matching_events(stored: Iterable[StoredEvent], wanted: EventFilter) -> list[Event]:
    """The events that pass the filter, as messages, in the same order."""
    candidates = (matching_event(event, wanted) for event in stored)
    return [event for event in candidates if event is not None]


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


def _unrenderable(stored: StoredEvent, event: Event, error: Exception, form: str) -> Event:
    """The columns of `stored`, what is sound of `event`'s envelope, and the reason."""
    UNRENDERABLE.labels(form).inc()
    reason = f"{type(error).__name__}: {error}"[:_MAX_REASON]
    event_id = ids.encode(Prefix.EVENT, stored.id)
    logger.error(
        "an event cannot be shown, its payload is left out", id=event_id, type=stored.type, error=reason
    )
    return Event(
        id=event_id,
        tenant_id=ids.encode(Prefix.TENANT, stored.tenant),
        account_id=ids.encode(Prefix.ACCOUNT, stored.account) if stored.account.int else "",
        type=stored.type,
        occur_time=_sound_time(event),
        commit_time=to_timestamp(stored.commit_time),
        cursor=stored.cursor.encode(),
        traceparent=event.traceparent,
        labels=event.labels,
        unrenderable=UnrenderableEvent(
            reason=reason, stored_event=stored.body[:MAX_SHOWN_BYTES], stored_bytes=len(stored.body)
        ),
    )


def _sound_time(event: Event) -> Timestamp | None:
    """When it happened, if that is a time that JSON can say."""
    if not event.HasField("occur_time"):
        return None
    try:
        validation.timestamp("occur_time", event.occur_time)
    except InvalidField:
        return None
    return event.occur_time


_MAX_REASON = 300
