"""The backing servers of a mesh: those given by environment, and real embedded ones for the rest."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field
from pathlib import Path

from mesh_cli.embedded import EmbeddedEtcd, EmbeddedPostgres, EmbeddedRedis, EmbeddedServer
from mesh_cli.up.keeping import Say, keep_running


@dataclass(slots=True)
class Backing:
    """Addresses as environment variables for the parts; `embedded` are the servers that we started."""

    environment: dict[str, str] = field(default_factory=dict)
    embedded: dict[str, EmbeddedServer] = field(default_factory=dict)

    async def start(self, state: Path) -> None:
        """Start what the environment does not give. Raises `StateInUse` or `ServerFailed`."""
        servers: dict[str, EmbeddedServer] = {
            "MESH_ETCD_ENDPOINTS": EmbeddedEtcd(state, private=True),
            "MESH_DATABASE_URL": EmbeddedPostgres(state),
            "MESH_REDIS_URL": EmbeddedRedis(state, private=True),
        }
        wanted = {variable: server for variable, server in servers.items() if not os.environ.get(variable)}
        self.embedded = {server.name: server for server in wanted.values()}
        urls = await asyncio.gather(*(server.start() for server in wanted.values()), return_exceptions=True)
        for variable, url in zip(wanted, urls, strict=True):
            if isinstance(url, BaseException):
                await self.stop()
                raise url
            self.environment[variable] = url
        for variable in servers.keys() - wanted.keys():
            self.environment[variable] = os.environ[variable]
        self.environment["MESH_OBJECTS_URL"] = os.environ.get("MESH_OBJECTS_URL") or _directory_store(state)

    async def supervise(self, say: Say) -> None:
        """Start each server again whenever it ends by itself, until cancelled; `say` gets what is done."""
        async with asyncio.TaskGroup() as tasks:
            for server in self.embedded.values():
                tasks.create_task(keep_running(server, say), name=f"supervise {server.name}")

    async def stop(self) -> None:
        await asyncio.gather(*(server.stop() for server in self.embedded.values()))


def _directory_store(state: Path) -> str:
    objects = state / "objects"
    objects.mkdir(parents=True, exist_ok=True)
    return objects.as_uri()
