"""One client of the control plane: a stream that subscribes and acknowledges as a gRPC client does.

A gRPC client asks for its listener, then for the routes that this names, then for the clusters of these and
of its accounts' owners, and for their endpoints. So does this one, a resource type after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import grpc.aio
from google.protobuf.message import Message

from mesh_wire.xds import cluster_pb2, core_pb2, endpoint_pb2, listener_pb2, route_pb2
from mesh_wire.xds.discovery_pb2 import DiscoveryRequest, DiscoveryResponse

METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"
LISTENER = "sessionmesh"
"""Its routes have the same name."""
_MESSAGES: tuple[type[Message], ...] = (
    listener_pb2.Listener,
    route_pb2.RouteConfiguration,
    cluster_pb2.Cluster,
    endpoint_pb2.ClusterLoadAssignment,
)
TYPES = tuple(f"type.googleapis.com/{message.DESCRIPTOR.full_name}" for message in _MESSAGES)
LISTENERS, ROUTES, CLUSTERS, ENDPOINTS = TYPES


@dataclass(frozen=True, slots=True)
class Response:
    """What a response says. `sizes` are the bytes that each resource takes in it, by name."""

    kind: str
    version: str
    nonce: str
    size: int
    sizes: dict[str, int]

    def size_of(self, names: Iterable[str]) -> int:
        """Its size if it had only these of its resources."""
        return self.size - sum(size for name, size in self.sizes.items() if name not in names)


class AdsStream:
    """A client that needs `clusters`. `came` is told of every response; with `has`, those that are there."""

    def __init__(
        self, name: str, clusters: tuple[str, ...], came: Callable[[AdsStream, Response], None]
    ) -> None:
        self._name = name
        self._clusters = clusters
        self._came = came
        self._have: dict[str, set[str]] = {}
        self.ended = 0
        """How often the router, or the connection, ended the stream."""

    @property
    def has(self) -> set[str]:
        """The clusters that are there, with their endpoints."""
        return self._have[CLUSTERS] & self._have[ENDPOINTS]

    async def run(self, channel: grpc.aio.Channel) -> None:
        """For ever: as clients do, open the stream again whenever it ends."""
        while True:
            with suppress(grpc.aio.AioRpcError):
                await self._follow(channel)
            self.ended += 1

    async def _follow(self, channel: grpc.aio.Channel) -> None:
        self._have = {kind: set() for kind in TYPES}
        call: Any = channel.stream_stream(METHOD)()
        await call.write(_request(LISTENERS, (LISTENER,), "", "", self._name))
        asked = 1
        async for payload in call:
            response = _read(payload)
            have = self._have[response.kind]
            if response.kind in (LISTENERS, CLUSTERS):
                have.clear()  # what such a response leaves out is gone
            have.update(response.sizes)
            await call.write(
                _request(response.kind, self._names(response.kind), response.version, response.nonce)
            )
            if asked < len(TYPES) and response.kind == TYPES[asked - 1]:
                await call.write(_request(TYPES[asked], self._names(TYPES[asked]), "", ""))
                asked += 1
            self._came(self, response)

    def _names(self, kind: str) -> tuple[str, ...]:
        return (LISTENER,) if kind in (LISTENERS, ROUTES) else self._clusters


# The router sends all clients that need the same the same bytes, and they answer with the same.
@lru_cache(maxsize=1024)
def _read(payload: bytes) -> Response:
    response = DiscoveryResponse.FromString(payload)
    empty = DiscoveryResponse(type_url=response.type_url)
    sizes = {}
    for resource in response.resources:
        alone = DiscoveryResponse(type_url=response.type_url, resources=[resource])
        sizes[_name(response.type_url, resource.value)] = alone.ByteSize() - empty.ByteSize()
    return Response(response.type_url, response.version_info, response.nonce, len(payload), sizes)


@lru_cache(maxsize=1024)
def _request(kind: str, names: tuple[str, ...], version: str, nonce: str, node: str = "") -> bytes:
    request = DiscoveryRequest(
        type_url=kind, resource_names=names, version_info=version, response_nonce=nonce
    )
    if node:
        request.node.CopyFrom(core_pb2.Node(id=node, user_agent_name="gRPC Python", user_agent_version="1"))
    return request.SerializeToString()


def _name(kind: str, value: bytes) -> str:
    message: Any = _MESSAGES[TYPES.index(kind)].FromString(value)
    return str(message.cluster_name if kind == ENDPOINTS else message.name)
