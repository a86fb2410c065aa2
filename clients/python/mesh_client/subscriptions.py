"""Following a tenant's events."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from mesh_client.errors import InvalidArgument, MeshCallError
from mesh_client.resuming import resumed
from mesh_client.streams import Stream
from sessionmesh.v1 import event_pb2


@dataclass(frozen=True, slots=True)
class Batch:
    """Events in order, none after a heartbeat. `cursor` is the position after them; of a named subscription,
    after the last event.
    """

    events: tuple[event_pb2.Event, ...]
    cursor: str


class Subscription:
    """A tenant's events in their order, each once, for as long as they are iterated over.

    A broken connection is replaced by one that resumes at the same position. `cursor` is the position after
    the event that was returned last, and after those that the filter left out: store it once that event is
    handled, and pass it after a restart. Raises `CursorExpired` when events after it were dropped.

    Of a named subscription the mesh keeps the position: `acknowledge` what is handled. Other programs may
    share it, each with its accounts. What is not acknowledged comes again, so an event may come twice.
    """

    def __init__(self, events: Any, request: event_pb2.SubscribeRequest, silence: float) -> None:
        self.cursor = request.cursor
        self._events = events
        self._request = request
        self._silence = silence
        self._consumer = ""
        self._unacknowledged = ""
        """The consumer as which the last event was handed out, until it is acknowledged."""

    async def __aiter__(self) -> AsyncGenerator[event_pb2.Event, None]:
        async with aclosing(self._frames()) as frames:
            async for frame in frames:
                for event in frame.events.events:
                    self._hand_out(event)
                    yield event
                self._pass_heartbeat(frame)

    async def batches(self) -> AsyncGenerator[Batch, None]:
        """Events as they arrive together, to store the cursor once for all of them; empty for a heartbeat."""
        async with aclosing(self._frames()) as frames:
            async for frame in frames:
                events = tuple(frame.events.events)
                if events:
                    self._hand_out(events[-1])
                self._pass_heartbeat(frame)
                yield Batch(events, self.cursor)

    async def acknowledge(self) -> bool:
        """Every event that was handed out is done, the last one too; only of a named subscription.

        Returns False when they come again all the same, some of them to others: the stream that they came by
        has ended, or acknowledged nothing for too long.
        """
        if not self._request.subscription:
            raise InvalidArgument.of("subscription", "is needed: the cursor is yours to keep without one")
        done = self._unacknowledged, self.cursor
        if not self._unacknowledged:
            return True
        request = event_pb2.AcknowledgeEventsRequest(
            tenant_id=self._request.tenant_id,
            name=self._request.subscription,
            cursor=self.cursor,
            consumer_id=self._unacknowledged,
        )
        try:
            await self._events.AcknowledgeEvents(request)
        except MeshCallError as error:
            if error.reason != "CONSUMER_GONE":
                raise
            return False
        finally:
            if done == (self._unacknowledged, self.cursor):
                self._unacknowledged = ""
        return True

    def _hand_out(self, event: event_pb2.Event) -> None:
        self.cursor = event.cursor
        self._unacknowledged = self._consumer

    def _pass_heartbeat(self, frame: event_pb2.SubscribeResponse) -> None:
        if not frame.HasField("heartbeat"):
            return
        if self._request.subscription:
            self._consumer = frame.heartbeat.consumer_id
        else:
            self.cursor = frame.heartbeat.cursor

    def _frames(self) -> AsyncGenerator[event_pb2.SubscribeResponse, None]:
        return resumed(self._open, self._silence)

    def _open(self) -> Stream:
        request = event_pb2.SubscribeRequest()
        request.CopyFrom(self._request)
        if self.cursor and not request.subscription:
            request.cursor = self.cursor
        stream: Stream = self._events.Subscribe(request)
        return stream


def subscribe_request(
    *,
    cursor: str,
    subscription: str,
    from_oldest: bool,
    event_types: Iterable[str],
    account_ids: Iterable[str],
    labels: Mapping[str, str] | None,
    tenant_id: str,
) -> event_pb2.SubscribeRequest:
    """Raises `InvalidArgument`."""
    if cursor and from_oldest:
        raise InvalidArgument.of("cursor", "is a place of its own: leave out from_oldest")
    if subscription and (cursor or from_oldest or event_types or account_ids or labels):
        raise InvalidArgument.of("subscription", "has a place and filters of its own: leave out all others")
    if isinstance(event_types, str) or isinstance(account_ids, str):
        raise InvalidArgument.of("event_types", "and account_ids are lists")
    request = event_pb2.SubscribeRequest(
        tenant_id=tenant_id, event_types=event_types, account_ids=account_ids, labels=labels or {}
    )
    if cursor:
        request.cursor = cursor
    elif subscription:
        request.subscription = subscription
    elif from_oldest:
        request.from_oldest = True
    return request
