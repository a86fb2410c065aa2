"""The session-nodes' processes and their sidecars', and what ends them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from pathlib import Path

import psutil

from bench.measuring.processes import pss_kb
from bench.mesh.operator import NotMeasured
from bench.mesh.running import RunningMesh
from mesh_cli.embedded.ports import children

NODES = ("node-1", "node-2")
SIDECAR = "whatsapp-web-sidecar"
_PROCESS_SECONDS = 30.0
_POLL_SECONDS = 0.05


class Nodes:
    """Those of `NODES`, whichever processes they are just now."""

    def __init__(self, mesh: RunningMesh) -> None:
        self._mesh = mesh
        self._watchdogs = {name: mesh.file.parts[name].watchdog_pid for name in NODES}

    def memory_mb(self) -> float:
        """Memory of all nodes and their sidecars, shared pages divided among those who share them."""
        processes = [
            process
            for watchdog in self._watchdogs.values()
            for process in psutil.Process(watchdog).children(recursive=True)
        ]
        return sum(pss_kb(process.pid) for process in processes) / 1024

    async def kill_node(self, name: str) -> float:
        """SIGKILL it, its sidecar goes with it, and its watchdog starts another; when that was."""
        return _kill(await self._node(name))

    async def kill_sidecar(self, name: str) -> float:
        """SIGKILL that of a node; when that was."""
        until = time.monotonic() + _PROCESS_SECONDS
        while time.monotonic() < until:
            with contextlib.suppress(psutil.NoSuchProcess, StopIteration):
                return _kill(sidecar_of(await self._node(name)))
            await asyncio.sleep(_POLL_SECONDS)
        raise NotMeasured(f"{name} has no sidecar")

    async def start_again(self) -> float:
        """Kill all nodes with their watchdogs, and start them; when they began to start."""
        for watchdog in self._watchdogs.values():
            _kill(watchdog)
        began = time.monotonic()
        parts = await self._mesh.start_parts(*NODES)
        for name, part in zip(NODES, parts, strict=True):
            self._watchdogs[name] = part.watchdog_pid
        return began

    async def _node(self, name: str) -> int:
        until = time.monotonic() + _PROCESS_SECONDS
        while time.monotonic() < until:
            if found := children(self._watchdogs[name]):
                return found[0]
            await asyncio.sleep(_POLL_SECONDS)
        raise NotMeasured(f"{name} was not started again")


def sidecar_of(node: int) -> int:
    """The process id of a node's sidecar. Raises `StopIteration` when it has none, `psutil.NoSuchProcess`."""
    return next(
        child.pid
        for child in psutil.Process(node).children()
        if Path((child.cmdline() or [""])[0]).name == SIDECAR
    )


def _kill(pid: int) -> float:
    now = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    return now
