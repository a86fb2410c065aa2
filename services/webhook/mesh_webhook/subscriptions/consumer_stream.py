"""One Subscribe call of a named subscription: the events of its share of the accounts, while it acknowledges
them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Iterable
from contextlib import suppress

from mesh_core import ids
from mesh_core.errors import GoingAway
from mesh_core.events import Cursor, EventReader, StoredEvent
from mesh_core.ids import Prefix
from mesh_core.paging import MAX_BYTES
from mesh_core.rpc.server import Draining
from mesh_webhook.events import stream
from mesh_webhook.events.rendering import event_frames, matching_event
from mesh_webhook.events.tail import Follower, Tail
from mesh_webhook.subscriptions import consumers as limits
from mesh_webhook.subscriptions.consumers import Consumer, Consumers
from mesh_webhook.subscriptions.subscription import Subscription, lane_of
from mesh_webhook.subscriptions.subscription_store import SubscriptionStore
from sessionmesh.v1.event_pb2 import Event, Heartbeat, SubscribeResponse

LOOK_SECONDS = 0.5
"""How often a consumer that is waited for is looked at, for what it acknowledges to other servers."""


class ConsumerStream:
    """A consumer of a subscription; `frames` never ends by itself."""

    def __init__(
        self,
        reader: EventReader,
        tail: Tail,
        draining: Draining,
        store: SubscriptionStore,
        consumers: Consumers,
        subscription: Subscription,
    ) -> None:
        self._reader = reader
        self._tail = tail
        self._draining = draining
        self._store = store
        self._consumers = consumers
        self._subscription = subscription
        self._filter = subscription.filter()
        self._consumer = Consumer(subscription)
        self._framed_at = self._looked_at = 0.0

    async def frames(self) -> AsyncGenerator[SubscribeResponse, None]:
        """Frames in order; the first is a heartbeat with the consumer's id, and so is each that comes before
        events of other accounts.

        Raises `GoingAway` when the server drains or the consumer has ended, `NotFound` when the subscription
        was deleted, and `OutOfRange` when it has lost its place.
        """
        try:
            yield await self._join()
            while True:
                follower = await self._tail.attach(self._subscription.tenant)
                self._consumer.wake = follower.changed.set
                try:
                    async for frame in self._serve(follower):
                        self._framed_at = time.monotonic()
                        yield frame
                finally:
                    self._tail.detach(follower)
        finally:
            self._consumers.leave(self._consumer)

    async def _serve(self, follower: Follower) -> AsyncGenerator[SubscribeResponse, None]:
        """Ends when the follower has fallen behind, or the accounts are others: then events from before are
        read again.
        """
        consumer, position = self._consumer, self._tail.position
        while not follower.fell_behind:
            await self._check()
            follower.changed.clear()
            if consumer.unbalanced and not consumer.waiting:
                yield await self._join()
                return
            if consumer.unbalanced or len(consumer.waiting) + _PAGE_EVENTS > limits.MAX_UNACKNOWLEDGED:
                await self._changes(follower, LOOK_SECONDS)
                if time.monotonic() - self._looked_at >= LOOK_SECONDS:
                    self._looked_at = time.monotonic()
                    await self._consumers.look(consumer)
            elif consumer.lanes and consumer.read < position:
                page = await self._reader.read(consumer.read, _PAGE_EVENTS, tenant=self._subscription.tenant)
                await self._reader.check(consumer.read, self._subscription.tenant)
                async for frame in self._send(page.events, page.cursor):
                    yield frame
            elif follower.events:
                events = follower.take(_PAGE_EVENTS, MAX_BYTES)
                async for frame in self._send(events, events[-1].cursor):
                    yield frame
            else:
                # The tail hands over a whole page before it moves its position: with an empty buffer all up
                # to that position was seen.
                consumer.read = max(consumer.read, self._tail.position)
                await self._changes(follower, stream.HEARTBEAT_SECONDS)
            if time.monotonic() - self._framed_at >= stream.HEARTBEAT_SECONDS:
                yield self._heartbeat()

    async def _send(
        self, events: Iterable[StoredEvent], end: Cursor
    ) -> AsyncGenerator[SubscribeResponse, None]:
        """What of `events`, which end at `end`, is for this consumer. Each frame is noted before it goes out,
        so that none goes out of lanes that are somebody else's.
        """
        for frame in event_frames(self._wanted(events)):
            cursors = [Cursor.decode(event.cursor) for event in frame.events.events]
            if not await self._consumers.send(self._consumer, cursors):
                return
            yield frame
        self._consumer.read = max(self._consumer.read, end)

    def _wanted(self, events: Iterable[StoredEvent]) -> list[Event]:
        consumer = self._consumer
        wanted = []
        for stored in events:
            began = consumer.lanes.get(lane_of(stored.account))
            if began is None or stored.cursor <= max(began, consumer.read):
                continue
            event = matching_event(stored, self._filter)
            if event is not None:
                wanted.append(event)
        return wanted

    async def _join(self) -> SubscribeResponse:
        """Begins, or begins anew with other accounts."""
        consumer, tenant = self._consumer, self._subscription.tenant
        if not await self._consumers.join(consumer):
            await self._store.get_to_consume(tenant, self._subscription.name)
            raise GoingAway()
        await self._check()
        if consumer.lanes and consumer.read.generation < self._reader.generation:
            consumer.read = await self._reader.oldest(tenant)  # a restored database: places mean other events
        return self._heartbeat()

    async def _check(self) -> None:
        if self._draining.begun:
            raise GoingAway()
        if self._consumer.lost:
            await self._store.get_to_consume(self._subscription.tenant, self._subscription.name)
            raise GoingAway(message=self._consumer.lost)

    @staticmethod
    async def _changes(follower: Follower, seconds: float) -> None:
        """Waits for whatever there is to do, for so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await follower.changed.wait()

    def _heartbeat(self) -> SubscribeResponse:
        consumer = self._consumer
        assert consumer.id is not None  # noqa: S101 - it has joined
        name = ids.encode(Prefix.CONSUMER, consumer.id)
        return SubscribeResponse(heartbeat=Heartbeat(cursor=consumer.read.encode(), consumer_id=name))


_PAGE_EVENTS = 100
