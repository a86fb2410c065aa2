"""The mesh's parts as processes that a test kills, freezes and starts again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
import grpc.aio
import psutil
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mesh_parent import launcher
from tests.support.eventually import eventually

READY_SECONDS = 60.0
STOP_SECONDS = 20.0
LOG_TAIL_LINES = 25
QUICK_RECONNECT = (
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 100),
    ("grpc.use_local_subchannel_pool", 1),
)


@dataclass(frozen=True, slots=True)
class PartPlan:
    """What to run: `command` with `environment` added to ours, answering gRPC at `address`."""

    name: str
    command: Sequence[str]
    address: str
    environment: Mapping[str, str]
    log: Path


class Part:
    """One process, and all that it starts. It ends with the test run, however that ends."""

    def __init__(self, plan: PartPlan) -> None:
        self.plan = plan
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def name(self) -> str:
        return self.plan.name

    @property
    def process(self) -> psutil.Process:
        """The process that was started; of a session-node that is its watchdog."""
        assert self._process is not None, f"{self.name} was not started"
        return psutil.Process(self._process.pid)

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    async def start(self) -> None:
        """Start it and wait until it serves."""
        self.spawn()
        await self.until_serving()

    def spawn(self) -> None:
        death = str(int(signal.SIGKILL))
        tied = [sys.executable, "-I", "-S", launcher.__file__, str(os.getpid()), death, "-"]
        with self.plan.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*tied, *self.plan.command],
                env={**os.environ, **self.plan.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    async def until_serving(self) -> None:
        """Until its health service says so; AssertionError with the end of its log when it ended instead."""
        async with grpc.aio.insecure_channel(self.plan.address, options=QUICK_RECONNECT) as channel:
            health = health_pb2_grpc.HealthStub(channel)

            async def serving() -> bool:
                assert self.running, f"{self.name} ended\n{self.log_tail()}"
                try:
                    answer = await health.Check(health_pb2.HealthCheckRequest(), timeout=1)
                except grpc.aio.AioRpcError:
                    return False
                return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

            await eventually(serving, READY_SECONDS, f"{self.name} serving")

    async def stop(self) -> int:
        """Drain it with SIGTERM; its exit code. Kills it when that takes too long, and says so."""
        assert self._process is not None
        process = self._process
        if process.poll() is None:
            process.terminate()
            try:
                await eventually(lambda: process.poll() is not None, STOP_SECONDS, f"the end of {self.name}")
            except AssertionError:
                self.ensure_gone()
                raise AssertionError(f"{self.name} did not stop\n{self.log_tail()}") from None
        return process.wait()

    async def kill(self) -> None:
        """SIGKILL to the process that was started, and wait for the end of all that it had started."""
        assert self._process is not None
        family = self.family()
        self._process.kill()
        self._process.wait()
        await eventually(
            lambda: not any(_lives(one) for one in family), STOP_SECONDS, f"the end of all of {self.name}"
        )

    def family(self) -> list[psutil.Process]:
        """Its processes that live now."""
        if not self.running:
            return []
        return [self.process, *self.process.children(recursive=True)]

    def ensure_gone(self) -> None:
        """End it the hard way, with all that it started."""
        if self._process is not None:
            for process in self.family():
                if process.is_running():
                    process.kill()
            self._process.wait()

    def log_tail(self) -> str:
        lines = self.plan.log.read_text(errors="replace").splitlines()
        return "\n".join([f"--- {self.plan.log}", *lines[-LOG_TAIL_LINES:]])


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
