"""The assignment table: which node should own which shard. Calls are routed by owner keys, never by it."""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from mesh_core.etcd import Etcd, absent, get, put, unchanged
from mesh_core.etcd.ops import prefix_end
from mesh_core.ids import SHARDS
from mesh_core.ownership.keys import (
    ClusterKeys,
    NodeInfo,
    NodeState,
    decode_node,
    decode_owner,
    readable,
)
from mesh_core.ownership.planning.fleet import BAND_PER_MILLE, EMPTY_WEIGHT, SESSION_WEIGHT, SLACK_SESSIONS
from mesh_core.ownership.planning.loads import decode_loads
from mesh_core.ownership.planning.planner import Plan, plan
from mesh_wire.etcd import kv_pb2
from mesh_wire.etcd import rpc_pb2 as wire

MOVE_BUDGET = SHARDS // 8
"""Shards that may move for balance alone at a time."""

NOBODY = (None,) * SHARDS
UNKNOWN = (0,) * SHARDS
"""The weights of shards that no node ever told of."""

_NONE = 0xFFFF
_NUMBERS = struct.Struct(f">{SHARDS}H")
_WEIGHTS = b"\n\n"
"""Ends the nodes' ids. What follows is text, in which a reader that knows of no weights sees more ids."""


@dataclass(frozen=True, slots=True)
class Table:
    """The node of each shard, and what the shard weighed when this was written: a shard keeps its weight when
    the node that told of it is gone. 0 where that was never known."""

    placement: tuple[str | None, ...] = NOBODY
    weights: tuple[int, ...] = UNKNOWN


NO_TABLE = Table()


def encode_table(table: Table) -> bytes:
    """Two bytes per shard (big-endian index of its node, 0xFFFF for none), then the nodes' ids in lines, an
    empty line, and the weights: two bytes per shard, big-endian, in base64.
    """
    names = sorted({node for node in table.placement if node is not None})
    index: dict[str | None, int] = {name: number for number, name in enumerate(names)} | {None: _NONE}
    numbers = _NUMBERS.pack(*[index[node] for node in table.placement])
    return numbers + "\n".join(names).encode() + _WEIGHTS + base64.b64encode(_NUMBERS.pack(*table.weights))


def decode_table(value: bytes) -> Table:
    """A table without weights, as earlier versions wrote it, has unknown ones."""
    names_part, _, weights_part = value[2 * SHARDS :].partition(_WEIGHTS)
    names: list[str] = names_part.decode().split("\n")
    placement = tuple([None if number == _NONE else names[number] for number in _NUMBERS.unpack_from(value)])
    if not weights_part:
        return Table(placement)
    return Table(placement, _NUMBERS.unpack(base64.b64decode(weights_part)))


@dataclass(frozen=True, slots=True)
class Situation:
    """What there is to plan from at one moment.

    `placement` is the table's, or while there is none (`revision`, its mod_revision, is then 0) who holds the
    shards. `weights` are the newest known, `remembered` those in the table.
    """

    nodes: Mapping[str, NodeInfo]
    placement: tuple[str | None, ...]
    revision: int
    weights: tuple[int, ...] = UNKNOWN
    remembered: tuple[int, ...] = UNKNOWN

    @classmethod
    def of(
        cls,
        nodes: Mapping[str, NodeInfo],
        table: Table,
        revision: int,
        loads: Mapping[str, bytes],
        holders: Mapping[int, str],
    ) -> Self:
        """`loads` as each node published them; `holders` are the nodes of the owner keys."""
        placement = table.placement if revision else tuple([holders.get(shard) for shard in range(SHARDS)])
        weights = list(table.weights)
        for node, value in loads.items():
            for shard, weight in decode_loads(value).items():
                if placement[shard] == node:
                    weights[shard] = weight
        return cls(nodes, placement, revision, tuple(weights), table.weights)

    @property
    def capacities(self) -> dict[str, int]:
        """Of the nodes that may own shards."""
        return {
            node.id: node.capacity
            for node in self.nodes.values()
            if node.state is NodeState.ACTIVE and node.capacity >= 1
        }

    @property
    def held(self) -> bool:
        """Somebody has shards."""
        return self.placement != NOBODY

    def plan(self, *, budget: int, may_drop_missing: bool) -> Plan:
        """Nodes out of sight keep their shards unless `may_drop_missing`."""
        missing = () if may_drop_missing else {*self.placement} - self.nodes.keys()
        return plan(
            self.placement,
            self.capacities,
            budget=budget,
            weights=_assumed(self.weights),
            pinned=[node for node in missing if node is not None],
            replacements={
                node.id: node.replaced_by
                for node in self.nodes.values()
                if node.state is NodeState.DRAINING and node.replaced_by
            },
        )

    def differs_from(self, planned: Plan) -> bool:
        """Whether the table must be written: it differs from `planned`, or does not exist yet."""
        return planned.placement != self.placement or (self.revision == 0 and self.held)

    def weights_outdated(self) -> bool:
        """Whether the weights in the table are so old that a node's loss would be planned from wrong ones."""
        now, then = _assumed(self.weights), _assumed(self.remembered)
        change = sum(map(abs, map(int.__sub__, now, then)))
        matters = max(BAND_PER_MILLE * sum(now), 1000 * SLACK_SESSIONS * SESSION_WEIGHT)
        return self.revision != 0 and change * 1000 > matters


def _assumed(weights: tuple[int, ...]) -> tuple[int, ...]:
    """Unknown weights are taken to be average ones: nodes tell of their loads one after the other, and the
    first to do so is not the only one that has any.
    """
    known = SHARDS - weights.count(0)
    if known == SHARDS:
        return weights
    total, number = (sum(weights), known) if known else (EMPTY_WEIGHT, 1)
    # rounded up or down in turns: so many shards rounded alike would be a load of their own
    return tuple(
        [
            weight or max(EMPTY_WEIGHT, total * (shard + 1) // number - total * shard // number)
            for shard, weight in enumerate(weights)
        ]
    )


async def read_situation(etcd: Etcd, keys: ClusterKeys) -> Situation:
    """One snapshot, as the cluster agrees on it."""
    always = [_prefix(keys.nodes), _prefix(keys.loads)]
    answer = await etcd.txn(
        [absent(keys.assignment)], [*always, _prefix(keys.owners)], [*always, get(keys.assignment)]
    )
    found: list[list[kv_pb2.KeyValue]] = [list(one.response_range.kvs) for one in answer.responses]
    nodes = {info.id: info for _, info in readable(found[0], decode_node)}
    loads = {kv.key[len(keys.loads) :].decode(): kv.value for kv in found[1]}
    if answer.succeeded:
        owners = readable(found[2], decode_owner)
        names = {keys.owner(shard): shard for shard in range(SHARDS)}
        holders = {names[key]: owner.node for key, owner in owners if key in names}
        return Situation.of(nodes, NO_TABLE, 0, loads, holders)
    [table] = found[2]
    return Situation.of(nodes, decode_table(table.value), table.mod_revision, loads, {})


async def write_table(etcd: Etcd, keys: ClusterKeys, table: Table, seen_revision: int) -> bool:
    """False when somebody else wrote first."""
    change = put(keys.assignment, encode_table(table))
    return (await etcd.txn([unchanged(keys.assignment, seen_revision)], [change])).succeeded


def _prefix(prefix: bytes) -> wire.RequestOp:
    return wire.RequestOp(request_range=wire.RangeRequest(key=prefix, range_end=prefix_end(prefix)))
