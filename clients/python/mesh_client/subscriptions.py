"""Following a tenant's events."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from mesh_client.errors import InvalidArgument
from mesh_client.resuming import resumed
from mesh_client.streams import Stream
from sessionmesh.v1 import event_pb2


@dataclass(frozen=True, slots=True)
class Batch:
    """Events in order, none after a heartbeat. `cursor` is the position after them."""

    events: tuple[event_pb2.Event, ...]
    cursor: str


class Subscription:
    """A tenant's events in their order, each once, for as long as they are iterated over.

    A broken connection is replaced by one that resumes at the same position. `cursor` is the position after
    the event that was returned last, and after those that the filter left out: store it once that event is
    handled, and pass it after a restart. Raises `CursorExpired` when events after it were dropped.
    """

    def __init__(self, events: Any, request: event_pb2.SubscribeRequest, silence: float) -> None:
        self.cursor = request.cursor
        self._events = events
        self._request = request
        self._silence = silence

    async def __aiter__(self) -> AsyncGenerator[event_pb2.Event, None]:
        async with aclosing(self._frames()) as frames:
            async for frame in frames:
                for event in frame.events.events:
                    self.cursor = event.cursor
                    yield event
                self._pass_heartbeat(frame)

    async def batches(self) -> AsyncGenerator[Batch, None]:
        """Events as they arrive together, to store the cursor once for all of them; empty for a heartbeat."""
        async with aclosing(self._frames()) as frames:
            async for frame in frames:
                events = tuple(frame.events.events)
                if events:
                    self.cursor = events[-1].cursor
                self._pass_heartbeat(frame)
                yield Batch(events, self.cursor)

    def _pass_heartbeat(self, frame: event_pb2.SubscribeResponse) -> None:
        if frame.HasField("heartbeat"):
            self.cursor = frame.heartbeat.cursor

    def _frames(self) -> AsyncGenerator[event_pb2.SubscribeResponse, None]:
        return resumed(self._open, self._silence)

    def _open(self) -> Stream:
        request = event_pb2.SubscribeRequest()
        request.CopyFrom(self._request)
        if self.cursor:
            request.cursor = self.cursor
        stream: Stream = self._events.Subscribe(request)
        return stream


def subscribe_request(
    *,
    cursor: str,
    from_oldest: bool,
    event_types: Iterable[str],
    account_ids: Iterable[str],
    labels: Mapping[str, str] | None,
    tenant_id: str,
) -> event_pb2.SubscribeRequest:
    """Raises `InvalidArgument`."""
    if cursor and from_oldest:
        raise InvalidArgument.of("cursor", "is a place of its own: leave out from_oldest")
    if isinstance(event_types, str) or isinstance(account_ids, str):
        raise InvalidArgument.of("event_types", "and account_ids are lists")
    request = event_pb2.SubscribeRequest(
        tenant_id=tenant_id, event_types=event_types, account_ids=account_ids, labels=labels or {}
    )
    if cursor:
        request.cursor = cursor
    elif from_oldest:
        request.from_oldest = True
    return request
