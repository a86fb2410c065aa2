"""EventService: the events of the caller's tenant, in pages and as streams."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from asyncpg.pgproto.pgproto import UUID
from prometheus_client import Gauge

from mesh_core import validation
from mesh_core.at_once import AtOnce
from mesh_core.errors import InvalidField, NotFound, Unimplemented
from mesh_core.events import Cursor, EventReader
from mesh_core.paging import DEFAULT_SIZE, MAX_BYTES, MAX_SIZE, Pager
from mesh_core.rpc.auth import current_identity
from mesh_core.rpc.server import Draining
from mesh_core.rpc.server.parsing import parsed
from mesh_webhook.events import filters
from mesh_webhook.events.filters import EventFilter
from mesh_webhook.events.rendering import matching_event
from mesh_webhook.events.stream import EventStream
from mesh_webhook.events.tail import Tail
from sessionmesh.v1 import event_pb2 as pb
from sessionmesh.v1 import event_pb2_grpc

STREAMS = Gauge("mesh_event_streams", "Open Subscribe calls")

MAX_STREAMS = 500
"""How many Subscribe calls of a tenant a process serves at a time: each costs something at each event."""

RETRY_SECONDS = 5.0
"""When one over that may be tried again."""


class EventService(event_pb2_grpc.EventServiceServicer):
    """The server sets the caller's identity and maps exceptions to statuses.

    Named subscriptions are not served. A key that is limited to accounts gets only their events.
    """

    def __init__(self, reader: EventReader, tail: Tail, draining: Draining, pager: Pager) -> None:
        self._pager = pager
        self._reader = reader
        self._tail = tail
        self._draining = draining
        self._open = AtOnce(MAX_STREAMS, "event streams", "event_streams", RETRY_SECONDS)

    async def Subscribe(
        self, request: pb.SubscribeRequest, _context: Any
    ) -> AsyncGenerator[pb.SubscribeResponse, None]:
        tenant = UUID(current_identity().tenant_for(request.tenant_id).bytes)
        wanted = _filter(request)
        with self._open.one(tenant), STREAMS.track_inprogress():
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

    async def _start(self, request: pb.SubscribeRequest, tenant: UUID) -> Cursor:
        match request.WhichOneof("start"):
            case "cursor":
                return await self._check_cursor(request.cursor, tenant)
            case "from_oldest" if request.from_oldest:
                return await self._reader.oldest(tenant)
            case "subscription":
                raise Unimplemented("subscription: is not served by this version", "NOT_SERVED")
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
