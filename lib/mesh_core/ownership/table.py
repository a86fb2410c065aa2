"""The assignment table: the wish which node should have which shard. Routing never reads it."""

from __future__ import annotations

import struct
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from mesh_core.etcd import Etcd, get, put, unchanged
from mesh_core.etcd.ops import prefix_end
from mesh_core.ids import SHARDS
from mesh_core.ownership.keys import Keys, NodeInfo, NodeState, decode_node
from mesh_core.ownership.planner import Plan, plan
from mesh_wire.etcd import rpc_pb2 as wire

MOVE_BUDGET = SHARDS // 8
"""Shards that may move for balance alone at a time."""

NOBODY = (None,) * SHARDS
_NONE = 0xFFFF
_NUMBERS = struct.Struct(f">{SHARDS}H")


def encode_table(placement: Collection[str | None]) -> bytes:
    """Two bytes per shard (big-endian index of its node, 0xFFFF for none), then the nodes' ids in lines."""
    names = sorted({node for node in placement if node is not None})
    index: dict[str | None, int] = {name: number for number, name in enumerate(names)} | {None: _NONE}
    return _NUMBERS.pack(*[index[node] for node in placement]) + "\n".join(names).encode()


def decode_table(value: bytes) -> tuple[str | None, ...]:
    names: list[str] = value[2 * SHARDS :].decode().split("\n")
    numbers = _NUMBERS.unpack_from(value)
    return tuple([None if number == _NONE else names[number] for number in numbers])


@dataclass(frozen=True, slots=True)
class Situation:
    """Nodes and table at one moment. `revision` is the table's mod_revision, 0 while there is none."""

    nodes: Mapping[str, NodeInfo]
    placement: tuple[str | None, ...]
    revision: int

    def plan(self, *, budget: int, may_drop_missing: bool) -> Plan:
        """Nodes out of sight keep their shards unless `may_drop_missing`; only ACTIVE ones get any."""
        capacities = {
            node.id: node.capacity for node in self.nodes.values() if node.state is NodeState.ACTIVE
        }
        missing = () if may_drop_missing else {*self.placement} - self.nodes.keys() - {None}
        return plan(self.placement, capacities, budget=budget, pinned=[node for node in missing if node])


async def read_situation(etcd: Etcd, keys: Keys) -> Situation:
    """One snapshot, as the cluster agrees on it."""
    nodes = wire.RequestOp(request_range=wire.RangeRequest(key=keys.nodes, range_end=prefix_end(keys.nodes)))
    answer = await etcd.txn([], [nodes, get(keys.assignment)])
    found, table = (one.response_range.kvs for one in answer.responses)
    infos = [decode_node(kv.value) for kv in found]
    placement = decode_table(table[0].value) if table else NOBODY
    return Situation({info.id: info for info in infos}, placement, table[0].mod_revision if table else 0)


async def write_table(etcd: Etcd, keys: Keys, placement: tuple[str | None, ...], seen_revision: int) -> bool:
    """False when somebody else wrote first."""
    change = put(keys.assignment, encode_table(placement))
    return (await etcd.txn([unchanged(keys.assignment, seen_revision)], [change])).succeeded
