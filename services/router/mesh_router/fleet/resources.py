"""Nodes and shards as the API shows them."""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.timestamp_pb2 import Timestamp

from mesh_core.ownership.keys import NodeInfo, OwnerState
from mesh_core.ownership.view import Owner
from sessionmesh.admin.v1 import fleet_pb2
from sessionmesh.v1 import session_pb2


def node_message(
    node: NodeInfo, shards: int, accounts: int, sessions: Sequence[session_pb2.SessionStateCount] = ()
) -> fleet_pb2.Node:
    """A node that owns `shards` shards with `accounts` accounts that want a session."""
    message = fleet_pb2.Node(
        id=node.id,
        incarnation=node.incarnation,
        address=node.address,
        state=fleet_pb2.NodeState.Value(f"NODE_STATE_{node.state.value}"),
        capacity=node.capacity,
        shards=shards,
        accounts=accounts,
        sessions=sessions,
        version=node.version,
        usage_percent=percent(accounts, node.capacity),
        replaced_by=node.replaced_by,
    )
    if node.start_time:
        message.start_time.CopyFrom(timestamp(node.start_time))
    return message


def shard_message(
    shard: int, owner: Owner | None, assigned: str | None, incarnation: str, accounts: int
) -> fleet_pb2.ShardPlacement:
    """A shard, its owner with that node's `incarnation`, and the node that it is assigned to."""
    placement = fleet_pb2.ShardPlacement(shard=shard, assigned_node_id=assigned or "", accounts=accounts)
    if owner is not None:
        placement.node_id = owner.node_id
        placement.incarnation = incarnation
        placement.epoch = owner.epoch
        placement.state = _STATES[owner.state]
    return placement


def percent(part: int, whole: int) -> float:
    """`part` in percent of `whole`; of a whole of 0, 100 for any part and 0 for none."""
    return 100 * part / whole if whole else 100.0 if part else 0.0


def timestamp(seconds: float) -> Timestamp:
    """The proto form of a Unix time."""
    message = Timestamp()
    message.FromNanoseconds(int(seconds * 1e9))
    return message


_STATES = {
    OwnerState.CLAIMED: fleet_pb2.OWNER_STATE_CLAIMED,
    OwnerState.ACTIVE: fleet_pb2.OWNER_STATE_ACTIVE,
}
