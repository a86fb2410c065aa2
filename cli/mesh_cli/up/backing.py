"""The backing servers of a mesh: those given by environment, and real embedded ones for the rest."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field
from pathlib import Path

from mesh_cli.embedded import EmbeddedEtcd, EmbeddedPostgres, EmbeddedRedis, EmbeddedS3, EmbeddedServer
from mesh_cli.up.keeping import Say, keep_running
from mesh_core.errors import FailedPrecondition


@dataclass(slots=True)
class Backing:
    """Addresses as environment variables for the parts; `embedded` are the servers that we started."""

    s3: bool = False
    """Whether objects are in a real S3; else in a directory."""
    environment: dict[str, str] = field(default_factory=dict)
    embedded: dict[str, EmbeddedServer] = field(default_factory=dict)

    async def start(self, state: Path) -> None:
        """Start what the environment does not give.

        Raises `StateInUse`, `ServerFailed`, and `FailedPrecondition` where the files are stored otherwise.
        """
        if not os.environ.get("MESH_OBJECTS_URL"):
            _check_same_kind(state, s3=self.s3)
        servers: dict[str, EmbeddedServer] = {
            "MESH_ETCD_ENDPOINTS": EmbeddedEtcd(state, private=True),
            "MESH_DATABASE_URL": EmbeddedPostgres(state),
            "MESH_REDIS_URL": EmbeddedRedis(state, private=True),
        }
        if self.s3:
            servers["MESH_OBJECTS_URL"] = EmbeddedS3(state)
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
        if isinstance(s3 := wanted.get("MESH_OBJECTS_URL"), EmbeddedS3):
            self.environment |= {
                "MESH_OBJECTS_ENDPOINT": s3.endpoint,
                "MESH_OBJECTS_ACCESS_KEY": s3.keys.access_key,
                "MESH_OBJECTS_SECRET_KEY": s3.keys.secret_key,
            }
        elif not self.s3:
            self.environment["MESH_OBJECTS_URL"] = os.environ.get("MESH_OBJECTS_URL") or _directory(state)

    @property
    def addresses(self) -> dict[str, str]:
        """Where the servers are, without the keys of the S3."""
        return {name: value for name, value in self.environment.items() if not name.endswith("_KEY")}

    async def supervise(self, say: Say) -> None:
        """Start each server again whenever it ends by itself, until cancelled; `say` gets what is done."""
        async with asyncio.TaskGroup() as tasks:
            for server in self.embedded.values():
                tasks.create_task(keep_running(server, say), name=f"supervise {server.name}")

    async def stop(self) -> None:
        await asyncio.gather(*(server.stop() for server in self.embedded.values()))


def _check_same_kind(state: Path, *, s3: bool) -> None:
    """What was stored before would not be found."""
    before = state / ("objects" if s3 else EmbeddedS3.name)
    if before.is_dir() and any(before.iterdir()):
        kind = "directory" if s3 else "s3"
        raise FailedPrecondition(
            f"the files of this mesh are in {before}: go on with `mesh up --objects {kind}`, or take another "
            "state directory",
            "UNSUPPORTED_BY_STORE",
        )


def _directory(state: Path) -> str:
    objects = state / "objects"
    objects.mkdir(parents=True, exist_ok=True)
    return objects.as_uri()
