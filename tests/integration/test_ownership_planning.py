"""Writing the assignment table, with real etcd: the first one, one after a loss of etcd, and its weights."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

import pytest
import pytest_asyncio

from mesh_core.etcd import Etcd, boottime
from mesh_core.ids import SHARDS
from mesh_core.ownership.keys import ClusterKeys, NodeInfo, NodeState, OwnerKey, OwnerState, encode
from mesh_core.ownership.owner_keys import OwnerKeyWriter, Write
from mesh_core.ownership.participant.fence import FenceUnavailable
from mesh_core.ownership.participant.keeper import Keeper, Timings
from mesh_core.ownership.participant.move_traces import MoveTraces
from mesh_core.ownership.participant.table_writer import ROUND_PAUSE, TableWriter
from mesh_core.ownership.planning.loads import encode_loads, weight_of
from mesh_core.ownership.planning.planner import NO_NODE
from mesh_core.ownership.planning.table import Table, read_situation, write_table
from mesh_core.ownership.view.mirror import ClusterMirror
from tests.support.eventually import eventually
from tests.support.ownership_nodes import FAST, until
from tests.support.servers import patient_etcd_at

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module")
async def client(etcd: str) -> AsyncIterator[Etcd]:
    opened = patient_etcd_at(etcd)
    yield opened
    await opened.close()


class Participant:
    """Node `a` as far as planning goes. Its lease is as old as the test wants it."""

    def __init__(self, client: Etcd, cluster: str, timings: Timings) -> None:
        self.keys = ClusterKeys(cluster)
        self.client = client
        self.keeper = Keeper(timings)
        self.mirror = ClusterMirror(client, self.keys)
        self.held_by_fence: bool | None = False
        self.asked = 0
        self.planner = TableWriter(
            client,
            self.keys,
            self.mirror,
            self.keeper,
            MoveTraces(self.keys, self.mirror, "a"),
            "a",
            self._any_held,
        )

    def hear_of_etcd(self, *, unbroken: bool) -> None:
        now = boottime()
        sent = now - (FAST.ttl if unbroken else 0)
        self.keeper.lease_granted(1, sent)
        while sent < now:
            sent = min(now, sent + FAST.beat)
            self.keeper.lease_renewed(1, sent, sent)

    async def work(self) -> None:
        """Steps until the mirror has a table."""
        async with asyncio.timeout(20):
            while not self.mirror.table_revision:
                await self.step()

    async def step(self) -> None:
        seen = self.mirror.changes.version
        await self.planner.step(boottime())
        with suppress(TimeoutError):
            async with asyncio.timeout(0.05):
                await self.mirror.changes.wait(seen)

    async def due(self) -> bool:
        """Steps until it has decided what to do, and, when that is to write, has tried."""
        await self.planner.step(boottime())
        decided = self.planner.due < boottime() + 60
        while self.planner.due < boottime() + 60 and not self.mirror.table_revision:
            await self.step()
        return decided

    async def node(self, name: str, state: NodeState = NodeState.ACTIVE, replaced_by: str = "") -> None:
        info = NodeInfo(
            id=name, incarnation=name, address=name, capacity=5000, state=state, replaced_by=replaced_by
        )
        await self.client.put(self.keys.node(name), encode(info))

    async def owners(self, holders: Mapping[int, str]) -> None:
        """Writes owner keys until the mirror has all of them: a write may fail on a busy machine."""
        writer = OwnerKeyWriter(self.client, self.keys)

        async def seen() -> bool:
            missing = holders.keys() - self.mirror.owners.keys()
            keys = {
                shard: OwnerKey(incarnation=name, node=name, address=name, state=OwnerState.ACTIVE, epoch=1)
                for shard, name in holders.items()
            }
            await writer.write([Write(shard, 0, keys[shard]) for shard in missing], 0)
            return not missing

        await eventually(seen, what="the owner keys in the mirror")

    async def _any_held(self) -> bool:
        self.asked += 1
        if self.held_by_fence is None:
            raise FenceUnavailable("away")
        return self.held_by_fence


@asynccontextmanager
async def participant(client: Etcd, cluster: str, timings: Timings = FAST) -> AsyncIterator[Participant]:
    opened = Participant(client, cluster, timings)
    mirror = asyncio.create_task(opened.mirror.run())
    try:
        yield opened
    finally:
        mirror.cancel()
        await asyncio.wait([mirror])


async def test_a_new_cluster_has_a_table_without_waiting(client: Etcd, cluster: str) -> None:
    async with participant(client, cluster, replace(FAST, ttl=300)) as a:
        await a.node("a")
        await until(lambda: "a" in a.mirror.nodes)
        a.hear_of_etcd(unbroken=False)
        await a.work()
        assert {*a.mirror.placement} == {"a"}


async def test_where_owner_keys_are_the_first_table_waits_a_ttl_and_moves_nothing(
    client: Etcd, cluster: str
) -> None:
    async with participant(client, cluster) as a:
        holders = {shard: "ab"[shard % 2] for shard in range(0, SHARDS, 16)}
        await a.owners(holders)
        await a.node("a")
        await a.node("b")
        await until(lambda: len(a.mirror.nodes) == 2 and len(a.mirror.owners) == len(holders))
        a.hear_of_etcd(unbroken=False)
        assert not await a.due()
        a.hear_of_etcd(unbroken=True)
        await a.work()
        assert {shard: a.mirror.placement[shard] for shard in holders} == holders
        assert None not in a.mirror.placement


@pytest.mark.parametrize("held", [True, None])
async def test_where_the_fence_knows_of_holders_or_is_silent_the_first_table_waits_a_ttl(
    client: Etcd, cluster: str, held: bool | None
) -> None:
    async with participant(client, cluster) as a:
        await a.node("a")
        await until(lambda: "a" in a.mirror.nodes)
        a.held_by_fence = held
        a.hear_of_etcd(unbroken=False)
        assert await a.due()
        await until(lambda: a.asked == 1)
        assert not await a.due()
        assert (a.asked, a.mirror.table_revision) == (1, 0)
        a.hear_of_etcd(unbroken=True)
        await a.work()


async def test_a_table_remembers_the_weights_that_nodes_publish(client: Etcd, cluster: str) -> None:
    async with participant(client, cluster) as a:
        await a.node("a")
        await until(lambda: "a" in a.mirror.nodes)
        a.hear_of_etcd(unbroken=True)
        await a.work()
        weights = {shard: weight_of(shard % 5, 0) for shard in range(SHARDS)}
        await client.put(a.keys.load("a"), encode_loads(weights))
        written = a.mirror.table_revision
        while a.mirror.table_revision == written:
            a.hear_of_etcd(unbroken=True)
            await a.step()
        assert a.mirror.table.weights == tuple(weights.values())
        await client.delete(a.keys.load("a"))
        assert (await read_situation(client, a.keys)).weights == tuple(weights.values())


async def test_a_replaced_nodes_shards_are_the_replacements(client: Etcd, cluster: str) -> None:
    async with participant(client, cluster) as a:
        before = tuple("ab"[shard % 2] for shard in range(SHARDS))
        await a.node("a")
        await a.node("b", NodeState.DRAINING, replaced_by="c")
        await a.node("c")
        await write_table(client, a.keys, Table(before), 0)
        await until(lambda: len(a.mirror.nodes) == 3 and a.mirror.table_revision > 0)
        a.hear_of_etcd(unbroken=False)
        while a.mirror.placement == before:
            await a.step()
        assert a.mirror.placement == tuple("ac"[shard % 2] for shard in range(SHARDS))


async def test_shards_move_for_balance_a_pause_after_the_last_change(client: Etcd, cluster: str) -> None:
    async with participant(client, cluster) as a:
        await a.node("a")
        await until(lambda: "a" in a.mirror.nodes)
        a.hear_of_etcd(unbroken=False)
        await a.work()
        await a.owners(dict.fromkeys(range(SHARDS), "a"))
        await a.step()
        changed_at = boottime()
        await write_table(client, a.keys, a.mirror.table, a.mirror.table_revision)
        await a.node("b")
        await until(lambda: "b" in a.mirror.nodes)
        while "b" not in a.mirror.placement:
            a.hear_of_etcd(unbroken=False)
            await a.step()
        assert boottime() - changed_at > ROUND_PAUSE
        assert a.mirror.placement.count("b") == SHARDS // 8


async def test_a_table_that_nobody_could_rewrite_is_stale(client: Etcd, cluster: str) -> None:
    async with participant(client, cluster) as a:
        await a.node("a")
        await until(lambda: "a" in a.mirror.nodes)
        a.hear_of_etcd(unbroken=False)
        began = boottime()
        await a.planner.step(began)
        assert not a.planner.stale(began + 2 * FAST.ttl)
        assert a.planner.stale(began + 2 * FAST.ttl + 1)
        await a.work()
        await a.planner.step(boottime())
        assert not a.planner.stale(boottime() + 1000)


async def test_without_any_node_that_may_own_shards_the_planner_says_so(client: Etcd, cluster: str) -> None:
    async with participant(client, cluster) as a:
        await a.node("a", NodeState.STANDBY)
        await until(lambda: "a" in a.mirror.nodes)
        a.hear_of_etcd(unbroken=False)
        assert not await a.due()
        assert a.planner.refusing == NO_NODE
