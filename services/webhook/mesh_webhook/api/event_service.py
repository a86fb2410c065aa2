"""EventService: the events of the caller's tenant, in pages and as streams, and named subscriptions."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from asyncpg.pgproto.pgproto import UUID

from mesh_core import ids, validation
from mesh_core.at_once import AtOnce
from mesh_core.database.requests import request_digest
from mesh_core.errors import InvalidField, NotFound, PermissionDenied
from mesh_core.events import Cursor, EventReader
from mesh_core.ids import Prefix
from mesh_core.metrics import gauge
from mesh_core.paging import DEFAULT_SIZE, MAX_BYTES, MAX_SIZE, Pager
from mesh_core.rpc.auth import current_identity
from mesh_core.rpc.server import Draining
from mesh_core.rpc.server.parsing import parsed
from mesh_webhook.events import filters
from mesh_webhook.events.filters import EventFilter
from mesh_webhook.events.rendering import matching_event
from mesh_webhook.events.stream import EventStream
from mesh_webhook.events.tail import Tail
from mesh_webhook.subscriptions.consumer_stream import ConsumerStream
from mesh_webhook.subscriptions.consumers import Consumers
from mesh_webhook.subscriptions.subscription import NewSubscription, Subscription, check_name
from mesh_webhook.subscriptions.subscription_store import SubscriptionStore
from sessionmesh.v1 import event_pb2 as pb
from sessionmesh.v1 import event_pb2_grpc

STREAMS = gauge("mesh_event_streams", "Open Subscribe calls.", answers="How many readers follow events?")
STREAMS.set(0)

MAX_STREAMS = 500
"""How many Subscribe calls of a tenant a process serves at a time: each costs something at each event."""

RETRY_SECONDS = 5.0
"""When one over that may be tried again."""


class EventService(event_pb2_grpc.EventServiceServicer):
    """The server sets the caller's identity and maps exceptions to statuses.

    A key that is limited to accounts gets only their events, and no named subscription.
    """

    def __init__(
        self,
        reader: EventReader,
        tail: Tail,
        draining: Draining,
        pager: Pager,
        subscriptions: SubscriptionStore,
        consumers: Consumers,
    ) -> None:
        self._pager = pager
        self._reader = reader
        self._tail = tail
        self._draining = draining
        self._subscriptions = subscriptions
        self._consumers = consumers
        STREAMS.set(0)
        self._open = AtOnce(MAX_STREAMS, "event streams", "event_streams", RETRY_SECONDS)

    async def Subscribe(
        self, request: pb.SubscribeRequest, _context: Any
    ) -> AsyncGenerator[pb.SubscribeResponse, None]:
        tenant = UUID(current_identity().tenant_for(request.tenant_id).bytes)
        wanted = _filter(request)
        with self._open.one(tenant), STREAMS.track_inprogress():
            stream: EventStream | ConsumerStream
            if request.WhichOneof("start") == "subscription":
                stream = await self._consumer(request, tenant)
            else:
                start = await self._start(request, tenant)
                stream = EventStream(self._reader, self._tail, self._draining, tenant, wanted, start)
            async with aclosing(stream.frames()) as frames:
                async for frame in frames:
                    yield frame

    async def list_events(self, raw: bytes, _context: Any) -> bytes:
        """ListEvents, from bytes to bytes."""
        request = parsed(pb.ListEventsRequest.FromString, raw)
        tenant = UUID(current_identity().tenant_for(request.tenant_id).bytes)
        wanted = _filter(request)
        if not 0 <= request.page_size <= MAX_SIZE:
            raise InvalidField("page_size", f"must be between 0 (for {DEFAULT_SIZE}) and {MAX_SIZE}")
        size = request.page_size or DEFAULT_SIZE
        if request.cursor:
            cursor = await self._check_cursor(request.cursor, tenant)
        else:
            cursor = await self._reader.oldest(tenant)
        events: list[bytes] = []
        used_bytes = 0
        async with self._pager.working(tenant) as slices:
            for _ in range(_MAX_READS):
                page = await self._reader.read(cursor, _READ_EVENTS, tenant=tenant)
                async for stored in slices.each(tenant, page.events):
                    event = matching_event(stored, wanted)
                    if event is None:
                        continue
                    used_bytes += event.ByteSize()
                    if events and (len(events) == size or used_bytes > MAX_BYTES):
                        return _listed(events, cursor, more=True)
                    events.append(pb.ListEventsResponse(events=[event]).SerializeToString())
                    cursor = stored.cursor
                cursor = page.cursor
                if page.complete:
                    break
        return _listed(events, cursor, more=not page.complete)

    async def CreateSubscription(
        self, request: pb.CreateSubscriptionRequest, _context: Any
    ) -> pb.CreateSubscriptionResponse:
        tenant = UUID(current_identity().tenant_for(request.tenant_id).bytes)
        request_id = validation.request_id(request.request_id)
        new = NewSubscription.of(request.subscription)
        if request.HasField("start_time"):
            if request.from_oldest:
                raise InvalidField("start_time", "is a place of its own: leave out from_oldest")
            start = await self._reader.since(validation.timestamp("start_time", request.start_time), tenant)
        elif request.from_oldest:
            start = await self._reader.oldest(tenant)
        else:
            start = await self._reader.latest()
        digest = request_digest(request)
        made = await self._subscriptions.create(tenant, new, start, request_id, digest)
        return pb.CreateSubscriptionResponse(subscription=await self._shown(made))

    async def GetSubscription(
        self, request: pb.GetSubscriptionRequest, _context: Any
    ) -> pb.GetSubscriptionResponse:
        tenant = UUID(current_identity().tenant_for(request.tenant_id).bytes)
        found = await self._subscriptions.get(tenant, check_name("name", request.name))
        return pb.GetSubscriptionResponse(subscription=await self._shown(found))

    async def ListSubscriptions(
        self, request: pb.ListSubscriptionsRequest, _context: Any
    ) -> pb.ListSubscriptionsResponse:
        tenant = UUID(current_identity().tenant_for(request.tenant_id).bytes)
        page = self._pager.page(request, tenant.bytes)
        found = await self._subscriptions.page(tenant, (page.after or b"").decode(), page.fetch)
        lags = await self._subscriptions.lags(tenant, found)
        rows, token = page.cut(
            zip(found, lags, strict=True),
            lambda row: row[0].to_proto(row[1]),
            lambda row: row[0].name.encode(),
        )
        return pb.ListSubscriptionsResponse(subscriptions=rows, next_page_token=token)

    async def DeleteSubscription(
        self, request: pb.DeleteSubscriptionRequest, _context: Any
    ) -> pb.DeleteSubscriptionResponse:
        tenant = UUID(current_identity().tenant_for(request.tenant_id).bytes)
        await self._subscriptions.delete(tenant, check_name("name", request.name))
        return pb.DeleteSubscriptionResponse()

    async def AcknowledgeEvents(
        self, request: pb.AcknowledgeEventsRequest, _context: Any
    ) -> pb.AcknowledgeEventsResponse:
        tenant = UUID(current_identity().tenant_for(request.tenant_id).bytes)
        name, cursor = check_name("name", request.name), Cursor.decode(request.cursor)
        consumer = None
        if request.consumer_id:
            consumer = ids.decode(Prefix.CONSUMER, request.consumer_id, "consumer_id")
        found, done = await self._subscriptions.acknowledge(tenant, name, cursor, consumer)
        self._consumers.acknowledged(done)
        return pb.AcknowledgeEventsResponse(subscription=await self._shown(found))

    async def _shown(self, subscription: Subscription) -> pb.Subscription:
        [lag] = await self._subscriptions.lags(subscription.tenant, [subscription])
        return subscription.to_proto(lag)

    async def _consumer(self, request: pb.SubscribeRequest, tenant: UUID) -> ConsumerStream:
        if current_identity().account_ids is not None:
            raise PermissionDenied(
                "a key that is limited to accounts has no named subscriptions", "SCOPE_MISSING"
            )
        for name in ("event_types", "account_ids", "labels"):
            if getattr(request, name):
                raise InvalidField("subscription", f"has filters of its own: {name} must be empty")
        name = check_name("subscription", request.subscription)
        return ConsumerStream(
            self._reader,
            self._tail,
            self._draining,
            self._subscriptions,
            self._consumers,
            await self._subscriptions.get_to_consume(tenant, name),
        )

    async def _start(self, request: pb.SubscribeRequest, tenant: UUID) -> Cursor:
        match request.WhichOneof("start"):
            case "cursor":
                return await self._check_cursor(request.cursor, tenant)
            case "from_oldest" if request.from_oldest:
                return await self._reader.oldest(tenant)
            case _:
                return await self._reader.latest()

    async def _check_cursor(self, encoded: str, tenant: UUID) -> Cursor:
        cursor = Cursor.decode(encoded)
        await self._reader.check(cursor, tenant)
        return cursor


def _listed(events: list[bytes], cursor: Cursor, *, more: bool) -> bytes:
    """The answer of which `events` are pieces."""
    end = pb.ListEventsResponse(next_cursor=cursor.encode(), more=more)
    return b"".join(events) + end.SerializeToString()


def _filter(request: pb.SubscribeRequest | pb.ListEventsRequest) -> EventFilter:
    identity = current_identity()
    accounts = filters.check_accounts("account_ids", request.account_ids)
    for account_id in request.account_ids:
        if not identity.sees_account(account_id):
            raise NotFound("account", account_id)
    return EventFilter.of(
        filters.check_event_types("event_types", request.event_types),
        accounts or identity.account_uuids or (),
        validation.labels("labels", request.labels),
    )


_READ_EVENTS = 500
# Bounds the work of one call: a filter that few events match is answered with few events and `more`.
_MAX_READS = 20
