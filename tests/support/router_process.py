"""Routers as processes of their own, over real etcd and Postgres, in front of nodes that a test makes."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc.aio
import psutil

from mesh_core.database import Database
from mesh_core.process.service import Stop
from mesh_core.settings import DatabaseSettings
from tests.support.eventually import eventually
from tests.support.log import Log
from tests.support.router_world import ADMIN_KEY, MESH_KEY, RouterWorld
from tests.support.servers import patient_etcd_at


@dataclass
class RouterProcess:
    """`python -m mesh_router`: one router, or the parent of its workers."""

    process: Process
    log: Log

    @property
    def pid(self) -> int:
        return self.process.pid

    def logged(self, event: str) -> list[dict[str, Any]]:
        """The log's lines of that event."""
        return self.log.events(event)

    async def until_logged(self, event: str, times: int = 1) -> list[dict[str, Any]]:
        """Wait until the event was logged so often."""

        def enough() -> list[dict[str, Any]] | None:
            found = self.logged(event)
            if len(found) < times:
                assert self.process.returncode is None, self.log.text()
                return None
            return found

        return await eventually(enough, what=f"{event!r} {times} times in the log")

    async def serving(self, processes: int = 1) -> str:
        """Wait until so many processes serve; their address."""
        return str((await self.until_logged("serving", processes))[0]["address"])

    def workers(self) -> list[psutil.Process]:
        """The living children."""
        return [one for one in psutil.Process(self.pid).children() if one.status() != psutil.STATUS_ZOMBIE]

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def ended(self, within: float = 60.0) -> int:
        """The exit code."""
        async with asyncio.timeout(within):
            return await self.process.wait()

    async def ensure_gone(self) -> None:
        if self.process.returncode is None:
            family = psutil.Process(self.pid).children(recursive=True)
            self.process.kill()
            await self.process.wait()
            for one in family:
                if one.is_running():
                    one.kill()


@dataclass
class ProcessWorld(RouterWorld):
    """A world whose routers are processes; `channel` leads to the first of them."""

    environment: dict[str, str] = field(default_factory=dict)
    folder: Path = Path()
    routers: list[RouterProcess] = field(default_factory=list)

    async def launch(self, **environment: str) -> RouterProcess:
        """Start one more router, without waiting for anything; `environment` is added."""
        log = self.folder / f"router-{len(self.routers)}.log"
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "mesh_router",
                env=os.environ | self.environment | environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        router = RouterProcess(process, Log(log))
        self.routers.append(router)
        self.stack.push_async_callback(router.ensure_gone)
        return router

    async def start(self, workers: int = 1, **environment: str) -> RouterProcess:
        """Start one more router and wait until all its workers serve; the first one's channel is ours."""
        router = await self.launch(MESH_ROUTER_WORKERS=str(workers), **environment)
        address = await router.serving(workers)
        if not self.address:
            self.address, self.channel = address, self.open(address)
        return router

    def open(self, target: str, *options: tuple[str, Any]) -> grpc.aio.Channel:
        """A channel with connections of its own, closed when the world ends."""
        channel = grpc.aio.insecure_channel(target, options=[("grpc.use_local_subchannel_pool", 1), *options])
        self.stack.push_async_callback(channel.close)
        return channel


@asynccontextmanager
async def process_world(
    postgres_url: str, etcd: str, cluster: str, folder: Path
) -> AsyncIterator[ProcessWorld]:
    """A world in which no router runs yet."""
    async with AsyncExitStack() as stack:
        database = await Database.open(DatabaseSettings(url=postgres_url, pool_size=4))
        stack.push_async_callback(database.close)
        client = patient_etcd_at(etcd)
        stack.push_async_callback(client.close)
        environment = {
            "MESH_CLUSTER_NAME": cluster,
            "MESH_DATABASE_URL": postgres_url,
            "MESH_DATABASE_POOL_SIZE": "4",
            "MESH_ETCD_ENDPOINTS": etcd,
            "MESH_AUTH_BOOTSTRAP_KEY": ADMIN_KEY,
            "MESH_AUTH_MESH_KEY": MESH_KEY,
            "MESH_SERVER_LISTEN": "127.0.0.1:0",
            "MESH_SERVER_METRICS_LISTEN": "127.0.0.1:0",
            "MESH_SERVER_DRAIN_SECONDS": "5",
            "MESH_TELEMETRY_LOG_FORMAT": "json",
        }
        channel = grpc.aio.insecure_channel("127.0.0.1:1")
        await channel.close()
        yield ProcessWorld(
            "", client, cluster, database, channel, stack, Stop(), environment=environment, folder=folder
        )


def pss(pid: int) -> int:
    """The memory of a process, its part of what it shares included, in bytes."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return next(int(line.split()[1]) * 1024 for line in rollup.splitlines() if line.startswith("Pss:"))
