"""A real mesh of processes whose every part and server a test may harm, with the whole history on record."""

from __future__ import annotations

import asyncio
import base64
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeAlias

import asyncpg

from mesh_cli.embedded import free_port
from mesh_cli.embedded.ports import LOOPBACK
from mesh_cli.up.child import part_command
from mesh_core.database.migrations import migrate
from mesh_core.etcd import Etcd as EtcdClient
from mesh_core.etcd import EtcdUnavailable
from mesh_core.ids import shard_of
from mesh_core.ownership.keys import ClusterKeys
from tests.faults.fleet.etcd_cluster import EtcdCluster
from tests.faults.fleet.ledger import Logins, read_logins
from tests.faults.fleet.node import Node
from tests.faults.fleet.parts import Part, PartPlan
from tests.faults.fleet.recorder import record_history
from tests.faults.fleet.servers import Etcd, Postgres
from tests.faults.fleet.sites import Host, Site
from tests.support.eventually import eventually
from tests.support.placement import Placement, read_placement

CLUSTER = "faults"
SETTLE_SECONDS = 60.0
Prepare: TypeAlias = "Callable[[asyncpg.Pool], Awaitable[None]]"
AWAY = (OSError, EtcdUnavailable, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError)
"""What a look at the servers raises while one of them is being harmed."""


class FaultMesh:
    """etcd, Postgres, simulated network, router, webhook service and session-nodes under their watchdogs.

    With a `site`, the nodes live there and can be cut off.
    """

    def __init__(self, folder: Path, etcd: Etcd | EtcdCluster, site: Site | None = None) -> None:
        self.folder = folder
        self.logs = folder / "logs"
        self.temporary = folder / "tmp"
        self.admin_key = f"smadmin_{secrets.token_urlsafe(32)}"
        self.etcd = etcd
        self.postgres = Postgres(folder)
        self.parts: dict[str, Part] = {}
        self.nodes: dict[str, Node] = {}
        self._site = site
        self._common: dict[str, str] = {}
        self._client: EtcdClient | None = None
        self._database: asyncpg.Pool | None = None

    @property
    def router(self) -> str:
        """Where callers call."""
        return self.parts["router"].plan.address

    @property
    def client(self) -> EtcdClient:
        """The test's own client of etcd."""
        assert self._client is not None
        return self._client

    @property
    def database(self) -> asyncpg.Pool:
        """The test's own connections to Postgres."""
        assert self._database is not None
        return self._database

    async def start(self, nodes: int, environment: Mapping[str, str], prepare: Prepare | None) -> None:
        """Everything, until each node has its share."""
        for folder in (self.logs, self.temporary):
            folder.mkdir()
        await asyncio.gather(self.etcd.start(), self.postgres.start())
        if self._site is not None:
            await self._site.open(self.etcd.url, self.postgres.url)
        await migrate(self.postgres.url)
        self._client = EtcdClient.at(*self.etcd.url.split(","))
        self._database = await asyncpg.create_pool(self.postgres.url, min_size=1, max_size=2)
        await record_history(self.database)
        if prepare is not None:
            await prepare(self.database)
        self._plan_parts()
        for number in range(1, nodes + 1):
            self.add_node(f"node-{number}", environment)
        await asyncio.gather(*(part.start() for part in self.all_parts()))
        await self.until_settled()

    def add_spare(self, name: str) -> Node:
        """Another node, not started yet, with nothing of its own in its environment."""
        return self.add_node(name, {})

    def add_node(self, name: str, environment: Mapping[str, str]) -> Node:
        """Another node, not started yet; `environment` is added to its own."""
        host = self._site.add(name) if self._site else Host(LOOPBACK, (), {})
        address = f"{host.address}:{free_port()}"
        simulator = self.parts["simulator"].plan.environment["MESH_SIMULATOR_LISTEN"]
        plan = PartPlan(
            name,
            [*host.command, *part_command("mesh_session_node")],
            address,
            {
                **self._common,
                "MESH_SIMNET_ADDRESS": simulator,
                "MESH_SESSION_PAIRING_INTERVAL_SECONDS": "0",
                # Faults are many here; an account that failed too often would be left alone for an hour.
                "MESH_SESSION_FAILURES_PER_HOUR": "1000",
                "MESH_NODE_ID": name,
                "MESH_SERVER_LISTEN": address,
                **host.environment,
                **environment,
            },
            self.logs / f"{name}.log",
        )
        self.nodes[name] = Node(plan)
        return self.nodes[name]

    async def until_settled(self, *nodes: str, seconds: float = SETTLE_SECONDS) -> None:
        """Until every shard is owned, in etcd and Postgres alike, by `nodes` (all that run), evenly."""
        names = nodes or tuple(node.name for node in self.nodes.values() if node.running)
        last: list[str] = ["etcd or Postgres did not answer"]

        async def settled() -> bool:
            try:
                placement = await self.placement()
            except AWAY:
                return False
            last[:] = [f"{dict(placement.shares())}", *placement.findings()[:5]]
            return placement.is_settled(*names)

        try:
            await eventually(settled, seconds, f"shares of all shards for {names}")
        except AssertionError as error:
            raise AssertionError(f"{error}: {last}\n{self.report()}") from None

    async def placement(self) -> Placement:
        return await read_placement(self.client, CLUSTER, self.database)

    async def owner(self, account_id: str) -> Node:
        """The node that holds the account's shard in Postgres."""
        return (await self.owners([account_id]))[account_id]

    async def owners(self, accounts: list[str]) -> dict[str, Node]:
        """The node of each account."""
        rows = await self.database.fetch(
            "SELECT f.shard, n.node FROM shard_fence f JOIN node_incarnation n ON n.id = f.holder"
        )
        nodes = {row["shard"]: row["node"] for row in rows}
        return {account: self.nodes[nodes[shard_of(account)]] for account in accounts}

    async def incarnation(self, node: str) -> str:
        """The node's present incarnation."""
        return (await self.placement()).nodes[node].incarnation

    async def is_on_record_as_dead(self, incarnation: str) -> bool:
        """Whether a watchdog has told etcd that it reaped the incarnation."""
        return await self.client.get(ClusterKeys(CLUSTER).dead + incarnation.encode()) is not None

    def logins(self) -> Logins:
        """The network's logins until now."""
        return read_logins(self.folder / "network")

    def report(self) -> str:
        """The ends of all logs, for a failure."""
        return "\n".join(part.log_tail() for part in self.all_parts() if part.plan.log.exists())

    def all_parts(self) -> list[Part]:
        return [*self.parts.values(), *self.nodes.values()]

    def temporary_files(self) -> list[Path]:
        """What the parts have left in their folder for temporary files."""
        return list(self.temporary.iterdir())

    async def stop_parts(self) -> dict[str, int]:
        """Drain all parts; their exit codes."""
        front = [*self.nodes.values(), *(part for name, part in self.parts.items() if name != "simulator")]
        running = [part for part in front if part.running]
        codes = await asyncio.gather(*(part.stop() for part in running))
        simulator = self.parts["simulator"]
        return {
            **{p.name: c for p, c in zip(running, codes, strict=True)},
            "simulator": await simulator.stop(),
        }

    async def close(self) -> None:
        """End whatever still runs."""
        for part in self.all_parts():
            part.ensure_gone()
        if self._client is not None:
            await self._client.close()
        if self._database is not None:
            self._database.terminate()
        if self._site is not None:
            await self._site.close()
        await asyncio.gather(self.etcd.stop(), self.postgres.stop())

    def _plan_parts(self) -> None:
        self._common = {
            "MESH_ETCD_ENDPOINTS": self.etcd.url,
            "MESH_DATABASE_URL": self.postgres.url,
            "MESH_CLUSTER_NAME": CLUSTER,
            "MESH_AUTH_BOOTSTRAP_KEY": self.admin_key,
            "MESH_AUTH_MESH_KEY": f"smmesh_{secrets.token_urlsafe(32)}",
            "MESH_SECRETS_MASTER_KEY": base64.b64encode(secrets.token_bytes(32)).decode(),
            "MESH_TELEMETRY_LOG_FORMAT": "json",
            "MESH_NETWORK_PRIVATE": "true",
            "MESH_WEBHOOK_ALLOW_PRIVATE_ADDRESSES": "true",
            "MESH_WEBHOOK_ALLOW_HTTP": "true",
            "TMPDIR": str(self.temporary),
        }
        network = self._site.network if self._site else f"{LOOPBACK}:{free_port()}"
        simulated = {"MESH_SIMULATOR_LISTEN": network, "MESH_SIMULATOR_STATE": str(self.folder / "network")}
        self._plan_part("simulator", "mesh_simulator", simulated)
        self._plan_part("router", "mesh_router", {})
        self._plan_part("webhook", "mesh_webhook", {})

    def _plan_part(self, name: str, module: str, environment: Mapping[str, str]) -> None:
        address = f"{LOOPBACK}:{free_port()}"
        environment = {**self._common, **environment, "MESH_SERVER_LISTEN": address}
        self.parts[name] = Part(
            PartPlan(name, part_command(module), address, environment, self.logs / f"{name}.log")
        )


@asynccontextmanager
async def fault_mesh(
    *,
    nodes: int = 3,
    members: int = 1,
    site: Site | None = None,
    environment: Mapping[str, str] | None = None,
    prepare: Prepare | None = None,
) -> AsyncIterator[FaultMesh]:
    """A running mesh on an etcd of one or three `members`.

    `environment` is added to the nodes'; `prepare` gets the database before any part does.
    """
    with _folder() as folder:
        mesh = FaultMesh(folder, EtcdCluster(folder) if members > 1 else Etcd(folder), site)
        try:
            await mesh.start(nodes, environment or {}, prepare)
            yield mesh
        finally:
            await mesh.close()


@contextmanager
def _folder() -> Iterator[Path]:
    """A short path, which Postgres may enter as another user."""
    with TemporaryDirectory(prefix="sessionmesh-test-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        yield folder
