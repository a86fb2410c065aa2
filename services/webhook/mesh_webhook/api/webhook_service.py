"""WebhookService: endpoints and their deliveries, for the tenant of the caller's key."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from asyncpg import Record
from asyncpg.pgproto.pgproto import UUID

from mesh_core import ids, validation
from mesh_core.database.requests import request_digest
from mesh_core.errors import InvalidField
from mesh_core.ids import Prefix
from mesh_core.jobs import job_message
from mesh_core.paging import Pager, listing
from mesh_core.rpc.auth import current_identity
from mesh_core.rpc.server.parsing import parsed
from mesh_core.telemetry.tracing import current_traceparent
from mesh_core.validation import to_duration, to_timestamp
from mesh_webhook.api.trials import Trials
from mesh_webhook.deliveries.delivery_store import (
    DeliveryQuery,
    DeliveryStore,
    attempt_message,
    delivery_message,
)
from mesh_webhook.deliveries.http_sender import HttpSender, OutgoingRequest
from mesh_webhook.deliveries.replays import Replays, Wanted
from mesh_webhook.endpoints import signature
from mesh_webhook.endpoints.endpoint import Endpoint
from mesh_webhook.endpoints.endpoint_store import EndpointStore
from mesh_webhook.endpoints.secrets import EndpointSecrets
from mesh_webhook.endpoints.validation import FIELDS, EndpointValidator
from mesh_webhook.events import filters
from mesh_webhook.events.rendering import event_json
from mesh_webhook.events.samples import sample
from sessionmesh.v1 import webhook_pb2 as pb
from sessionmesh.v1 import webhook_pb2_grpc


class WebhookService(webhook_pb2_grpc.WebhookServiceServicer):
    """The server sets the caller's identity and maps exceptions to statuses."""

    def __init__(
        self,
        endpoints: EndpointStore,
        deliveries: DeliveryStore,
        validator: EndpointValidator,
        secrets: EndpointSecrets,
        sender: HttpSender,
        pager: Pager,
        replays: Replays,
    ) -> None:
        self._endpoints = endpoints
        self._replays = replays
        self._deliveries = deliveries
        self._validator = validator
        self._secrets = secrets
        self._sender = sender
        self._pager = pager
        self._trials = Trials()

    async def CreateEndpoint(
        self, request: pb.CreateEndpointRequest, _context: Any
    ) -> pb.CreateEndpointResponse:
        tenant = UUID(current_identity().tenant_for(request.tenant_id).bytes)
        request_id = validation.request_id(request.request_id)
        if request.secret:
            signature.secret_key(request.secret)
        columns = await self._validator.columns(request.endpoint, frozenset(FIELDS))
        await self._endpoints.check_tenant(tenant)
        endpoint_id = ids.new_uuid()
        await self._seal_headers(columns, tenant, endpoint_id)
        sealed = await self._secrets.seal_secret(
            tenant, endpoint_id, request.secret or signature.new_secret()
        )
        endpoint = await self._endpoints.create(
            endpoint_id, tenant, columns, sealed, request_id, request_digest(request)
        )
        return pb.CreateEndpointResponse(
            endpoint=endpoint.to_proto(), secret=await self._secrets.secret(endpoint)
        )

    async def GetEndpoint(self, request: pb.GetEndpointRequest, _context: Any) -> pb.GetEndpointResponse:
        endpoint = await self._endpoints.get(_endpoint_id(request.endpoint_id), current_identity().tenant_id)
        return pb.GetEndpointResponse(endpoint=endpoint.to_proto())

    async def list_endpoints(self, raw: bytes, _context: Any) -> bytes:
        """ListEndpoints, from bytes to bytes."""
        request = parsed(pb.ListEndpointsRequest.FromString, raw)
        tenant = current_identity().tenant_for(request.tenant_id)
        page = self._pager.page(request, tenant.bytes)
        return await self._pager.answer(
            page,
            UUID(tenant.bytes),
            partial(self._endpoints.page, tenant),
            Endpoint.to_proto,
            pb.ListEndpointsResponse,
            lambda endpoint: endpoint.id.bytes,
        )

    async def UpdateEndpoint(
        self, request: pb.UpdateEndpointRequest, _context: Any
    ) -> pb.UpdateEndpointResponse:
        endpoint_id, tenant = _endpoint_id(request.endpoint_id), current_identity().tenant_id
        paths = validation.field_mask(request.update_mask, FIELDS)
        if list(request.update_mask.paths) == ["*"] and not request.endpoint.headers:
            paths -= {"headers"}  # nobody can send back what is never shown
        if "state" in paths and not request.endpoint.state:
            raise InvalidField("endpoint.state", "must be one of ACTIVE, PAUSED")
        before = await self._endpoints.get(endpoint_id, tenant)
        columns = await self._validator.columns(request.endpoint, paths)
        await self._seal_headers(columns, before.tenant, endpoint_id)
        endpoint = await self._endpoints.update(endpoint_id, tenant, columns, request.endpoint.etag)
        return pb.UpdateEndpointResponse(endpoint=endpoint.to_proto())

    async def DeleteEndpoint(
        self, request: pb.DeleteEndpointRequest, _context: Any
    ) -> pb.DeleteEndpointResponse:
        tenant = current_identity().tenant_id
        await self._endpoints.delete(_endpoint_id(request.endpoint_id), tenant, request.etag)
        return pb.DeleteEndpointResponse()

    async def RotateSecret(self, request: pb.RotateSecretRequest, _context: Any) -> pb.RotateSecretResponse:
        endpoint_id, tenant = _endpoint_id(request.endpoint_id), current_identity().tenant_id
        request_id = validation.request_id(request.request_id)
        overlap = _DEFAULT_OVERLAP
        if request.HasField("overlap"):
            overlap = validation.duration("overlap", request.overlap, least=timedelta(), most=_MAX_DURATION)
        before = await self._endpoints.get(endpoint_id, tenant)
        sealed = await self._secrets.seal_secret(before.tenant, endpoint_id, signature.new_secret())
        after = await self._endpoints.rotate(
            endpoint_id, tenant, sealed, overlap, request_id, request_digest(request)
        )
        return pb.RotateSecretResponse(secret=await self._secrets.secret(after))

    async def TestEndpoint(self, request: pb.TestEndpointRequest, _context: Any) -> pb.TestEndpointResponse:
        endpoint_id = _endpoint_id(request.endpoint_id)
        filters.check_event_type("event_type", request.event_type)
        endpoint = await self._endpoints.get(endpoint_id, current_identity().tenant_id)
        opened = await self._secrets.opened(endpoint)
        event = sample(request.event_type or _TEST_EVENT)
        event.id = ids.new_id(Prefix.EVENT)
        event.tenant_id = ids.encode(Prefix.TENANT, endpoint.tenant)
        event.traceparent = current_traceparent()
        for moment in (event.occur_time, event.commit_time):
            moment.GetCurrentTime()
        outgoing = OutgoingRequest(
            endpoint.url,
            opened.headers,
            ids.new_id(Prefix.DELIVERY),
            event_json(event),
            opened.keys,
            event.traceparent,
            {"webhook-test": "true"},
        )
        with self._trials.one(endpoint.tenant, endpoint.id):
            result = await self._sender.send(outgoing)
        attempt = pb.Attempt(
            id=ids.new_id(Prefix.ATTEMPT),
            number=1,
            start_time=to_timestamp(result.start_time),
            duration=to_duration(timedelta(seconds=result.seconds)),
            http_status=result.status,
            error=result.error,
            response_body=result.body,
        )
        return pb.TestEndpointResponse(attempt=attempt)

    async def list_deliveries(self, raw: bytes, _context: Any) -> bytes:
        """ListDeliveries, from bytes to bytes."""
        request = parsed(pb.ListDeliveriesRequest.FromString, raw)
        tenant = current_identity().tenant_for(request.tenant_id)
        state = validation.choice("state", request.state, pb.DeliveryState.values(), "the delivery states")
        query = DeliveryQuery(
            UUID(tenant.bytes),
            _endpoint_id(request.endpoint_id) if request.endpoint_id else None,
            ids.decode(Prefix.EVENT, request.event_id, "event_id") if request.event_id else None,
            state,
        )
        page = self._pager.page(request, tenant.bytes)
        further: UUID | None = None

        async def read(before: UUID | None, limit: int) -> list[Record]:
            nonlocal further
            rows, further = await self._deliveries.page(query, before, limit)
            return rows

        rows, next_page = await self._pager.rows(page, query.tenant, read, delivery_message)
        if not next_page and further is not None:
            next_page = self._pager.token(further.bytes, listing(request, tenant.bytes))
        return rows + pb.ListDeliveriesResponse(next_page_token=next_page).SerializeToString()

    async def list_attempts(self, raw: bytes, _context: Any) -> bytes:
        """ListAttempts, from bytes to bytes."""
        request = parsed(pb.ListAttemptsRequest.FromString, raw)
        tenant = current_identity().tenant_id
        return await self._pager.answer(
            self._pager.page(request),
            None if tenant is None else UUID(tenant.bytes),
            partial(self._deliveries.attempts, _delivery_id(request.delivery_id), tenant),
            attempt_message,
            pb.ListAttemptsResponse,
        )

    async def Redeliver(self, request: pb.RedeliverRequest, _context: Any) -> pb.RedeliverResponse:
        delivery = _delivery_id(request.delivery_id)
        request_id = validation.request_id(request.request_id)
        tenant = current_identity().tenant_id
        row = await self._deliveries.redeliver(delivery, tenant, request_id, request_digest(request))
        return pb.RedeliverResponse(delivery=delivery_message(row))

    async def ReplayEvents(self, request: pb.ReplayEventsRequest, _context: Any) -> pb.ReplayEventsResponse:
        request_id = validation.request_id(request.request_id)
        identity = current_identity()
        wanted = Wanted(
            validation.timestamp("start_time", request.start_time),
            validation.timestamp("end_time", request.end_time)
            if request.HasField("end_time")
            else datetime.max.replace(tzinfo=UTC),
            filters.check_event_types("event_types", request.event_types),
            request.failed_only,
        )
        endpoint = await self._endpoints.get(_endpoint_id(request.endpoint_id), identity.tenant_id)
        row = await self._replays.begin(
            endpoint,
            wanted,
            request_id,
            request_digest(request),
            caller=identity.tenant_id,
            dry_run=request.dry_run,
        )
        return pb.ReplayEventsResponse(job=job_message(row))

    async def GetEndpointStats(
        self, request: pb.GetEndpointStatsRequest, _context: Any
    ) -> pb.GetEndpointStatsResponse:
        window = _DEFAULT_WINDOW
        if request.HasField("window"):
            window = validation.duration(
                "window", request.window, least=timedelta(seconds=1), most=_MAX_DURATION
            )
        tenant = current_identity().tenant_id
        endpoint = await self._endpoints.get(_endpoint_id(request.endpoint_id), tenant)
        return await self._deliveries.stats(endpoint.id, tenant, window)

    async def _seal_headers(self, columns: dict[str, object], tenant: UUID, endpoint: UUID) -> None:
        """Replaces headers among `columns` by their names and what is stored of them."""
        headers = columns.get("headers")
        if isinstance(headers, dict):
            columns["header_names"] = sorted(headers)
            columns["headers"] = await self._secrets.seal_headers(tenant, endpoint, headers)


def _endpoint_id(text: str) -> UUID:
    return ids.decode(Prefix.ENDPOINT, text, "endpoint_id")


def _delivery_id(text: str) -> UUID:
    return ids.decode(Prefix.DELIVERY, text, "delivery_id")


_TEST_EVENT = "webhook.test"
_DEFAULT_OVERLAP = timedelta(hours=24)
_DEFAULT_WINDOW = timedelta(hours=24)
_MAX_DURATION = timedelta(days=7)
