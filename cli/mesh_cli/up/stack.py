"""The whole mesh on one machine: backing servers, then every part as a child process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import grpc

from mesh_cli.embedded import EmbeddedServer
from mesh_cli.embedded.environment import forget_misleading
from mesh_cli.embedded.ports import LOOPBACK, is_taken
from mesh_cli.traces.collector import Collector
from mesh_cli.up.backing import Backing
from mesh_cli.up.child import Child, ChildPlan
from mesh_cli.up.state import MeshFile, Part, Secrets, StateDirectory
from mesh_core.database.migrations import migrate
from mesh_core.errors import FailedPrecondition, MeshError
from sessionmesh.admin.v1 import fleet_pb2, fleet_pb2_grpc
from sessionmesh.simulator.v1 import simulator_pb2, simulator_pb2_grpc

ASSIGNED_SECONDS = 30.0
ASSIGNED_POLL_SECONDS = 0.1
PIDS_POLL_SECONDS = 0.25
LEAST_SHARE = 0.95
"""Of the shards that a node would own if all owned the same number."""
SETTLED_SECONDS = 2.0
"""Nodes get even shares of the load, and their numbers of shards may stay uneven: a table that did
not change for so long is taken for final."""
SIMULATOR = "simulator"
SIMULATED = "simulated"
_LINKS = "MESH_LINKS_LISTEN"
Progress = Callable[[str], None]


class Stack:
    """Starts, watches and stops everything; `progress` is told each step as it begins."""

    def __init__(
        self,
        state: Path,
        *,
        nodes: int,
        port: int,
        progress: Progress,
        s3: bool = False,
        driver: str = SIMULATED,
        fake_network: bool = False,
    ) -> None:
        """`port` is the router's; 0 takes a free one. `s3`: objects are in a real S3, else in a directory.

        Accounts are of `driver` unless they name another. `fake_network`: whatsapp_web has a network to test
        with in place of WhatsApp.
        """
        self._state = StateDirectory(state)
        self._nodes = nodes
        self._port = port
        self._progress = progress
        self._driver = driver
        self._fake_network = fake_network
        self._backing = Backing(s3=s3)
        self._collector = Collector()
        self._children: dict[str, Child] = {}
        self._node_environment: dict[str, str] = {}
        self._announced: dict[str, Part] = {}

    async def start(self) -> MeshFile:
        """Start everything and return where it is.

        Raises `StateInUse`, `FailedPrecondition` for a port in use, `ServerFailed` naming what did not start;
        then nothing is left running.
        """
        forget_misleading()
        self._state.take()
        try:
            _refuse_taken_port(self._port)
            return await self._start_parts()
        except BaseException:  # Ctrl-C during the start too
            await self.stop()
            raise

    async def run(self) -> None:
        """Keep every part running until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for name, child in self._children.items():
                tasks.create_task(child.supervise(self._progress), name=f"supervise {name}")
            tasks.create_task(self._backing.supervise(self._progress), name="supervise servers")
            tasks.create_task(self._keep_announced(), name="announce")

    async def stop(self) -> None:
        """Drain the parts, then stop the servers; the data stay in the state directory."""
        self._state.withdraw()
        simulator = {SIMULATOR} & self._children.keys()
        for names in (self._children.keys() - simulator, simulator):  # the network outlives its clients
            await asyncio.gather(*(self._children[name].stop() for name in names))
        await self._collector.stop()
        await self._backing.stop()
        self._state.release()

    async def add_node(self, name: str, environment: Mapping[str, str]) -> Part:
        """Start one more session-node and wait until it serves. A `run` under way does not restart it.

        `environment` is added to what all nodes get. Raises `ServerFailed`.
        """
        self._add(name, "mesh_session_node", {**self._node_environment, "MESH_NODE_ID": name, **environment})
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
        """The backing server `etcd`, `postgres`, `redis` or `s3`, to be stopped and started where it was.

        Raises `KeyError` when the environment gave it.
        """
        return self._backing.embedded[name]

    async def _start_parts(self) -> MeshFile:
        secrets = self._state.secrets()
        self._progress("backing servers: etcd, Postgres, Redis, object store")
        await self._collector.start()
        await self._backing.start(self._state.path)
        common = self._common_environment(secrets)
        self._progress("database schema, simulated network")
        direct = os.environ.get("MESH_DATABASE_DIRECT_URL")
        schema = migrate(direct or self._backing.environment["MESH_DATABASE_URL"])
        _, network = await _all_or_first_error(schema, self._start_network(common, secrets))
        self._progress(f"router, {self._nodes} session-nodes, media, webhook")
        await _all_or_first_error(*(child.start() for child in self._add_parts(common, network)))
        self._progress("assignment of accounts to session-nodes")
        await _until_assigned(self._children["router"].address, secrets.admin_key, self._nodes)
        return self._announce(secrets)

    def _common_environment(self, secrets: Secrets) -> dict[str, str]:
        return self._backing.environment | {
            "MESH_AUTH_BOOTSTRAP_KEY": secrets.admin_key,
            "MESH_AUTH_MESH_KEY": secrets.mesh_key,
            "MESH_SECRETS_MASTER_KEY": secrets.master_key,
            **({} if self._driver == SIMULATED else {"MESH_CLUSTER_DEFAULT_DRIVER": self._driver}),
            "MESH_TELEMETRY_LOG_FORMAT": "json",
            **self._tracing(),
        }

    async def _start_network(self, common: dict[str, str], secrets: Secrets) -> dict[str, str]:
        """Start the network; returns what session-nodes must be told of it."""
        if self._fake_network:
            return await self._start_fake_network(common, secrets)
        if given := os.environ.get("MESH_SIMNET_ADDRESS"):
            return {"MESH_SIMNET_ADDRESS": given}
        simulated = {"MESH_SIMULATOR_STATE": str(self._state.path / "network")}
        network = self._add(SIMULATOR, "mesh_simulator", common | simulated, other="MESH_SIMULATOR_LISTEN")
        await network.start()
        return {"MESH_SIMNET_ADDRESS": network.other_address}

    async def _start_fake_network(self, common: dict[str, str], secrets: Secrets) -> dict[str, str]:
        """Start a network of WhatsApp Web's protocol."""
        state = {"MESH_SIMULATOR_STATE": str(self._state.path / "whatsapp-web-network")}
        module = "mesh_simulator.whatsapp_web"
        network = self._add(SIMULATOR, module, common | state, other="MESH_SIMULATOR_LISTEN")
        await network.start()
        async with grpc.aio.insecure_channel(network.address) as channel:
            seen = await simulator_pb2_grpc.SimulatorServiceStub(channel).GetNetworkStats(
                simulator_pb2.GetNetworkStatsRequest(), metadata=_authorization(secrets.admin_key)
            )
        return {
            "MESH_WHATSAPP_WEB_TEST_NETWORK": seen.address,
            "MESH_WHATSAPP_WEB_TEST_ROOT": seen.root_key.hex(),
        }

    def _add_parts(self, common: dict[str, str], network: dict[str, str]) -> list[Child]:
        # The simulated network bans nobody for pairing often.
        pairing = _unless_given("MESH_SESSION_PAIRING_INTERVAL_SECONDS", "0")
        self._node_environment = common | pairing | network
        local_webhooks = _unless_given("MESH_WEBHOOK_ALLOW_PRIVATE_ADDRESSES", "true")
        local_webhooks |= _unless_given("MESH_WEBHOOK_ALLOW_HTTP", "true")
        names = [f"node-{number}" for number in range(1, self._nodes + 1)]
        return [
            self._add("router", "mesh_router", common, f"{LOOPBACK}:{self._port}" if self._port else ""),
            *(
                self._add(name, "mesh_session_node", self._node_environment | {"MESH_NODE_ID": name})
                for name in names
            ),
            self._add("media", "mesh_media", common, other="" if os.environ.get(_LINKS) else _LINKS),
            self._add("webhook", "mesh_webhook", common | local_webhooks),
        ]

    def _add(
        self, name: str, module: str, environment: Mapping[str, str], address: str = "", other: str = ""
    ) -> Child:
        log = self._state.logs / f"{name}.log"
        child = Child(ChildPlan(name, module, environment, log, address, other))
        self._children[name] = child
        return child

    def _tracing(self) -> dict[str, str]:
        elsewhere = ("OTEL_EXPORTER_OTLP_ENDPOINT", "MESH_TELEMETRY_OTLP_ENDPOINT")
        if any(map(os.environ.get, elsewhere)) or os.environ.get("OTEL_TRACES_EXPORTER") == "none":
            return {}
        ratio = os.environ.get("MESH_TELEMETRY_SAMPLE_RATIO", "1")
        return {
            "MESH_TELEMETRY_OTLP_ENDPOINT": self._collector.otlp_endpoint,
            "MESH_TELEMETRY_SAMPLE_RATIO": ratio,
        }

    def _announce(self, secrets: Secrets) -> MeshFile:
        mesh = MeshFile(
            address=self._children["router"].address,
            admin_key=secrets.admin_key,
            traces_url=self._collector.query_url,
            state=str(self._state.path),
            supervisor_pid=os.getpid(),
            parts=self._parts(),
            servers=self._backing.addresses,
        )
        self._state.announce(mesh)
        self._announced = mesh.parts
        return mesh

    def _parts(self) -> dict[str, Part]:
        return {
            name: Part(child.pid, child.address, child.metrics, child.watchdog_pid)
            for name, child in self._children.items()
        }

    async def _keep_announced(self) -> None:
        """Write mesh.json again whenever a part has another process, which we or its watchdog started."""
        secrets = self._state.secrets()
        told = ""
        while True:
            await asyncio.sleep(PIDS_POLL_SECONDS)
            if self._parts() == self._announced:
                continue
            try:
                self._announce(secrets)
            except (MeshError, OSError) as error:  # nobody's calls depend on it
                if told != str(error):
                    told = str(error)
                    self._progress(f"{self._state.mesh_file} cannot be written: {told}")


def _refuse_taken_port(port: int) -> None:
    if port and is_taken(port):
        raise FailedPrecondition(
            f"port {port} on {LOOPBACK} is in use; choose another with --port, or stop what uses it",
            "RESOURCE_EXISTS",
        )


async def _all_or_first_error(*starts: Awaitable[Any]) -> list[Any]:
    """Wait for all, and return their results; the first failure is raised once the others have ended too."""
    results = await asyncio.gather(*starts, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


async def _until_assigned(router: str, key: str, nodes: int) -> None:
    """Wait until every node owns its share of the accounts: while accounts move, their streams end."""
    metadata = _authorization(key)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(ASSIGNED_SECONDS), grpc.aio.insecure_channel(router) as channel:
            fleet = fleet_pb2_grpc.FleetServiceStub(channel)
            revision, since = 0, 0.0
            while True:
                await asyncio.sleep(ASSIGNED_POLL_SECONDS)
                placement = await fleet.GetPlacement(
                    fleet_pb2.GetPlacementRequest(), metadata=metadata, timeout=5
                )
                if placement.table_revision != revision or not _is_settled(placement, nodes):
                    revision, since = placement.table_revision, time.monotonic()
                if _is_settled(placement, nodes) and (
                    _is_even(placement, nodes) or time.monotonic() - since >= SETTLED_SECONDS
                ):
                    return
    raise FailedPrecondition(
        f"not every session-node has its accounts after {ASSIGNED_SECONDS:.0f} s; see their logs",
        "BACKEND_UNAVAILABLE",
    )


def _authorization(key: str) -> tuple[tuple[str, str]]:
    return (("authorization", f"Bearer {key}"),)


def _is_settled(placement: fleet_pb2.GetPlacementResponse, nodes: int) -> bool:
    """Whether every shard is owned by the node that it is assigned to, and every node owns some."""
    if placement.unowned or any(shard.node_id != shard.assigned_node_id for shard in placement.shards):
        return False
    return len({shard.node_id for shard in placement.shards}) == nodes


def _is_even(placement: fleet_pb2.GetPlacementResponse, nodes: int) -> bool:
    """Whether no node owns much less than its share of the shards."""
    owned = Counter(shard.node_id for shard in placement.shards)
    return min(owned.values()) >= LEAST_SHARE * len(placement.shards) / nodes


def _unless_given(variable: str, value: str) -> dict[str, str]:
    """What suits a mesh on one machine, where the environment does not say otherwise."""
    return {} if variable in os.environ else {variable: value}
