"""The xDS control plane: its parts put together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from mesh_core.rpc.server import Server
from mesh_core.settings import ServerSettings
from mesh_core.tasks import Supervisor
from mesh_router.xds import lookups, state
from mesh_router.xds.lookups import Lookups
from mesh_router.xds.names import Names
from mesh_router.xds.resources import ClusterTls
from mesh_router.xds.state import Directory, State
from mesh_router.xds.status import ClientStatus
from mesh_router.xds.streams import Streams
from mesh_wire.xds.csds_pb2_grpc import add_ClientStatusDiscoveryServiceServicer_to_server
from sessionmesh.v1.authorization_pb2 import SCOPE_OPERATOR, SCOPE_PUBLIC

SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"


class ClusterView(state.NodeSource, lookups.OwnerSource, Protocol):
    """What is needed of `mesh_core.ownership.view.view.OwnerView`."""


class ControlPlane:
    """Serves ADS, route lookups and client status. `directories` are those of `State`."""

    def __init__(
        self, view: ClusterView, directories: Mapping[str, Directory], settings: ServerSettings
    ) -> None:
        self._state = State(view, directories, Names(), ClusterTls.of(settings))
        self._streams = Streams(self._state)
        self._lookups = Lookups(view, self._state)

    def serve_on(self, server: Server) -> None:
        """Add the services. Resources and lookups contain no secrets, so they need no API key."""
        ads = {"StreamAggregatedResources": self._streams.serve}
        server.add_bytes(SERVICE, ads, scope=SCOPE_PUBLIC)
        rls = {"RouteLookup": self._lookups.route_lookup}
        server.add_bytes(lookups.SERVICE, rls, scope=SCOPE_PUBLIC)
        status = ClientStatus(self._streams, self._state)
        server.add(add_ClientStatusDiscoveryServiceServicer_to_server, status, scope=SCOPE_OPERATOR)

    def start(self, server: Server, supervisor: Supervisor) -> None:
        """Make the first resources and follow changes. `server` must have its address."""

        async def push() -> None:
            await self._streams.push(supervisor)

        self._state.start(server, supervisor, push)
