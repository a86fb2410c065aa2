"""Who owns each shard, as etcd and Postgres say, and whether they agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import asyncpg

from mesh_core.etcd import Etcd
from mesh_core.ids import SHARDS
from mesh_core.ownership.keys import (
    ClusterKeys,
    NodeInfo,
    NodeState,
    OwnerKey,
    OwnerState,
    decode_node,
    decode_owner,
)
from mesh_core.ownership.planning.table import MOVE_BUDGET, Situation, read_situation


@dataclass(frozen=True, slots=True)
class FenceRow:
    """A shard in Postgres. `expired`: its holder was judged dead."""

    holder: str
    epoch: int
    released: bool
    expired: bool


@dataclass(frozen=True, slots=True)
class Placement:
    """Both authorities at (nearly) one moment."""

    nodes: Mapping[str, NodeInfo]
    owners: Mapping[int, OwnerKey]
    fences: Mapping[int, FenceRow]
    situation: Situation

    def findings(self) -> list[str]:
        """A sentence for each shard that is not owned by one live node, in etcd and in Postgres alike."""
        live = {node.incarnation for node in self.nodes.values()}
        findings = []
        for shard in range(SHARDS):
            key, fence = self.owners.get(shard), self.fences[shard]
            if fence.released or not fence.holder:
                findings.append(f"shard {shard} has no holder in Postgres")
            elif fence.expired:
                findings.append(f"shard {shard} is held by {fence.holder}, which was judged dead")
            elif fence.holder not in live:
                findings.append(f"shard {shard} is held by {fence.holder}, which is no live node")
            elif key is None:
                findings.append(f"shard {shard} of {fence.holder} has no owner key")
            elif (key.incarnation, key.epoch) != (fence.holder, fence.epoch):
                findings.append(
                    f"shard {shard} is {fence.holder}'s at epoch {fence.epoch} in Postgres,"
                    f" {key.incarnation}'s at {key.epoch} in etcd"
                )
            elif key.state is not OwnerState.ACTIVE:
                findings.append(f"the owner key of shard {shard} is {key.state.value}")
        return findings

    def shares(self) -> Counter[str]:
        """Shards of each node, by its owner keys."""
        return Counter(key.node for key in self.owners.values())

    def is_settled(self, *nodes: str) -> bool:
        """Every shard is owned well, by `nodes` alone, and each of them has its share."""
        active = {node.id for node in self.nodes.values() if node.state is NodeState.ACTIVE}
        if active != set(nodes) or self.shares().keys() != active:
            return False
        return not self.findings() and self._is_balanced()

    def _is_balanced(self) -> bool:
        """The planner would leave everything where it is: shares are even by load, not by number."""
        plan = self.situation.plan(budget=MOVE_BUDGET, may_drop_missing=True)
        return not self.situation.differs_from(plan)


async def read_placement(etcd: Etcd, cluster: str, database: asyncpg.Pool) -> Placement:
    """Raises `EtcdUnavailable`, or what asyncpg raises."""
    keys = ClusterKeys(cluster)
    rows = await database.fetch(
        "SELECT f.shard, f.holder, f.epoch, f.released, coalesce(n.expired, true) AS expired"
        " FROM shard_fence f LEFT JOIN node_incarnation n ON n.id = f.holder"
    )
    fences = {r["shard"]: FenceRow(r["holder"] or "", r["epoch"], r["released"], r["expired"]) for r in rows}
    found = {kv.key: kv.value for kv in (await etcd.prefix(keys.root)).kvs}
    nodes = [decode_node(value) for key, value in found.items() if key.startswith(keys.nodes)]
    owners = {
        int(key.removeprefix(keys.owners)): decode_owner(value)
        for key, value in found.items()
        if key.startswith(keys.owners)
    }
    situation = await read_situation(etcd, keys)
    return Placement({node.id: node for node in nodes}, owners, fences, situation)
