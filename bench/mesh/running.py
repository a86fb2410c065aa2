"""The whole mesh on this machine, with the environment that a benchmark wants, and what its processes use."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.measuring.processes import cpu_seconds_of_tree
from mesh_cli.up.stack import SIMULATED, Stack
from mesh_cli.up.state import MeshFile, Part

_SERVERS = {"postgres": "Postgres", "etcd": "etcd", "valkey-server": "Redis", "redis-server": "Redis"}


@dataclass(frozen=True, slots=True)
class RunningMesh:
    """Where the mesh is, the process id of each part and backing server by name, what changes them, and the
    environment that all parts get.
    """

    file: MeshFile
    processes: Mapping[str, int]
    stack: Stack
    environment: Mapping[str, str]

    @property
    def logs(self) -> Path:
        """The parts' logs, a file `NAME.log` each."""
        return Path(self.file.state) / "logs"

    def cpu_seconds(self) -> dict[str, float]:
        """What each process, with all that it started, has used so far."""
        return {name: cpu_seconds_of_tree(pid) for name, pid in self.processes.items()}

    async def start_parts(self, *names: str) -> list[Part]:
        """Start parts whose processes have ended, with the environment that they had."""
        with _in_environment(self.environment):
            return await asyncio.gather(*(self.stack.start_part(name) for name in names))

    @property
    def database_url(self) -> str:
        """As an administrator of Postgres."""
        return self.file.servers["MESH_DATABASE_URL"]


@contextlib.asynccontextmanager
async def running_mesh(
    nodes: int, environment: Mapping[str, str], driver: str = SIMULATED
) -> AsyncIterator[RunningMesh]:
    """The mesh of `mesh up` in a folder that goes away with it, on a network of ours for `driver`. Every part
    gets `environment`.
    """
    with tempfile.TemporaryDirectory(prefix="mesh-bench-", ignore_cleanup_errors=True) as folder:
        stack = Stack(
            Path(folder),
            nodes=nodes,
            port=0,
            progress=lambda _step: None,
            driver=driver,
            fake_network=driver != SIMULATED,
        )
        others = {child.pid for child in psutil.Process().children()}
        with _in_environment(environment):
            file = await stack.start()
        try:
            parts = {name: part.pid for name, part in file.parts.items()}
            processes = parts | _servers(others)
            if ended := [name for name, pid in processes.items() if not psutil.pid_exists(pid)]:
                raise RuntimeError(f"ended while the mesh started: {', '.join(ended)}")
            yield RunningMesh(file, processes, stack, environment)
        finally:
            await stack.stop()


def _servers(others: Set[int]) -> dict[str, int]:
    """The backing servers are children of this process, as are the parts, and `others` of another mesh."""
    named = {child.name(): child.pid for child in psutil.Process().children() if child.pid not in others}
    return {name: named[program] for program, name in _SERVERS.items() if program in named}


@contextlib.contextmanager
def _in_environment(environment: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(environment)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
