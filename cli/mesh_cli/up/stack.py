"""The whole mesh on one machine: backing servers, then every part as a child process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path

import grpc

from mesh_cli.embedded import EmbeddedServer, free_port
from mesh_cli.traces.collector import Collector
from mesh_cli.up.backing import Backing
from mesh_cli.up.child import Child, ChildPlan
from mesh_cli.up.state import MeshFile, Part, Secrets, StateDirectory
from mesh_core.database.migrations import migrate
from mesh_core.errors import FailedPrecondition
from sessionmesh.v1 import fleet_pb2, fleet_pb2_grpc

LOOPBACK = "127.0.0.1"
SHARED_SECONDS = 30.0
SHARED_POLL_SECONDS = 0.1
PIDS_POLL_SECONDS = 0.25
LEAST_SHARE = 0.95
QUIET_SECONDS = 2.0
"""Shares are even by load, which by number of shards they need not be: a table that stood so long stays."""
Progress = Callable[[str], None]


class Stack:
    """Start, watch and stop everything; `progress` is told each step as it begins."""

    def __init__(self, state: Path, *, nodes: int, port: int, progress: Progress) -> None:
        self._state = StateDirectory(state)
        self._nodes = nodes
        self._router_address = f"{LOOPBACK}:{port}"
        self._progress = progress
        self._backing = Backing()
        self._collector = Collector()
        self._children: dict[str, Child] = {}
        self._node_environment: dict[str, str] = {}
        self._announced: dict[str, Part] = {}

    async def start(self) -> MeshFile:
        """Start everything and return where it is.

        Raises `StateInUse`, `FailedPrecondition` for a port in use, `ServerFailed` naming what did not start;
        then nothing is left running.
        """
        _refuse_used_port(self._router_address)
        self._state.take()
        try:
            return await self._start_parts()
        except BaseException:  # Ctrl-C during the start too
            await self.stop()
            raise

    async def run(self) -> None:
        """Keep every part running until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for name, child in self._children.items():
                tasks.create_task(child.supervise(), name=f"supervise {name}")
            tasks.create_task(self._keep_announced(), name="announce")

    async def stop(self) -> None:
        """Drain the parts, then stop the servers; the data stay in the state directory."""
        self._state.withdraw()
        for names in (self._front(), self._rest()):
            await asyncio.gather(*(self._children[name].stop() for name in names))
        await self._collector.stop()
        await self._backing.stop()
        self._state.release()

    async def add_node(self, name: str, environment: Mapping[str, str]) -> Part:
        """Start one more session-node and wait until it serves; a `run` under way does not watch it.

        `environment` is added to what all nodes get. Raises `ServerFailed`.
        """
        plan = self._plan(
            name, "mesh_session_node", {**self._node_environment, "MESH_NODE_ID": name, **environment}
        )
        self._children[name] = Child(plan)
        return await self.start_part(name)

    async def start_part(self, name: str) -> Part:
        """Start a part whose process has ended; raises `ServerFailed`."""
        await self._children[name].start()
        return self._announce(self._state.secrets()).parts[name]

    async def stop_part(self, name: str) -> None:
        """Drain and end one part for good."""
        await self._children.pop(name).stop()
        self._announce(self._state.secrets())

    def server(self, name: str) -> EmbeddedServer:
        """The backing server `etcd`, `postgres` or `redis`, to be stopped and started again at its address.

        Raises `KeyError` when the environment gave it.
        """
        return self._backing.embedded[name]

    async def _start_parts(self) -> MeshFile:
        secrets = self._state.secrets()
        self._progress("backing servers: etcd, Postgres, Redis, object store")
        await self._collector.start()
        await self._backing.start(self._state.path)
        self._progress("database schema")
        direct = os.environ.get("MESH_DATABASE_DIRECT_URL")
        await migrate(direct or self._backing.environment["MESH_DATABASE_URL"])
        self._progress(f"simulated network, router, {self._nodes} session-nodes, media, webhook")
        self._children = {plan.name: Child(plan) for plan in self._plans(secrets)}
        await _all_or_first_error([child.start() for child in self._children.values()])
        self._progress("session-nodes share out the accounts")
        await _until_shared_out(self._router_address, secrets.admin_key, self._nodes)
        return self._announce(secrets)

    def _plans(self, secrets: Secrets) -> list[ChildPlan]:
        network = os.environ.get("MESH_SIMNET_ADDRESS", "")
        common = self._backing.environment | {
            "MESH_AUTH_BOOTSTRAP_KEY": secrets.admin_key,
            "MESH_AUTH_MESH_KEY": secrets.mesh_key,
            "MESH_SECRETS_MASTER_KEY": secrets.master_key,
            "MESH_TELEMETRY_LOG_FORMAT": "json",
            **self._tracing(),
        }
        plans = []
        if not network:
            network = f"{LOOPBACK}:{free_port()}"
            simulated = {
                "MESH_SIMULATOR_LISTEN": network,
                "MESH_SIMULATOR_STATE": str(self._state.path / "network"),
            }
            plans.append(self._plan("simulator", "mesh_simulator", common | simulated))
        # The simulated network bans nobody for pairing often.
        node = common | {"MESH_SIMNET_ADDRESS": network, "MESH_SESSION_PAIRING_INTERVAL_SECONDS": "0"}
        self._node_environment = node
        plans.append(self._plan("router", "mesh_router", common, self._router_address))
        plans += [
            self._plan(f"node-{n}", "mesh_session_node", node | {"MESH_NODE_ID": f"node-{n}"})
            for n in range(1, self._nodes + 1)
        ]
        plans.append(self._plan("media", "mesh_media", common))
        on_this_machine = {"MESH_WEBHOOK_ALLOW_PRIVATE_ADDRESSES": "true", "MESH_WEBHOOK_ALLOW_HTTP": "true"}
        plans.append(self._plan("webhook", "mesh_webhook", common | on_this_machine))
        return plans

    def _plan(self, name: str, module: str, environment: dict[str, str], address: str = "") -> ChildPlan:
        address = address or f"{LOOPBACK}:{free_port()}"
        listen = {
            "MESH_SERVER_LISTEN": address,
            "MESH_SERVER_METRICS_LISTEN": f"{LOOPBACK}:{free_port()}",
        }
        return ChildPlan(name, module, address, environment | listen, self._state.logs / f"{name}.log")

    def _tracing(self) -> dict[str, str]:
        if os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or os.environ.get("MESH_TELEMETRY_OTLP_ENDPOINT"):
            return {}
        ratio = os.environ.get("MESH_TELEMETRY_SAMPLE_RATIO", "1")
        return {
            "MESH_TELEMETRY_OTLP_ENDPOINT": self._collector.otlp_endpoint,
            "MESH_TELEMETRY_SAMPLE_RATIO": ratio,
        }

    def _announce(self, secrets: Secrets) -> MeshFile:
        mesh = MeshFile(
            address=self._router_address,
            admin_key=secrets.admin_key,
            traces_url=self._collector.query_url,
            state=str(self._state.path),
            supervisor_pid=os.getpid(),
            parts=self._parts(),
            servers=dict(self._backing.environment),
        )
        self._state.announce(mesh)
        self._announced = mesh.parts
        return mesh

    def _parts(self) -> dict[str, Part]:
        return {
            name: Part(
                child.pid,
                child.plan.address,
                child.plan.environment["MESH_SERVER_METRICS_LISTEN"],
                child.watchdog_pid,
            )
            for name, child in self._children.items()
        }

    async def _keep_announced(self) -> None:
        """Write mesh.json again whenever a part was restarted under another pid, by us or its watchdog."""
        secrets = self._state.secrets()
        while True:
            await asyncio.sleep(PIDS_POLL_SECONDS)
            if self._parts() != self._announced:
                self._announce(secrets)

    def _front(self) -> list[str]:
        """What takes calls and talks to the network; the simulated network must outlive it."""
        return [name for name in self._children if name != "simulator"]

    def _rest(self) -> list[str]:
        return [name for name in self._children if name == "simulator"]


def _refuse_used_port(address: str) -> None:
    host, _, port = address.rpartition(":")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, int(port)))
        except OSError:
            raise FailedPrecondition(
                f"port {port} on {host} is in use; choose another with --port, or stop what uses it",
                "RESOURCE_EXISTS",
            ) from None


async def _all_or_first_error(starts: Iterable[Awaitable[None]]) -> None:
    """Wait for all; the first failure is raised once the others have ended too."""
    for result in await asyncio.gather(*starts, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result


async def _until_shared_out(router: str, key: str, nodes: int) -> None:
    """Wait until every node owns its share: before that accounts move, which ends their streams."""
    metadata = (("authorization", f"Bearer {key}"),)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(SHARED_SECONDS), grpc.aio.insecure_channel(router) as channel:
            fleet = fleet_pb2_grpc.FleetServiceStub(channel)
            revision, since = 0, 0.0
            while True:
                await asyncio.sleep(SHARED_POLL_SECONDS)
                placement = await fleet.GetPlacement(
                    fleet_pb2.GetPlacementRequest(), metadata=metadata, timeout=5
                )
                if placement.table_revision != revision or not _is_settled(placement, nodes):
                    revision, since = placement.table_revision, time.monotonic()
                if _is_settled(placement, nodes) and (
                    _is_even(placement, nodes) or time.monotonic() - since >= QUIET_SECONDS
                ):
                    return
    raise FailedPrecondition(
        f"the accounts are not shared out after {SHARED_SECONDS:.0f} s; see the session-nodes' logs",
        "BACKEND_UNAVAILABLE",
    )


def _is_settled(placement: fleet_pb2.GetPlacementResponse, nodes: int) -> bool:
    """Every shard is owned by whom it is assigned to, and every node has some."""
    if placement.unowned or any(shard.node_id != shard.assigned_node_id for shard in placement.shards):
        return False
    return len({shard.node_id for shard in placement.shards}) == nodes


def _is_even(placement: fleet_pb2.GetPlacementResponse, nodes: int) -> bool:
    """No node has much less than its share of the shards."""
    owned = Counter(shard.node_id for shard in placement.shards)
    return min(owned.values()) >= LEAST_SHARE * len(placement.shards) / nodes
