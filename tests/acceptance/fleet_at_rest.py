"""A mesh of three nodes in which nothing moves: how tests that kill or drain nodes begin and end."""

from __future__ import annotations

from sessionmesh.admin.v1 import fleet_pb2
from tests.support.mesh_api import Caller

SHARE = 4096 // 3


async def settled(admin: Caller) -> bool:
    """Every shard runs where the table wants it, and all three nodes have their share.

    Shares are of weight, and shards with the sessions of other tests weigh many times what the rest do: the
    count of a node's shards says no more than that it is far from none.
    """
    placement = await admin(admin.fleet.GetPlacement, fleet_pb2.GetPlacementRequest())
    shares: dict[str, int] = {}
    for one in placement.shards:
        if one.state != fleet_pb2.OWNER_STATE_ACTIVE or one.node_id != one.assigned_node_id:
            return False
        shares[one.node_id] = shares.get(one.node_id, 0) + 1
    return len(shares) == 3 and min(shares.values()) > SHARE / 2
