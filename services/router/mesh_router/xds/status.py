"""Client status discovery: which clients are connected to this router, and which resources they accepted.

`envoy.service.status.v3.ClientStatusDiscoveryService`, which grpcurl and xDS tools read.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any

from grpc.aio import ServicerContext

from mesh_core.errors import ResourceExhausted
from mesh_router.xds.client import Client, Watch
from mesh_router.xds.snapshot import TYPES, Snapshot
from mesh_router.xds.state import State
from mesh_router.xds.streams import Streams
from mesh_wire.xds import admin_pb2, core_pb2, csds_pb2, csds_pb2_grpc, matcher_pb2

Context = ServicerContext[Any, Any]
MAX_CLIENTS = 500
"""Most clients in one response. For more, callers select clients by matchers, or use the stream."""


class ClientStatus(csds_pb2_grpc.ClientStatusDiscoveryServiceServicer):
    """Serves the status of the clients of `streams`."""

    def __init__(self, streams: Streams, state: State) -> None:
        self._streams = streams
        self._state = state

    async def FetchClientStatus(
        self, request: csds_pb2.ClientStatusRequest, _context: Context
    ) -> csds_pb2.ClientStatusResponse:
        """The clients that match the request. Raises `ResourceExhausted` for too many."""
        clients = self._matching(request)
        if len(clients) > MAX_CLIENTS:
            raise ResourceExhausted(
                f"{len(clients):,} clients match, {MAX_CLIENTS:,} fit: name some with node_matchers, "
                "or call StreamClientStatus",
                "MESSAGE_TOO_LARGE",
            )
        return self._response(clients)

    async def StreamClientStatus(
        self, request_iterator: AsyncIterator[csds_pb2.ClientStatusRequest], _context: Context
    ) -> AsyncIterator[csds_pb2.ClientStatusResponse]:
        """The same for each request, in as many responses as it takes."""
        async for request in request_iterator:
            clients = self._matching(request)
            for start in range(0, max(1, len(clients)), MAX_CLIENTS):
                yield self._response(clients[start : start + MAX_CLIENTS])

    def _matching(self, request: csds_pb2.ClientStatusRequest) -> list[Client]:
        matchers = [matcher.node_id for matcher in request.node_matchers]
        return [
            client
            for client in self._streams.clients()
            if not matchers or any(_matches(matcher, client.node_id) for matcher in matchers)
        ]

    def _response(self, clients: Iterable[Client]) -> csds_pb2.ClientStatusResponse:
        snapshot = self._state.snapshot
        configs = [] if snapshot is None else [_config(client, snapshot) for client in clients]
        return csds_pb2.ClientStatusResponse(config=configs)


def _matches(matcher: matcher_pb2.StringMatcher, node_id: str) -> bool:
    kind = matcher.WhichOneof("match_pattern")
    if kind is None:
        return True
    pattern = getattr(matcher, kind)
    if matcher.ignore_case:
        pattern, node_id = pattern.lower(), node_id.lower()
    if kind == "exact":
        return bool(node_id == pattern)
    if kind == "prefix":
        return node_id.startswith(pattern)
    return node_id.endswith(pattern) if kind == "suffix" else pattern in node_id


def _config(client: Client, snapshot: Snapshot) -> csds_pb2.ClientConfig:
    watches = [client.watches[type_url] for type_url in TYPES if type_url in client.watches]
    return csds_pb2.ClientConfig(
        node=core_pb2.Node.FromString(client.node or b""),
        generic_xds_configs=[resource for watch in watches for resource in _resources(watch, snapshot)],
    )


def _resources(watch: Watch, snapshot: Snapshot) -> Iterator[csds_pb2.ClientConfig.GenericXdsConfig]:
    existing = snapshot.names(watch.subscription)
    type_url, names = watch.subscription.type_url, watch.subscription.names
    for name in sorted(existing if names is None else names):
        config = csds_pb2.ClientConfig.GenericXdsConfig(
            type_url=type_url, name=name, version_info=watch.acknowledged
        )
        if name not in existing:
            config.config_status = csds_pb2.NOT_SENT
            config.client_status = admin_pb2.DOES_NOT_EXIST
        elif watch.refusal is not None:
            config.config_status, config.client_status = csds_pb2.ERROR, admin_pb2.NACKED
            config.error_state.details = watch.refusal.reason
            config.error_state.version_info = watch.refusal.version
            config.error_state.last_update_attempt.FromNanoseconds(int(watch.refusal.at * 1e9))
        elif watch.answered and watch.number == snapshot.number:
            config.config_status, config.client_status = csds_pb2.SYNCED, admin_pb2.ACKED
        else:
            config.config_status, config.client_status = csds_pb2.STALE, admin_pb2.REQUESTED
        yield config
