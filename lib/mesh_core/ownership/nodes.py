"""Registering a session-node, and changing what a node is for."""

from __future__ import annotations

import msgspec

from mesh_core.errors import FailedPrecondition, NotFound
from mesh_core.etcd import Etcd, absent, get, put, unchanged
from mesh_core.ownership.keys import Keys, NodeInfo, NodeState, decode_node, encode


class NodeSuperseded(FailedPrecondition):
    """Another process runs under this node's id: this one must hand over and end."""

    def __init__(self, node_id: str) -> None:
        super().__init__(f"node {node_id} was started again elsewhere", "NOT_OWNER")


async def announce(etcd: Etcd, keys: Keys, node: NodeInfo, lease: int) -> int:
    """Registers a process that just started, in place of any earlier one of that id.

    Returns the key's mod_revision. Raises `LeaseLost`.
    """
    return await etcd.put(keys.node(node.id), encode(node), lease)


async def reannounce(etcd: Etcd, keys: Keys, node: NodeInfo, lease: int) -> int:
    """Registers it again under a new lease, or with a new state.

    Returns the key's mod_revision. Raises `LeaseLost`, `NodeSuperseded`.
    """
    key, value = keys.node(node.id), encode(node)
    while True:
        answer = await etcd.txn([absent(key)], [put(key, value, lease)], [get(key)], lease=lease)
        if answer.succeeded:
            return answer.header.revision
        found = answer.responses[0].response_range.kvs[0]
        if decode_node(found.value).incarnation != node.incarnation:
            raise NodeSuperseded(node.id)
        condition = unchanged(key, found.mod_revision)
        answer = await etcd.txn([condition], [put(key, value, lease)], lease=lease)
        if answer.succeeded:
            return answer.header.revision


async def set_node_state(etcd: Etcd, cluster: str, node_id: str, state: NodeState) -> NodeInfo:
    """Orders a node to drain (DRAINING), to idle (STANDBY) or to serve again (ACTIVE): it obeys its own key.

    Raises `NotFound` when no such node is registered.
    """
    key = Keys(cluster).node(node_id)
    while True:
        found = await etcd.get(key)
        if found is None:
            raise NotFound("node", node_id)
        node = msgspec.structs.replace(decode_node(found.value), state=state)
        if (
            await etcd.txn([unchanged(key, found.mod_revision)], [put(key, encode(node), found.lease)])
        ).succeeded:
            return node
