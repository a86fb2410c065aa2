"""Network namespaces for session-nodes, which can be cut off from single servers.

A cut is silent in both directions, as where a cable was pulled: nothing is refused, nothing answers. The
servers stay on loopback; each has an address here that nodes know it by, with a relay behind it.
"""

from __future__ import annotations

import secrets
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

from tests.relay import Relay
from tests.tools import missing_tool

NOBODYS_MAC = "02:00:00:00:00:01"
UPLINK = "mesh"
"""The link's name inside a namespace."""
HIGHEST_NODE = 50


@dataclass(frozen=True, slots=True)
class Host:
    """Where a node lives: its address, and what to put before a command that runs there."""

    address: str
    namespace: str
    link: str

    @property
    def command(self) -> tuple[str, ...]:
        return (shutil.which("ip") or "ip", "netns", "exec", self.namespace)


class Site:
    """One network of nodes and servers; `open` before anything is added, `close` in the end."""

    def __init__(self) -> None:
        self._tag = secrets.token_hex(2)
        self._net = f"10.{200 + secrets.randbelow(50)}.{secrets.randbelow(250)}"
        self.etcd, self.postgres, self.network = (f"{self._net}.{last}" for last in (241, 242, 243))
        self._hosts: dict[str, Host] = {}
        self._cuts: dict[str, list[str]] = {}
        self._relays: list[Relay] = []
        self._seen: dict[str, str] = {}

    def add_addresses(self) -> None:
        """Give the servers their addresses."""
        for address in (self.etcd, self.postgres, self.network):
            _ip("addr", "add", f"{address}/32", "dev", "lo")

    async def open(self, etcd: str, postgres_url: str) -> None:
        """Begin to relay to an etcd endpoint and a Postgres on loopback."""
        postgres = urlsplit(postgres_url)
        to_etcd = Relay(etcd, self.etcd)
        to_postgres = Relay(f"{postgres.hostname}:{postgres.port}", self.postgres)
        self._relays = [to_etcd, to_postgres]
        for relay in self._relays:
            await relay.open()
        user = postgres.netloc.rpartition("@")[0]
        self._seen = {
            "MESH_ETCD_ENDPOINTS": to_etcd.url,
            "MESH_DATABASE_URL": urlunsplit(postgres._replace(netloc=f"{user}@{to_postgres.url}")),
        }

    def addresses(self) -> Mapping[str, str]:
        """The servers as the nodes know them."""
        return self._seen

    def add(self, name: str) -> Host:
        """A namespace for a node, with a way to everything."""
        number = len(self._hosts)
        assert number < HIGHEST_NODE
        namespace, link = f"mesh-{self._tag}-{number}", f"mesh{self._tag}n{number}"
        gateway, address = (f"{self._net}.{4 * number + last}" for last in (1, 2))
        host = self._hosts[name] = Host(address, namespace, link)
        _ip("netns", "add", namespace)
        _ip("link", "add", link, "type", "veth", "peer", "name", UPLINK, "netns", namespace)
        _ip("addr", "add", f"{gateway}/30", "dev", link)
        _ip("link", "set", link, "up")
        _ip("-n", namespace, "addr", "add", f"{address}/30", "dev", UPLINK)
        _ip("-n", namespace, "link", "set", "lo", "up")
        _ip("-n", namespace, "link", "set", UPLINK, "up")
        _ip("-n", namespace, "route", "add", "default", "via", gateway)
        return host

    def cut(self, name: str, *servers: str) -> None:
        """From here on, not a packet passes between the node and `servers` (addresses of this site)."""
        host = self._hosts[name]
        for server in servers:
            _ip("rule", "add", "from", server, "to", host.address, "blackhole")
            # To the servers: a neighbour that does not exist. A route that refuses would tell the sender.
            _ip("-n", host.namespace, "neigh", "replace", server, "lladdr", NOBODYS_MAC, "dev", UPLINK)
            _ip("-n", host.namespace, "route", "add", f"{server}/32", "dev", UPLINK)
            self._cuts.setdefault(name, []).append(server)

    def heal(self, name: str) -> None:
        """End the node's cuts."""
        host = self._hosts[name]
        for server in self._cuts.pop(name, []):
            _ip("-n", host.namespace, "route", "del", f"{server}/32", "dev", UPLINK)
            _ip("-n", host.namespace, "neigh", "del", server, "dev", UPLINK)
            _ip("rule", "del", "from", server, "to", host.address, "blackhole")

    async def close(self) -> None:
        for relay in self._relays:
            await relay.cut()
        for name in list(self._cuts):
            self.heal(name)
        for host in self._hosts.values():
            _ip("netns", "del", host.namespace)  # with it go both ends of its link
        for address in (self.etcd, self.postgres, self.network):
            _ip("addr", "del", f"{address}/32", "dev", "lo")


def require_namespaces() -> None:
    """Skip the test, loudly, where namespaces cannot be made; fail it when CI=true."""
    if shutil.which("ip") is None:
        missing_tool("no `ip` on PATH (package iproute2): nodes cannot be cut off from servers")
    name = f"mesh-probe-{secrets.token_hex(2)}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode != 0:
        missing_tool(f"network namespaces cannot be made here: {made.stderr.strip()}")
    _ip("netns", "del", name)


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr.strip()}"
