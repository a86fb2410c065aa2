"""One part of the mesh as a supervised child process."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Mapping
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
    """Runs a plan again whenever its process ends by itself; the process ends with us, whatever happens to us."""

    def __init__(self, plan: ChildPlan) -> None:
        self.plan = plan
        self.restarts = 0
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = False

    @property
    def pid(self) -> int:
        return self._process.pid if self._process is not None else 0

    async def start(self) -> None:
        """Start the process and wait until it serves; raises `ServerFailed` with the end of its log."""
        await self._spawn()
        process = self._process
        assert process is not None
        ended = asyncio.create_task(process.wait(), name=f"{self.plan.name} ends")
        serving = asyncio.create_task(self._serving(), name=f"{self.plan.name} serves")
        try:
            await asyncio.wait(
                {ended, serving}, timeout=READY_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
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
        while not self._stopping:
            started = time.monotonic()
            assert self._process is not None
            await self._process.wait()
            if self._stopping:
                return
            backoff = FIRST_BACKOFF if time.monotonic() - started > STEADY_SECONDS else backoff
            await asyncio.sleep(backoff)
            backoff = min(backoff * 2, LONGEST_BACKOFF)
            self.restarts += 1
            await self._spawn()

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

    async def _spawn(self) -> None:
        command = [sys.executable, "-m", self.plan.module]
        wrapper = [sys.executable, "-I", "-S", launcher.__file__, str(os.getpid()), str(int(signal.SIGTERM)), "-"]
        with self.plan.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *wrapper,
                *command,
                env={**os.environ, **self.plan.environment},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for us: we drain the parts in order
            )

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
