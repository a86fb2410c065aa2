"""One part of the mesh as a child process that is started again whenever it ends."""

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

from mesh_cli.embedded.environment import inherited
from mesh_cli.embedded.errors import ServerEnded, ServerFailed
from mesh_cli.embedded.ports import LOOPBACK, ChosenPorts, children
from mesh_cli.up.keeping import local_time
from mesh_core.backoff import Backoff
from mesh_parent import command_line, launcher

READY_SECONDS = 60.0
STOP_SECONDS = 15.0
FIRST_BACKOFF, LONGEST_BACKOFF = 0.2, 5.0
STEADY_SECONDS = 30.0
POLL_SECONDS = 0.1
GRPC_ADDRESS = "MESH_SERVER_LISTEN"
METRICS_ADDRESS = "MESH_SERVER_METRICS_LISTEN"
WATCHED = frozenset({"mesh_session_node"})
"""Modules that run as the child of a watchdog."""


def part_command(module: str) -> list[str]:
    """Program and arguments that run a part, under its watchdog if it has one."""
    command = [sys.executable, "-m", module]
    if module not in WATCHED:
        return command
    return command_line("watchdog", {}, command)


@dataclass(frozen=True, slots=True)
class ChildPlan:
    """What to run: the part `module` with `environment`."""

    name: str
    module: str
    environment: Mapping[str, str]
    log: Path
    address: str = ""
    """Where it answers gRPC, host:port; empty: on a free port of loopback."""
    other_address: str = ""
    """A variable with another address that it listens on; it gets a free port of loopback."""

    @property
    def watched(self) -> bool:
        """Whether a watchdog stands between us and the part."""
        return self.module in WATCHED


class Child:
    """Runs a plan again whenever its process ends by itself; the process ends with us, however we end."""

    def __init__(self, plan: ChildPlan) -> None:
        self.plan = plan
        self._ports = ChosenPorts()
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = False
        self._part = 0

    @property
    def pid(self) -> int:
        """The part's own process; while its watchdog is about to start another, the one before."""
        if self._process is None:
            return 0
        self._part = _child_of(self._process.pid) or self._part if self.plan.watched else self._process.pid
        return self._part

    @property
    def address(self) -> str:
        """Where it answers gRPC."""
        return self.plan.address or self._address(GRPC_ADDRESS)

    @property
    def metrics(self) -> str:
        """Where its metrics page is, host:port."""
        return self._address(METRICS_ADDRESS)

    @property
    def other_address(self) -> str:
        """The address that the plan's `other_address` asked for."""
        return self._address(self.plan.other_address)

    @property
    def watchdog_pid(self) -> int:
        """0 for a part without a watchdog."""
        return self._process.pid if self._process is not None and self.plan.watched else 0

    async def start(self) -> None:
        """Start the process and wait until it serves; raises `ServerFailed` with the end of its log.

        It gets its ports at the first start, and keeps them.
        """
        await self._ports.start(self._start, ServerEnded)

    async def supervise(self, say: Callable[[str], None]) -> None:
        """Restart the process whenever it ends, with a backoff, until `stop`; `say` is told of it."""
        backoff = Backoff(FIRST_BACKOFF, LONGEST_BACKOFF)
        process = self._process or await self._spawn()
        while True:
            started = time.monotonic()
            status = await process.wait()
            if self._stopping:
                return
            if time.monotonic() - started > STEADY_SECONDS:
                backoff.reset()
            say(f"{local_time()} {self.plan.name} ended with status {status}; it is being started again")
            respawned = await self._respawn(backoff, say)
            if respawned is None:
                return
            process = respawned

    async def _respawn(
        self, backoff: Backoff, say: Callable[[str], None]
    ) -> asyncio.subprocess.Process | None:
        """Another process; None once we are to stop. What keeps it from starting may pass: a full disk."""
        told = ""
        while True:
            await asyncio.sleep(backoff.next())
            if self._stopping:
                return None
            try:
                return await self._spawn()
            except OSError as error:
                if told != str(error):
                    told = str(error)
                    say(f"{local_time()} {self.plan.name} cannot be started, trying on: {told}")

    async def stop(self) -> None:
        """Drain the process with SIGTERM; kill it when it takes longer than STOP_SECONDS."""
        self._stopping = True
        await self._end()

    async def _start(self) -> None:
        process = await self._spawn()
        ended = asyncio.create_task(self._ended(process), name=f"{self.plan.name} ends")
        serving = asyncio.create_task(self._serving(), name=f"{self.plan.name} serves")
        try:
            await asyncio.wait({ended, serving}, timeout=READY_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                await self._end()  # its watchdog, if it has one
                raise ServerEnded(self.plan.name, ended.result(), self.plan.log)
            if not serving.done():
                raise ServerFailed(
                    self.plan.name, f"did not serve within {READY_SECONDS:.0f} s", self.plan.log
                )
        finally:
            ended.cancel()
            serving.cancel()

    async def _end(self) -> None:
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
                *part_command(self.plan.module),
                env={**inherited(os.environ), **self.plan.environment, **self._addresses()},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for us: we drain the parts in order
            )
        return self._process

    def _addresses(self) -> dict[str, str]:
        addresses = {GRPC_ADDRESS: self.address, METRICS_ADDRESS: self.metrics}
        return addresses | ({self.plan.other_address: self.other_address} if self.plan.other_address else {})

    def _address(self, variable: str) -> str:
        return f"{LOOPBACK}:{self._ports.port(variable)}"

    async def _ended(self, process: asyncio.subprocess.Process) -> str:
        """Wait until the part has ended, though its watchdog would start it again; returns how it ended."""
        if not self.plan.watched:
            return f"ended with status {await process.wait()}"
        first = 0
        while process.returncode is None:
            now = _child_of(process.pid)
            if first and now != first:
                return "ended"
            first = now
            await asyncio.sleep(POLL_SECONDS)
        return f"ended with status {process.returncode}"

    async def _serving(self) -> None:
        """Return once the health service says so, and it is this part's own."""
        async with grpc.aio.insecure_channel(self.address, options=_QUICK_RECONNECT) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            watch = health.Watch(health_pb2.HealthCheckRequest(), wait_for_ready=True)
            async for answer in watch:
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    watch.cancel()
                    break
        while not (self._process and self._ports.listened_by(self._process.pid)):  # noqa: ASYNC110 - /proc tells nobody
            await asyncio.sleep(POLL_SECONDS)


def _child_of(watchdog_pid: int) -> int:
    """The process that a watchdog has as its child; 0 while there is none."""
    return next(iter(children(watchdog_pid)), 0)


_QUICK_RECONNECT = (
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 100),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
)
