"""Keeps the resources up to date with who is alive, and tells the clients that need to know."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any, Protocol

import structlog
from google.protobuf.message import DecodeError
from grpc.aio import BaseError, ServicerContext

from mesh_core.discovery import ServiceInfo
from mesh_core.errors import InvalidArgument
from mesh_core.ownership.keys import NodeInfo
from mesh_core.ownership.view import Owner
from mesh_core.server import Server
from mesh_core.tasks import Supervisor
from mesh_router.xds.client import Client, Refusal
from mesh_router.xds.lookups import SERVICE as LOOKUP_SERVICE
from mesh_router.xds.lookups import Lookups
from mesh_router.xds.metrics import STREAMS
from mesh_router.xds.resources import Backends, ClusterTls, addresses, build
from mesh_router.xds.snapshot import Response, Snapshot
from mesh_wire.xds.discovery_pb2 import DiscoveryRequest
from sessionmesh.v1.authorization_pb2 import SCOPE_PUBLIC

logger = structlog.get_logger(__name__)

Context = ServicerContext[Any, Any]
SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"
ROUTERS = "router"
"""The kind of the routers in the service directory."""
REST_SECONDS = 0.05
"""Least time between two rounds of pushes: what changes together is told together."""
AT_ONCE = 32
"""Streams pushed to before other calls get their turn."""
LARGEST_REQUEST = 1024 * 1024


class Changing(Protocol):
    """Something that tells when it has changed."""

    @property
    def changed(self) -> asyncio.Event: ...


class Fleet(Changing, Protocol):
    """What is needed of `mesh_core.ownership.view.OwnerView`."""

    def owner(self, shard: int) -> Owner | None: ...

    def nodes(self) -> list[NodeInfo]: ...


class Directory(Changing, Protocol):
    """What is needed of `mesh_core.discovery.ServiceDirectory`."""

    def services(self) -> list[ServiceInfo]: ...


class ControlPlane:
    """Serves ADS and route lookups. `directories` has one for each kind of `KINDS` and one for `ROUTERS`."""

    def __init__(self, view: Fleet, directories: Mapping[str, Directory], tls: ClusterTls | None) -> None:
        self._view = view
        self._directories = directories
        self._tls = tls
        self._server: Server | None = None
        self._supervisor: Supervisor | None = None
        self._backends: Backends | None = None
        self._snapshot: Snapshot | None = None
        self._streams: set[_Stream] = set()
        self._stale = asyncio.Event()

    def serve_on(self, server: Server) -> None:
        """Add the services: what they tell is for every client, and asks for no key."""
        self._server = server
        ads = {"StreamAggregatedResources": self.serve}
        server.add_bytes(SERVICE, ads, scope=SCOPE_PUBLIC)
        lookups = {"RouteLookup": Lookups(self._view, self).route_lookup}
        server.add_bytes(LOOKUP_SERVICE, lookups, scope=SCOPE_PUBLIC)

    def start(self, supervisor: Supervisor) -> None:
        """Make the first resources and follow changes, once the server has its address."""
        self._supervisor = supervisor
        sources: list[Changing] = [self._view, *self._directories.values()]
        for source in sources:
            supervisor.start("xds-follow", self._follow(source))
        self._publish()
        supervisor.start("xds-pushes", self._run())

    def node_address(self, node_id: str) -> str | None:
        """Where the cluster of a session-node leads; None when there is no such cluster."""
        return None if self._backends is None else self._backends.nodes.get(node_id)

    async def serve(self, requests: AsyncIterator[bytes], context: Context) -> None:
        """StreamAggregatedResources: one client."""
        stream = _Stream(self, context)
        self._streams.add(stream)
        STREAMS.inc()
        try:
            async for raw in requests:
                refusal = stream.client.take(_parse(raw), self._snapshot)
                if refusal is not None:
                    _log(stream.client, refusal)
                await stream.flush()
        finally:
            self._streams.discard(stream)
            STREAMS.dec()

    @property
    def snapshot(self) -> Snapshot | None:
        """The resources as they are now; None before `start`."""
        return self._snapshot

    async def _follow(self, source: Changing) -> None:
        while True:
            changed = source.changed
            self._stale.set()
            await changed.wait()

    async def _run(self) -> None:
        while True:
            await self._stale.wait()
            self._stale.clear()
            if self._publish():
                await self._push()
            await asyncio.sleep(REST_SECONDS)

    def _publish(self) -> bool:
        """Make a new snapshot; False when nothing that is in it has changed."""
        backends = self._alive()
        if backends == self._backends:
            return False
        self._backends = backends
        self._snapshot = Snapshot(build(backends, self._tls), self._snapshot)
        return True

    def _alive(self) -> Backends:
        assert self._server is not None  # noqa: S101 - serve_on comes before start
        routers = [service.address for service in self._directories[ROUTERS].services()]
        if not (self._server.draining.begun and routers):
            routers.append(self._server.address)  # also while it is not registered, or etcd has lost it
        return Backends(
            routers=addresses(routers),
            nodes={node.id: node.address for node in self._view.nodes()},
            instances={
                kind: addresses(service.address for service in directory.services())
                for kind, directory in self._directories.items()
                if kind != ROUTERS
            },
        )

    async def _push(self) -> None:
        assert self._snapshot is not None  # noqa: S101 - just made
        assert self._supervisor is not None  # noqa: S101 - this runs under it
        begun = 0
        for stream in list(self._streams):
            if stream.client.is_due(self._snapshot):
                self._supervisor.start("xds-push", stream.push())
                begun += 1
                if begun % AT_ONCE == 0:
                    await asyncio.sleep(0)


class _Stream:
    """The way to one client. At rest it holds no task besides its handler's, which waits for requests."""

    __slots__ = ("_context", "_flushing", "_plane", "client")

    def __init__(self, plane: ControlPlane, context: Context) -> None:
        self._plane = plane
        self._context = context
        self._flushing = False
        self.client = Client()

    async def flush(self) -> None:
        """Send what is due, also what becomes due while a slow client takes its time."""
        if self._flushing:
            return
        self._flushing = True
        try:
            while (response := self._due()) is not None:
                await self._context.write(response.payload)
        finally:
            self._flushing = False

    async def push(self) -> None:
        """`flush` for a change; a client that has left is none of its business."""
        try:
            await self.flush()
        except BaseError as error:
            logger.debug("client left", node=self.client.node_id, error=repr(error))

    def _due(self) -> Response | None:
        snapshot = self._plane.snapshot
        return None if snapshot is None else self.client.due(snapshot)


def _parse(raw: bytes) -> DiscoveryRequest:
    if len(raw) > LARGEST_REQUEST:
        raise InvalidArgument(f"a request has at most {LARGEST_REQUEST:,} bytes", "MESSAGE_TOO_LARGE")
    try:
        return DiscoveryRequest.FromString(raw)
    except DecodeError:
        raise InvalidArgument("the request is not a DiscoveryRequest", "INVALID_FIELD") from None


def _log(client: Client, refusal: Refusal) -> None:
    logger.warning("client refuses resources", node=client.node_id, reason=refusal.reason)
