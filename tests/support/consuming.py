"""Streams of named subscriptions as clients have them, and events for them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc.aio
import pytest

from mesh_core import ids
from mesh_core.errors import MeshError
from mesh_core.ids import Prefix
from mesh_core.rpc.server.status import from_rpc_error
from mesh_webhook.subscriptions.subscription import lane_of
from sessionmesh.v1 import event_pb2 as pb
from tests.support.webhook_world import Client


class Stream:
    """A consumer, as a client has it: read all the time, and acknowledging what it got while it should."""

    def __init__(self, api: Client, name: str = "orders", *, acknowledging: bool = False) -> None:
        self.consumer_id = ""
        self.events: list[pb.Event] = []
        self.heartbeats = 0
        self.acknowledging = acknowledging
        self._api = api
        self._name = name
        self._taken = 0
        self._changed = asyncio.Event()
        self._call = api.stream(pb.SubscribeRequest(subscription=name))
        self._reading = asyncio.create_task(self._read(), name="read a stream")

    async def begun(self) -> Stream:
        """Itself, once it is a consumer."""
        await self._until(lambda: self.heartbeats > 0)
        return self

    async def take(self, count: int) -> list[int]:
        """The numbers of the next `count` events."""
        await self._until(lambda: len(self.events) >= self._taken + count)
        taken = self.events[self._taken : self._taken + count]
        self._taken += count
        return numbers(taken)

    async def stays_quiet(self) -> None:
        """Nothing but some heartbeats comes."""
        seen, events = self.heartbeats, len(self.events)
        await self._until(lambda: self.heartbeats > seen + 1)
        assert len(self.events) == events

    async def acknowledge(self, cursor: str = "", consumer_id: str | None = None) -> pb.Subscription:
        request = pb.AcknowledgeEventsRequest(
            name=self._name,
            cursor=cursor or self.events[-1].cursor,
            consumer_id=self.consumer_id if consumer_id is None else consumer_id,
        )
        answer = await self._api.call(self._api.events.AcknowledgeEvents, request)
        return answer.subscription  # type: ignore[no-any-return]  # of stubs

    async def ended(self) -> MeshError:
        """Why the stream ends."""
        async with asyncio.timeout(20):
            return await refused(asyncio.shield(self._reading))

    def close(self) -> None:
        self._call.cancel()
        self._reading.cancel()

    async def _until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                self._changed.clear()
                changed = asyncio.create_task(self._changed.wait(), name="wait for a stream")
                await asyncio.wait([changed, self._reading], return_when=asyncio.FIRST_COMPLETED)
                changed.cancel()
                if self._reading.done():
                    self._reading.result()

    async def _read(self) -> None:
        while True:
            frame = await self._call.read()
            assert isinstance(frame, pb.SubscribeResponse), "the stream has ended"
            if frame.HasField("heartbeat"):
                self.consumer_id = frame.heartbeat.consumer_id
                self.heartbeats += 1
            self.events += frame.events.events
            self._changed.set()
            if frame.events.events and self.acknowledging:
                await self.acknowledge()


def numbers(events: list[pb.Event]) -> list[int]:
    return [int(event.labels["n"]) for event in events]


def numbered(count: int, first: int = 0, account_id: str = "") -> list[pb.Event]:
    return [
        pb.Event(type="message.sent", account_id=account_id, labels={"n": str(first + number)})
        for number in range(count)
    ]


def creation(name: str = "orders", request_id: str = "", **fields: Any) -> pb.CreateSubscriptionRequest:
    return pb.CreateSubscriptionRequest(
        request_id=request_id or ids.new_uuid().hex, subscription=pb.Subscription(name=name, **fields)
    )


async def create(api: Client, name: str = "orders", **fields: Any) -> pb.Subscription:
    answer = await api.call(api.events.CreateSubscription, creation(name, **fields))
    return answer.subscription  # type: ignore[no-any-return]  # of stubs


async def refused(call: Awaitable[Any]) -> MeshError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return from_rpc_error(caught.value)


def accounts_of_lanes(*lanes: int) -> list[str]:
    """An account in each of these lanes."""
    found: dict[int, str] = {}
    while not found.keys() >= set(lanes):
        account = ids.new_uuid()
        found[lane_of(account)] = ids.encode(Prefix.ACCOUNT, account)
    return [found[lane] for lane in lanes]
