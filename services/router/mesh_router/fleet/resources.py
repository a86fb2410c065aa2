"""Nodes, shards and plans as the API shows them."""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from mesh_core.ownership.keys import NodeInfo, OwnerState
from mesh_core.ownership.view import Owner
from mesh_core.sizing.figures import DriverFigures
from mesh_core.sizing.fleet import BUSY_SHARE, CONNECTS_PER_SECOND, FleetNeed
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


def plan_message(
    need: FleetNeed, figures: DriverFigures, origins: list[str]
) -> fleet_pb2.PlanCapacityResponse:
    """What a number of accounts would need; `origins` say where the inputs come from."""
    return fleet_pb2.PlanCapacityResponse(
        nodes=need.nodes,
        node_memory_bytes=need.node_bytes,
        node_cores=round(need.node_cores, 2),
        connect_time=Duration(seconds=need.connect_seconds),
        assumptions=[
            *origins,
            f"{need.working} nodes by {need.decided_by}, and {need.spare} that may be lost: while they are, "
            f"a node has {need.accounts_per_node} accounts. Its memory, cores and connect time are given for "
            "that.",
            f"A message costs session-nodes {figures.node_cpu.value * 1000:.2f} ms of CPU from send to last "
            f"receipt, on the network {figures.network} ({figures.node_cpu.source}).",
            f"A node uses one core at most and is planned to be {BUSY_SHARE:.0%} busy: a choice, not a "
            "measurement. What idle sessions cost is not in it.",
            f"Memory: {figures.node_bytes.value / 2**20:,.0f} MiB for a node, "
            f"{figures.account_bytes.value / 2**10:,.0f} KiB for {figures.account_bytes.what} "
            f"({figures.account_bytes.source}). Outboxes and media come on top.",
            f"Each node dials {CONNECTS_PER_SECOND} connections a second, MESH_SESSION_CONNECTS_PER_SECOND, "
            "and the network takes them; taking the shards over is not in it.",
            "Router, Postgres, etcd, Redis, media and webhook come on top: `mesh plan` has all of it.",
        ],
    )


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
