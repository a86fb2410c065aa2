"""One part of the mesh as a supervised child process."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mesh_cli.embedded import launcher
from mesh_cli.embedded.errors import ServerFailed

READY_SECONDS = 60.0
STOP_SECONDS = 15.0
FIRST_BACKOFF, LONGEST_BACKOFF = 0.2, 5.0
STEADY_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class ChildPlan:
    """What to run: `python -m module` with `environment`, answering gRPC at `address`."""

    name: str
    module: str
    address: str
    environment: Mapping[str, str]
    log: Path


class Child:
    """Runs a plan again whenever its process ends by itself; the process ends with us, however we end."""

    def __init__(self, plan: ChildPlan) -> None:
        self.plan = plan
        self.on_restart: Callable[[], None] = lambda: None
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = False

    @property
    def pid(self) -> int:
        return self._process.pid if self._process is not None else 0

    async def start(self) -> None:
        """Start the process and wait until it serves; raises `ServerFailed` with the end of its log."""
        process = await self._spawn()
        ended = asyncio.create_task(process.wait(), name=f"{self.plan.name} ends")
        serving = asyncio.create_task(self._serving(), name=f"{self.plan.name} serves")
        try:
            await asyncio.wait({ended, serving}, timeout=READY_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                raise ServerFailed(self.plan.name, f"ended with status {ended.result()}", self.plan.log)
            if not serving.done():
                raise ServerFailed(
                    self.plan.name, f"did not serve within {READY_SECONDS:.0f} s", self.plan.log
                )
        finally:
            ended.cancel()
            serving.cancel()

    async def supervise(self) -> None:
        """Restart the process whenever it ends, with a backoff, until `stop`."""
        backoff = FIRST_BACKOFF
        process = self._process or await self._spawn()
        while True:
            started = time.monotonic()
            await process.wait()
            if time.monotonic() - started > STEADY_SECONDS:
                backoff = FIRST_BACKOFF
            await asyncio.sleep(backoff)
            backoff = min(backoff * 2, LONGEST_BACKOFF)
            if self._stopping:
                return
            process = await self._spawn()
            self.on_restart()

    async def stop(self) -> None:
        """Drain the process with SIGTERM; kill it when it takes longer than STOP_SECONDS."""
        self._stopping = True
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    async def _spawn(self) -> asyncio.subprocess.Process:
        death = str(int(signal.SIGTERM))
        tied = [sys.executable, "-I", "-S", launcher.__file__, str(os.getpid()), death, "-"]
        with self.plan.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *tied,
                sys.executable,
                "-m",
                self.plan.module,
                env={**os.environ, **self.plan.environment},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for us: we drain the parts in order
            )
        return self._process

    async def _serving(self) -> None:
        """Return once the health service says so."""
        async with grpc.aio.insecure_channel(self.plan.address, options=_QUICK_RECONNECT) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            watch = health.Watch(health_pb2.HealthCheckRequest(), wait_for_ready=True)
            async for answer in watch:
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    watch.cancel()
                    return


_QUICK_RECONNECT = (
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 100),
    ("grpc.use_local_subchannel_pool", 1),
)
