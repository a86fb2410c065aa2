"""One live session per account, always: which node owns which shard.

`Ownership` is a session-node's part, `OwnerView` a router's. Taking a shard over needs both etcd (a key
under the node's lease) and Postgres (the fence); keeping it needs either, so neither being down stops a
session.
"""

from mesh_core.ownership.fence import FenceUnavailable, IncarnationExpired
from mesh_core.ownership.handler import ShardHandler
from mesh_core.ownership.keys import NodeInfo, NodeState, OwnerKey, OwnerState
from mesh_core.ownership.nodes import NodeSuperseded, set_node_state
from mesh_core.ownership.owner import Ownership
from mesh_core.ownership.timings import Timings
from mesh_core.ownership.view import Owner, OwnerView

__all__ = [
    "FenceUnavailable",
    "IncarnationExpired",
    "NodeInfo",
    "NodeState",
    "NodeSuperseded",
    "Owner",
    "OwnerKey",
    "OwnerState",
    "OwnerView",
    "Ownership",
    "ShardHandler",
    "Timings",
    "set_node_state",
]
