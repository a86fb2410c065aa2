"""Session-nodes without sessions: ownership alone, several in one process, with everything that happened on
record.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from mesh_core.etcd import Etcd, boottime
from mesh_core.ids import SHARDS
from mesh_core.ownership.keys import NodeInfo, NodeState, OwnerState
from mesh_core.ownership.participant import Ownership
from mesh_core.ownership.participant.fence import Fence
from mesh_core.ownership.participant.keeper import Timings
from mesh_core.tasks import Supervisor
from tests.support.relay import Relay

FAST = Timings(ttl=5, beat=0.7, attempt=1.0, soft=3.3, hard=4.3, settle=0.02, first_settle=0.3)


class Board:
    """Who runs what in the whole test; notes every shard that two nodes ran at once, and epochs that did not
    rise.
    """

    def __init__(self) -> None:
        self.running: dict[int, str] = {}
        self.epochs: dict[int, int] = {}
        self.violations: list[str] = []

    def starts(self, node: str, shard: int, epoch: int) -> None:
        if shard in self.running:
            self.violations.append(f"{node} starts shard {shard} while {self.running[shard]} runs it")
        if epoch <= self.epochs.get(shard, 0):
            self.violations.append(f"shard {shard} starts at epoch {epoch} after {self.epochs[shard]}")
        self.running[shard], self.epochs[shard] = node, epoch

    def stops(self, node: str, shard: int) -> None:
        if self.running.get(shard) == node:
            del self.running[shard]

    def count(self, node: str) -> int:
        return sum(owner == node for owner in self.running.values())


class Sessions:
    """A `ShardHandler` that keeps the board."""

    def __init__(self, board: Board, name: str) -> None:
        self.board = board
        self.name = name
        self.acquisitions = 0
        self.released: list[int] = []
        self.losses: list[int] = []
        self.reported: dict[int, tuple[int, int]] = {}
        self.give_back: Callable[[Mapping[int, int]], Awaitable[None]]

    async def acquired(self, shards: Mapping[int, int], traces: Mapping[int, str]) -> None:
        self.acquisitions += len(shards)
        for shard, epoch in shards.items():
            self.board.starts(self.name, shard, epoch)

    async def release(self, shards: Collection[int]) -> None:
        await asyncio.sleep(0)
        self._stop(shards)
        await self.give_back({shard: self.board.epochs[shard] for shard in shards})
        self.released += shards

    def lost(self, shards: Collection[int]) -> None:
        self._stop(shards)
        self.losses += shards

    def accounts(self, shard: int) -> int:
        return 0

    def loads(self) -> Mapping[int, tuple[int, int]]:
        return self.reported

    def _stop(self, shards: Collection[int]) -> None:
        for shard in shards:
            self.board.stops(self.name, shard)


class Node:
    """One ownership instance with clients of its own."""

    def __init__(
        self, mesh: Mesh, name: str, incarnation: str, relay: Relay, state: NodeState = NodeState.ACTIVE
    ) -> None:
        self.name = name
        self.sessions = Sessions(mesh.board, name)
        self.failure: BaseException | None = None
        self.ended = ""
        """Why the process would have ended at once."""
        self.postgres_allowed = True
        self.connections: list[tuple[asyncio.AbstractEventLoop, asyncpg.Connection[Any]]] = []
        self._mesh = mesh
        self.relay = relay
        self.etcd = Etcd.at(relay.url if mesh.through_relays else mesh.endpoint)
        self.supervisor = Supervisor(self._failed)
        self.ownership = Ownership(
            etcd=self.etcd,
            connect=self._connect,
            cluster=mesh.cluster,
            node=NodeInfo(id=name, incarnation=incarnation, address=f"{name}:1", capacity=5000, state=state),
            supervisor=self.supervisor,
            timings=mesh.timings,
            end_process=self._end,
        )
        self.sessions.give_back = self._give_back

    async def _give_back(self, epochs: Mapping[int, int]) -> None:
        """What the journal does in its last batch for these shards."""
        fence = Fence(self._connect, self.ownership.incarnation, self._mesh.timings)
        try:
            await fence.release(epochs)
        finally:
            await fence.close()

    async def crash(self) -> None:
        """Everything stops where it is; nothing is given back."""
        await self.supervisor.close()
        for shard in self.ownership.running():
            self._mesh.board.stops(self.name, shard)
        await self.close()

    def cut_postgres(self) -> None:
        self.postgres_allowed = False
        self._terminate()

    async def wait_unbroken(self) -> None:
        """Until it may plan missing nodes out."""
        await until(lambda: self.ownership._keeper.unbroken(boottime()))

    def let_a_ttl_pass(self) -> None:
        """The same, without the wait: as if its lease had been renewed for so long."""
        keeper = self.ownership._keeper
        keeper._lease_since -= keeper.timings.ttl

    def has_fresh_keys(self) -> bool:
        """Every shard it runs is its own in etcd, under its present lease."""
        mirror, lease = self.ownership._mirror, self.ownership.lease
        keys = [mirror.owners.get(shard) for shard in self.ownership.running()]
        return lease != 0 and all(key is not None and key.lease == lease for key in keys)

    async def close(self) -> None:
        await self.supervisor.close()
        self._terminate()
        await self.etcd.close()
        await self.relay.cut()

    async def _connect(self) -> asyncpg.Connection[Any]:
        if not self.postgres_allowed:
            raise ConnectionRefusedError("cut off by the test")
        connection = await asyncpg.connect(self._mesh.postgres)
        self.connections.append((asyncio.get_running_loop(), connection))
        return connection

    def _terminate(self) -> None:
        """Each on the loop that it belongs to: the beats have one in a thread of their own."""
        for loop, connection in self.connections:
            if not loop.is_closed():
                loop.call_soon_threadsafe(connection.terminate)

    def _end(self, reason: str) -> None:
        self.ended = self.ended or reason

    def _failed(self, _name: str, error: BaseException) -> None:
        self.failure = self.failure or error


class Mesh:
    """Nodes of one cluster. Each reaches etcd through a relay of its own."""

    def __init__(self, endpoint: str, postgres: str, cluster: str, timings: Timings = FAST) -> None:
        self.endpoint = endpoint
        self.postgres = postgres
        self.cluster = cluster
        self.timings = timings
        self.through_relays = True
        """Relays live on the test's event loop, and stand still with it."""
        self.board = Board()
        self.nodes: list[Node] = []

    async def start(self, *names: str, state: NodeState = NodeState.ACTIVE) -> list[Node]:
        nodes: list[Node] = []
        for name in names:
            relay = Relay(self.endpoint)
            await relay.open()
            nodes.append(Node(self, name, f"{name}-{len(self.nodes) + len(nodes)}", relay, state))
        self.nodes += nodes
        await asyncio.gather(*[node.ownership.start(node.sessions) for node in nodes])
        return nodes

    def all_run(self, *nodes: Node) -> bool:
        """Every shard runs, on one of `nodes`, and evenly."""
        counts = [self.board.count(node.name) for node in nodes]
        return sum(counts) == SHARDS and max(counts) <= SHARDS / len(nodes) * 1.02 + 1

    def view_agrees(self, *nodes: Node) -> bool:
        """Every one of `nodes` sees in etcd what the board says, all ACTIVE."""
        return all(
            (key := node.ownership.owner(shard)) is not None
            and (key.node, key.epoch, key.state) == (name, self.board.epochs[shard], OwnerState.ACTIVE)
            for node in nodes
            for shard, name in self.board.running.items()
        )

    async def execute(self, sql: str, *args: object) -> None:
        connection = await asyncpg.connect(self.postgres)
        await connection.execute(sql, *args)
        await connection.close()

    async def close(self) -> None:
        for node in self.nodes:
            await node.close()


@asynccontextmanager
async def mesh_of(endpoint: str, postgres: str, cluster: str) -> AsyncIterator[Mesh]:
    mesh = Mesh(endpoint, postgres, cluster)
    try:
        yield mesh
        assert mesh.board.violations == []
    finally:
        await mesh.close()


async def until(condition: Callable[[], bool], timeout: float = 60.0) -> None:
    """Wait until `condition` holds."""
    async with asyncio.timeout(timeout):
        while not condition():  # noqa: ASYNC110 - conditions over several nodes have no event of their own
            await asyncio.sleep(0.02)
