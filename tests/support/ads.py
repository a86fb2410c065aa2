"""A raw stream to the xDS control plane: a gRPC client's, with each step in a test's hands."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Self

import grpc.aio
from google.protobuf.message import Message

from mesh_router.xds.resources import CLUSTER_TYPE, ENDPOINT_TYPE, LISTENER_TYPE, ROUTE_TYPE
from mesh_wire.xds import cluster_pb2, endpoint_pb2, listener_pb2, route_pb2
from mesh_wire.xds.discovery_pb2 import DiscoveryRequest, DiscoveryResponse
from mesh_wire.xds.discovery_pb2_grpc import AggregatedDiscoveryServiceStub

SECONDS = 20.0
KINDS: dict[str, type[Message]] = {
    CLUSTER_TYPE: cluster_pb2.Cluster,
    ENDPOINT_TYPE: endpoint_pb2.ClusterLoadAssignment,
    LISTENER_TYPE: listener_pb2.Listener,
    ROUTE_TYPE: route_pb2.RouteConfiguration,
}


class AdsStream:
    """One stream; it introduces itself as `node_id` in its first request."""

    def __init__(self, channel: grpc.aio.Channel, node_id: str = "client-1") -> None:
        stub: Any = AggregatedDiscoveryServiceStub(channel)
        self.call = stub.StreamAggregatedResources()
        self._node_id = node_id
        self._last: dict[str, DiscoveryResponse] = {}
        self._names: dict[str, tuple[str, ...]] = {}

    async def send(self, request: DiscoveryRequest) -> None:
        """The request as it is."""
        await self.call.write(request)

    async def subscribe(self, type_url: str, *names: str) -> None:
        """Ask for resources, with the nonce of what was received last."""
        self._names[type_url] = names
        await self._say(type_url, error="")

    async def receive(self) -> DiscoveryResponse:
        """The next response, not acknowledged yet."""
        async with asyncio.timeout(SECONDS):
            response = await self.call.read()
        assert isinstance(response, DiscoveryResponse), f"the stream has ended: {await self.call.code()}"
        self._last[response.type_url] = response
        return response

    async def acknowledge(self, response: DiscoveryResponse) -> None:
        """Take it."""
        await self._say(response.type_url, error="")

    async def refuse(self, response: DiscoveryResponse, reason: str) -> None:
        """Say that it is no good."""
        await self._say(response.type_url, error=reason)

    async def get(self, type_url: str, *names: str) -> dict[str, Any]:
        """The resources of one response to a subscription, by name; acknowledged."""
        await self.subscribe(type_url, *names)
        response = await self.receive()
        assert response.type_url == type_url
        await self.acknowledge(response)
        return resources(response)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.call.cancel()

    async def _say(self, type_url: str, error: str) -> None:
        last = self._last.get(type_url)
        request = DiscoveryRequest(type_url=type_url, resource_names=self._names[type_url])
        if last is not None:
            request.response_nonce, request.version_info = last.nonce, last.version_info
        if error:
            request.error_detail.code, request.error_detail.message = 3, error
        if self._node_id:
            request.node.id, self._node_id = self._node_id, ""
        await self.send(request)


def resources(response: DiscoveryResponse) -> dict[str, Any]:
    """What a response holds, by name."""
    found: dict[str, Any] = {}
    for packed in response.resources:
        resource: Any = KINDS[response.type_url]()
        assert packed.Unpack(resource)
        found[getattr(resource, "name", "") or resource.cluster_name] = resource
    return found


def names(response: DiscoveryResponse) -> list[str]:
    """The names of what it holds."""
    return list(resources(response))


def endpoints(assignment: endpoint_pb2.ClusterLoadAssignment) -> list[list[str]]:
    """Its addresses by priority."""
    return [
        [f"{each.address}:{each.port_value}" for each in map(_socket, group.lb_endpoints)]
        for group in assignment.endpoints
    ]


def _socket(endpoint: endpoint_pb2.LbEndpoint) -> Any:
    return endpoint.endpoint.address.socket_address
