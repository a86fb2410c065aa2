"""Network namespaces for session-nodes, which can be cut off from single servers.

A cut is silent in both directions, as where a cable was pulled: nothing is refused, nothing answers. The
servers stay on loopback; each has an address here that nodes know it by, with a relay behind it.
"""

from __future__ import annotations

import secrets
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from mesh_cli.embedded import free_port
from tests.faults.fleet.sites import Host, Server, Site, at_address
from tests.support.relay import Relay

NOBODYS_MAC = "02:00:00:00:00:01"
UPLINK = "mesh"
"""The link's name inside a namespace."""
HIGHEST_NODE = 50


@dataclass(frozen=True, slots=True)
class Namespace:
    """Where a node lives: its address there, the namespace's name, the link to it."""

    address: str
    name: str
    link: str


class NamespaceSite(Site):
    """Nodes in namespaces, each with a link to this one. Needs root."""

    def __init__(self) -> None:
        self._tag = secrets.token_hex(2)
        self._net = f"10.{200 + secrets.randbelow(50)}.{secrets.randbelow(250)}"
        self._servers = {
            server: f"{self._net}.{last}"
            for server, last in ((Server.ETCD, 241), (Server.POSTGRES, 242), (Server.NETWORK, 243))
        }
        self._namespaces: dict[str, Namespace] = {}
        self._relays: list[Relay] = []
        self._environment: Mapping[str, str] = {}
        self.network = f"{self._servers[Server.NETWORK]}:{free_port()}"

    async def open(self, etcd: str, postgres_url: str) -> None:
        for address in self._servers.values():
            _ip("addr", "add", f"{address}/32", "dev", "lo")
        to_etcd = Relay(etcd, self._servers[Server.ETCD])
        to_postgres = Relay(postgres_url.rpartition("@")[2].partition("/")[0], self._servers[Server.POSTGRES])
        self._relays = [to_etcd, to_postgres]
        for relay in self._relays:
            await relay.open()
        self._environment = {
            "MESH_ETCD_ENDPOINTS": to_etcd.url,
            "MESH_DATABASE_URL": at_address(postgres_url, to_postgres.url),
            "MESH_SIMNET_ADDRESS": self.network,
        }

    def add(self, name: str) -> Host:
        number = len(self._namespaces)
        assert number < HIGHEST_NODE
        namespace, link = f"mesh-{self._tag}-{number}", f"mesh{self._tag}n{number}"
        gateway, address = (f"{self._net}.{4 * number + last}" for last in (1, 2))
        self._namespaces[name] = Namespace(address, namespace, link)
        _ip("netns", "add", namespace)
        _ip("link", "add", link, "type", "veth", "peer", "name", UPLINK, "netns", namespace)
        _ip("addr", "add", f"{gateway}/30", "dev", link)
        _ip("link", "set", link, "up")
        _ip("-n", namespace, "addr", "add", f"{address}/30", "dev", UPLINK)
        _ip("-n", namespace, "link", "set", "lo", "up")
        _ip("-n", namespace, "link", "set", UPLINK, "up")
        _ip("-n", namespace, "route", "add", "default", "via", gateway)
        return Host(address, (shutil.which("ip") or "ip", "netns", "exec", namespace), self._environment)

    @contextmanager
    def cut_off(self, name: str, *servers: Server) -> Iterator[None]:
        addresses = [self._servers[server] for server in servers]
        for address in addresses:
            self._cut(self._namespaces[name], address)
        try:
            yield
        finally:
            for address in addresses:
                self._heal(self._namespaces[name], address)

    async def close(self) -> None:
        for relay in self._relays:
            await relay.cut()
        for namespace in self._namespaces.values():
            _ip("netns", "del", namespace.name)  # with it go both ends of its link
        for address in self._servers.values():
            _ip("addr", "del", f"{address}/32", "dev", "lo")

    @staticmethod
    def _cut(node: Namespace, server: str) -> None:
        _ip("rule", "add", "from", server, "to", node.address, "blackhole")
        # To the server: by way of a neighbour who does not exist. A route that refuses would say so.
        _ip("-n", node.name, "neigh", "replace", server, "lladdr", NOBODYS_MAC, "dev", UPLINK)
        _ip("-n", node.name, "route", "add", f"{server}/32", "dev", UPLINK)

    @staticmethod
    def _heal(node: Namespace, server: str) -> None:
        _ip("-n", node.name, "route", "del", f"{server}/32", "dev", UPLINK)
        _ip("-n", node.name, "neigh", "del", server, "dev", UPLINK)
        _ip("rule", "del", "from", server, "to", node.address, "blackhole")


def namespaces_work() -> bool:
    """Whether `ip` is there and may make namespaces."""
    if shutil.which("ip") is None:
        return False
    name = f"mesh-probe-{secrets.token_hex(2)}"
    if subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode != 0:
        return False
    _ip("netns", "del", name)
    return True


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr.strip()}"
