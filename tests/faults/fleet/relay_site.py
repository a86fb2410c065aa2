"""Cutting nodes off where network namespaces cannot be made: a relay for each pair of node and server.

A relay that holds keeps its connections open and passes nothing on. What it cannot do is drop a packet: the
kernels on both sides go on to acknowledge, and what was sent meanwhile arrives when it is over.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mesh_cli.embedded import free_port
from mesh_cli.embedded.ports import LOOPBACK
from tests.faults.fleet.sites import Host, Server, Site, at_address
from tests.support.relay import Relay

MOST_NODES = 3


class RelaySite(Site):
    """Nodes on loopback, like everything else."""

    def __init__(self) -> None:
        self.network = f"{LOOPBACK}:{free_port()}"
        self._postgres_url = ""
        self._free: list[dict[Server, Relay]] = []
        self._relays: dict[str, dict[Server, Relay]] = {}

    async def open(self, etcd: str, postgres_url: str) -> None:
        self._postgres_url = postgres_url
        targets = {
            Server.ETCD: etcd,
            Server.POSTGRES: postgres_url.rpartition("@")[2].partition("/")[0],
            Server.NETWORK: self.network,
        }
        for _ in range(MOST_NODES):
            relays = {server: Relay(target) for server, target in targets.items()}
            for relay in relays.values():
                await relay.open()
            self._free.append(relays)

    def add(self, name: str) -> Host:
        relays = self._relays[name] = self._free.pop()
        environment = {
            "MESH_ETCD_ENDPOINTS": relays[Server.ETCD].url,
            "MESH_DATABASE_URL": at_address(self._postgres_url, relays[Server.POSTGRES].url),
            "MESH_SIMNET_ADDRESS": relays[Server.NETWORK].url,
        }
        return Host(LOOPBACK, (), environment)

    @contextmanager
    def cut_off(self, name: str, *servers: Server) -> Iterator[None]:
        relays = [self._relays[name][server] for server in servers]
        for relay in relays:
            relay.hold()
        try:
            yield
        finally:
            for relay in relays:
                relay.go_on()

    async def close(self) -> None:
        for relays in [*self._relays.values(), *self._free]:
            for relay in relays.values():
                relay.go_on()
                await relay.cut()
