"""Keeps the resources up to date with the live endpoints."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

import structlog

from mesh_core.etcd.discovery import ServiceInfo
from mesh_core.ownership.keys import NodeInfo
from mesh_core.rpc.server import Server
from mesh_core.signal import Signal
from mesh_core.tasks import Supervisor
from mesh_router.xds.names import Names
from mesh_router.xds.resources import Backends, ClusterTls, build
from mesh_router.xds.snapshot import Snapshot

logger = structlog.get_logger(__name__)

ROUTERS = "router"
"""The routers' kind in the service directory."""
MIN_SECONDS = 0.05
"""Least time between two snapshots, so that what changes together is sent together."""


class Changing(Protocol):
    """Something that notifies `changes` after each change."""

    @property
    def changes(self) -> Signal: ...


class NodeSource(Changing, Protocol):
    """What is needed of `mesh_core.ownership.view.view.OwnerView`."""

    def nodes(self) -> list[NodeInfo]: ...


class Directory(Changing, Protocol):
    """What is needed of `mesh_core.etcd.discovery.ServiceDirectory`."""

    def services(self) -> list[ServiceInfo]: ...


class State:
    """Makes a snapshot whenever the endpoints in it have changed.

    While etcd is unavailable the snapshot stays as it is. `directories` has one for each kind of `KINDS` and
    one for `ROUTERS`.
    """

    def __init__(
        self, nodes: NodeSource, directories: Mapping[str, Directory], names: Names, tls: ClusterTls | None
    ) -> None:
        self.snapshot: Snapshot | None = None
        """None until `start`."""
        self._live_nodes = nodes
        self._directories = directories
        self._names = names
        self._tls = tls
        self._backends: Backends | None = None
        self._nodes: dict[str, str] = {}
        self._stale = asyncio.Event()

    def node_address(self, node_id: str) -> str | None:
        """The address of a session-node that has a cluster, else None."""
        return self._nodes.get(node_id)

    def start(self, server: Server, supervisor: Supervisor, on_change: Callable[[], Awaitable[None]]) -> None:
        """Make the first snapshot, and more whenever something changes. `server` must have its address.

        `on_change` is awaited after each snapshot.
        """
        supervisor.start("xds-names", self._names.run())
        sources: list[Changing] = [self._live_nodes, self._names, *self._directories.values()]
        for source in sources:
            supervisor.start("xds-follow", self._follow(source))
        supervisor.start("xds-follow-drain", self._follow_drain(server))
        self._publish(server)
        supervisor.start("xds-snapshots", self._run(server, on_change))

    async def _follow(self, source: Changing) -> None:
        version = source.changes.version
        while True:
            self._stale.set()
            version = await source.changes.wait(version)

    async def _follow_drain(self, server: Server) -> None:
        await server.draining.wait()
        self._stale.set()

    async def _run(self, server: Server, on_change: Callable[[], Awaitable[None]]) -> None:
        await on_change()  # clients may have connected before the first snapshot
        while True:
            await self._stale.wait()
            self._stale.clear()
            if self._publish(server):
                await on_change()
            await asyncio.sleep(MIN_SECONDS)

    def _publish(self, server: Server) -> bool:
        """Make a new snapshot; False when nothing in it would differ."""
        routers = {service.address for service in self._directories[ROUTERS].services()}
        if not (server.draining.begun and routers):
            routers.add(server.address)  # also before it is registered, and when etcd has lost it
        nodes = {node.id: node.address for node in self._live_nodes.nodes()}
        instances = {
            kind: {service.address for service in directory.services()}
            for kind, directory in self._directories.items()
            if kind != ROUTERS
        }
        ips = self._names.resolve(
            {*routers, *nodes.values(), *(one for kind in instances.values() for one in kind)}
        )

        def endpoints(addresses: set[str]) -> tuple[str, ...]:
            # Sorted, each once: several processes may share an address.
            return tuple(sorted({ip for address in addresses for ip in ips[address]}))

        backends = Backends(
            routers=endpoints(routers),
            nodes={node: found for node, address in nodes.items() if (found := endpoints({address}))},
            instances={kind: endpoints(addresses) for kind, addresses in instances.items()},
        )
        self._nodes = {node: nodes[node] for node in backends.nodes}
        if backends == self._backends:
            return False
        self._backends = backends
        self.snapshot = Snapshot(build(backends, self._tls), self.snapshot)
        logger.debug("new resources", snapshot=self.snapshot.number, nodes=list(backends.nodes))
        return True
