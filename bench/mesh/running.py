"""The whole mesh on this machine, with the environment that a benchmark wants, and what its processes use."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.processes import cpu_seconds_of_tree
from mesh_cli.embedded import free_port
from mesh_cli.up.stack import Stack
from mesh_cli.up.state import MeshFile
from mesh_core.channels import open_channel
from sessionmesh.v1 import fleet_pb2, fleet_pb2_grpc

_SHARED_SECONDS = 60.0
_POLL_SECONDS = 0.2
_SERVERS = {"postgres": "Postgres", "etcd": "etcd", "redis-server": "Redis"}


@dataclass(frozen=True, slots=True)
class RunningMesh:
    """Where the mesh is, and the process id of each part and backing server by name."""

    file: MeshFile
    processes: Mapping[str, int]

    def cpu_seconds(self) -> dict[str, float]:
        """What each process, with all that it started, has used so far."""
        return {name: cpu_seconds_of_tree(pid) for name, pid in self.processes.items()}

    @property
    def database_url(self) -> str:
        """As an administrator of Postgres."""
        return self.file.servers["MESH_DATABASE_URL"]


@contextlib.asynccontextmanager
async def running_mesh(nodes: int, environment: Mapping[str, str]) -> AsyncIterator[RunningMesh]:
    """The mesh of `mesh up` in a folder that goes away with it. Every part gets `environment`."""
    with tempfile.TemporaryDirectory(prefix="mesh-bench-", ignore_cleanup_errors=True) as folder:
        stack = Stack(Path(folder), nodes=nodes, port=free_port(), progress=lambda _step: None)
        with _in_environment(environment):
            file = await stack.start()
        try:
            await _until_shared(file, nodes)
            parts = {name: part.pid for name, part in file.parts.items()}
            processes = parts | _servers()
            if ended := [name for name, pid in processes.items() if not psutil.pid_exists(pid)]:
                raise RuntimeError(f"ended while the mesh started: {', '.join(ended)}")
            yield RunningMesh(file, processes)
        finally:
            await stack.stop()


async def _until_shared(file: MeshFile, nodes: int) -> None:
    """Wait until every node runs the shards that it shall run: none moves under the measurement."""
    metadata = (("authorization", f"Bearer {file.admin_key}"),)
    async with asyncio.timeout(_SHARED_SECONDS), open_channel(file.address) as channel:
        fleet = fleet_pb2_grpc.FleetServiceStub(channel)
        while True:
            placed = await fleet.GetPlacement(fleet_pb2.GetPlacementRequest(), metadata=metadata, timeout=10)
            running = {
                shard.node_id
                for shard in placed.shards
                if shard.node_id == shard.assigned_node_id and shard.state == fleet_pb2.OWNER_STATE_ACTIVE
            }
            astray = any(shard.node_id != shard.assigned_node_id for shard in placed.shards)
            if len(running) == nodes and not astray and not placed.unowned:
                return
            await asyncio.sleep(_POLL_SECONDS)


def _servers() -> dict[str, int]:
    """The backing servers are children of this process, as are the parts."""
    named = {child.name(): child.pid for child in psutil.Process().children()}
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
