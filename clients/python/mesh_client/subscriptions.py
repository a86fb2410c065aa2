"""Following a tenant's events."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from mesh_client.errors import InvalidArgument
from mesh_client.outgoing import check_account_id
from mesh_client.resuming import resumed
from mesh_client.streams import Stream
from sessionmesh.v1 import event_pb2


@dataclass(frozen=True, slots=True)
class Batch:
    """Some events, in order; none when all was quiet. `cursor` is the place behind them."""

    events: tuple[event_pb2.Event, ...]
    cursor: bytes


class Subscription:
    """A tenant's events in their order, each once, for as long as they are iterated over.

    Connections that break, and servers that go away, are followed by others that begin where they were.
    `cursor` is the place behind the event handed out last (and behind what was not for us): store it once
    that event is done with, and begin there after a restart. Raises `CursorExpired` when that is no longer
    kept.
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
                self._pass(frame)

    async def batches(self) -> AsyncGenerator[Batch, None]:
        """Events as they arrive together, to store the cursor once for all; empty ones while quiet."""
        async with aclosing(self._frames()) as frames:
            async for frame in frames:
                events = tuple(frame.events.events)
                if events:
                    self.cursor = events[-1].cursor
                self._pass(frame)
                yield Batch(events, self.cursor)

    def _pass(self, frame: event_pb2.SubscribeResponse) -> None:
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
    cursor: bytes,
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
    accounts = list(account_ids)
    for account in accounts:
        check_account_id(account, "account_ids")
    request = event_pb2.SubscribeRequest(
        tenant_id=tenant_id, event_types=event_types, account_ids=accounts, labels=labels or {}
    )
    if cursor:
        request.cursor = cursor
    elif from_oldest:
        request.from_oldest = True
    return request
