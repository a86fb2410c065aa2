"""A router over real etcd and Postgres, with nodes that are keys in etcd and servers that only echo."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from bench.measuring.processes import ROOT
from bench.mesh.accounts import make_tenant
from mesh_cli.up.backing import Backing
from mesh_cli.up.child import Child, ChildPlan
from mesh_core.database.migrations import migrate
from mesh_core.etcd import Etcd, put
from mesh_core.etcd.ops import MAX_OPERATIONS
from mesh_core.ids import SHARDS, Prefix, new_id, shard_of
from mesh_core.ownership.keys import ClusterKeys, NodeInfo, NodeState, OwnerKey, OwnerState, encode
from mesh_core.rpc.channels import open_channel
from mesh_core.settings import ClusterSettings


@dataclass(frozen=True, slots=True)
class Echo:
    """A node that echoes."""

    name: str
    child: Child

    @property
    def address(self) -> str:
        return self.child.address


class RoutingWorld:
    """What runs, and what can be added."""

    def __init__(
        self, stack: AsyncExitStack, folder: Path, etcd: Etcd, environment: Mapping[str, str]
    ) -> None:
        self._stack = stack
        self._folder = folder
        self._etcd = etcd
        self._keys = ClusterKeys(ClusterSettings().name)
        self._environment = environment
        self.router = self._child("router", "mesh_router", {})

    async def start(self) -> None:
        """Start the router."""
        await self._run(self.router)

    @property
    def router_address(self) -> str:
        return self.router.address

    @property
    def router_metrics(self) -> str:
        """Where its metrics page is, host:port."""
        return self.router.metrics

    async def tenant_key(self) -> str:
        """The key of a new tenant."""
        async with open_channel(self.router_address) as channel:
            return await make_tenant(channel, self._environment["MESH_AUTH_BOOTSTRAP_KEY"])

    async def echoes(self, names: Sequence[str]) -> list[Echo]:
        """Start echoing nodes that own all shards between them."""
        children = [self._child(name, "bench.routing.echo", {"MESH_NODE_ID": name}) for name in names]
        await asyncio.gather(*(self._run(child) for child in children))
        for name, child in zip(names, children, strict=True):
            await self.register(name, child.address)
        for place, (name, child) in enumerate(zip(names, children, strict=True)):
            await self.own(name, child.address, range(place, SHARDS, len(names)))
        return [Echo(name, child) for name, child in zip(names, children, strict=True)]

    async def register(self, name: str, address: str) -> None:
        """Say that there is such a node."""
        info = NodeInfo(
            id=name, incarnation=f"{name}-1", address=address, capacity=100, state=NodeState.ACTIVE
        )
        await self._etcd.put(self._keys.node(name), encode(info))

    async def own(self, name: str, address: str, shards: Sequence[int]) -> None:
        """Make it the owner of these shards."""
        owner = OwnerKey(
            incarnation=f"{name}-1", node=name, address=address, state=OwnerState.ACTIVE, epoch=1
        )
        for first in range(0, len(shards), MAX_OPERATIONS):
            some = shards[first : first + MAX_OPERATIONS]
            await self._etcd.txn([], [put(self._keys.owner(shard), encode(owner)) for shard in some])

    async def _run(self, child: Child) -> None:
        self._stack.push_async_callback(child.stop)
        await child.start()

    def _child(self, name: str, module: str, more: Mapping[str, str]) -> Child:
        path = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        log = self._folder / f"{name}.log"
        return Child(ChildPlan(name, module, {**self._environment, **path, **more}, log))


def accounts_of(nodes: Sequence[Echo], number: int) -> dict[str, str]:
    """So many accounts, and the node that owns each."""
    made = (new_id(Prefix.ACCOUNT) for _ in range(number))
    return {account_id: nodes[shard_of(account_id) % len(nodes)].name for account_id in made}


@contextlib.asynccontextmanager
async def routing_world() -> AsyncIterator[RoutingWorld]:
    """etcd, Postgres and a router that serves; no node yet."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(_folder()))
        backing = Backing()
        stack.push_async_callback(backing.stop)
        await backing.start(folder)
        await migrate(backing.environment["MESH_DATABASE_URL"])
        etcd = Etcd.at(*backing.environment["MESH_ETCD_ENDPOINTS"].split(","))
        stack.push_async_callback(etcd.close)
        environment = backing.environment | {
            "MESH_AUTH_BOOTSTRAP_KEY": f"smadmin_{secrets.token_urlsafe(32)}",
            "MESH_AUTH_MESH_KEY": f"smmesh_{secrets.token_urlsafe(32)}",
            "MESH_TELEMETRY_LOG_FORMAT": "json",
            "MESH_TELEMETRY_SAMPLE_RATIO": "0",
        }
        world = RoutingWorld(stack, folder, etcd, environment)
        await world.start()
        yield world


async def xds_environment(router: str) -> Mapping[str, str]:
    """The environment of a stock gRPC client that finds the control plane of the router at `router`."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "mesh_cli",
        "xds-bootstrap",
        "--router",
        router,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdout=asyncio.subprocess.PIPE,
    )
    printed, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"mesh xds-bootstrap ended with status {process.returncode}")
    return {"GRPC_XDS_BOOTSTRAP_CONFIG": printed.decode()}


@contextlib.contextmanager
def _folder() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="mesh-bench-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o711)  # Postgres runs as another user
        yield folder
