"""When to rewrite the assignment table. Every participant may; whoever is first spares the others that."""

from __future__ import annotations

import math

from mesh_core.etcd import Etcd, boottime
from mesh_core.ownership.keeper import Keeper
from mesh_core.ownership.keys import Keys, NodeState, OwnerState
from mesh_core.ownership.mirror import ClusterMirror
from mesh_core.ownership.table import MOVE_BUDGET, Situation, read_situation, write_table


class TablePlanner:
    """`step` is called whenever something may have changed, and again at `due`.

    A node that appears is planned in at once; one that is missing keeps its shards until my own lease was
    unbroken for a TTL. Shards move for balance alone only while every shard is where the table wants it:
    moves come in rounds.
    """

    def __init__(self, etcd: Etcd, keys: Keys, mirror: ClusterMirror, keeper: Keeper, node_id: str) -> None:
        self.due = math.inf
        """When the table should be written (boottime)."""
        self._etcd = etcd
        self._keys = keys
        self._mirror = mirror
        self._keeper = keeper
        self._node_id = node_id
        self._question: object = None

    async def step(self, now: float) -> None:
        """Raises `EtcdUnavailable`."""
        if not self._keeper.etcd_fresh(now):
            self._question, self.due = None, math.inf
            return
        may_drop_missing, budget = self._keeper.unbroken(now), self._budget()
        question = (
            frozenset((node.id, node.capacity, node.state) for node in self._mirror.nodes.values()),
            self._mirror.table_revision,
            may_drop_missing,
            budget,
        )
        if question != self._question:
            self._question = question
            seen = Situation(self._mirror.nodes, self._mirror.placement, self._mirror.table_revision)
            wish = seen.plan(budget=budget, may_drop_missing=may_drop_missing)
            self.due = math.inf if wish.placement == seen.placement else now + self._delay()
        if now >= self.due:
            self._question, self.due = None, math.inf
            await self._write(budget)

    async def _write(self, budget: int) -> None:
        """Plans anew from one agreed snapshot: what was mirrored may be late."""
        situation = await read_situation(self._etcd, self._keys)
        wish = situation.plan(budget=budget, may_drop_missing=self._keeper.unbroken(boottime()))
        if wish.placement != situation.placement:
            await write_table(self._etcd, self._keys, wish.placement, situation.revision)

    def _budget(self) -> int:
        owners = self._mirror.owners
        for shard, node in enumerate(self._mirror.placement):
            seen = owners.get(shard)
            if seen is None or seen.value.node != node or seen.value.state is not OwnerState.ACTIVE:
                return 0
        return MOVE_BUDGET

    def _delay(self) -> float:
        """The first node in order goes first; the next one only if that has not helped."""
        active = sorted(node.id for node in self._mirror.nodes.values() if node.state is NodeState.ACTIVE)
        rank = active.index(self._node_id) if self._node_id in active else len(active)
        timings = self._keeper.timings
        return rank * timings.settle + (
            timings.settle if self._mirror.table_revision else timings.first_settle
        )
