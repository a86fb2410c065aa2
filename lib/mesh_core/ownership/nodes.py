"""Registering a session-node, and changing what a node is for."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

import msgspec

from mesh_core.errors import FailedPrecondition, NotFound
from mesh_core.etcd import Etcd, LeaseLost, absent, get, put, unchanged
from mesh_core.ownership.keys import (
    ClusterKeys,
    NodeInfo,
    NodeState,
    decode_node,
    decode_owner,
    encode,
    readable,
)


class NodeSuperseded(FailedPrecondition):
    """Another process runs under this node's id: this one must hand over and end."""

    def __init__(self, node_id: str) -> None:
        super().__init__(f"node {node_id} was started again as another process", "NOT_OWNER")


async def announce(etcd: Etcd, keys: ClusterKeys, node: NodeInfo, lease: int) -> int:
    """Registers a process that just started, in place of any earlier one of that id.

    Returns the key's mod_revision. Raises `LeaseLost`.
    """
    return await etcd.put(keys.node(node.id), encode(node), lease)


async def reannounce(etcd: Etcd, keys: ClusterKeys, node: NodeInfo, lease: int) -> int:
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

    The key is written even if it says so already, so that an earlier order that is still under way comes too
    late. Raises `NotFound` when no such node is registered.
    """
    key = ClusterKeys(cluster).node(node_id)
    while True:
        found = await etcd.get(key)
        if found is None:
            raise NotFound("node", node_id)
        node = msgspec.structs.replace(decode_node(found.value), state=state, replaced_by="")
        with suppress(LeaseLost):  # the node went between the two
            condition = unchanged(key, found.mod_revision)
            if (
                await etcd.txn([condition], [put(key, encode(node), found.lease)], lease=found.lease)
            ).succeeded:
                return node


async def drain_node(etcd: Etcd, cluster: str, node_id: str, replacement: str = "") -> NodeInfo:
    """Orders a node to hand its shards to the other ACTIVE ones, or all of them to `replacement`.

    The replacement becomes ACTIVE with it. Does nothing when that order stands already. Raises what
    `check_drain` raises.
    """
    keys = ClusterKeys(cluster)
    while True:
        registered = {kv.key: kv for kv in (await etcd.prefix(keys.nodes)).kvs}
        infos = {info.id: info for _, info in readable(registered.values(), decode_node)}
        node = infos.get(node_id)
        if node is not None and (node.state, node.replaced_by) == (NodeState.DRAINING, replacement):
            return node
        heir = check_drain(infos, node_id, replacement)
        old, new = registered[keys.node(node_id)], registered[keys.node(heir.id)]
        node = msgspec.structs.replace(infos[node_id], state=NodeState.DRAINING, replaced_by=replacement)
        puts = [put(keys.node(node_id), encode(node), old.lease)]
        if heir.state is not NodeState.ACTIVE:
            raised = msgspec.structs.replace(heir, state=NodeState.ACTIVE, replaced_by="")
            puts.append(put(keys.node(heir.id), encode(raised), new.lease))
        # The heir is compared too: of two nodes that drain at once, one would be the other's only heir.
        conditions = [unchanged(kv.key, kv.mod_revision) for kv in (old, new)]
        with suppress(LeaseLost):  # one of the two went meanwhile
            if (await etcd.txn(conditions, puts, lease=old.lease)).succeeded:
                return node


def check_drain(nodes: Mapping[str, NodeInfo], node_id: str, replacement: str = "") -> NodeInfo:
    """A node that can take what `node_id` has, were it drained: `replacement`, where one is named.

    Raises `NotFound` for a node that is not registered, `FailedPrecondition` NODE_STATE for a replacement
    that can serve nobody, and LAST_NODE when there is no other ACTIVE node.
    """
    for name in filter(None, (node_id, replacement)):
        if name not in nodes:
            raise NotFound("node", name)
    if replacement:
        heir = nodes[replacement]
        if heir.state not in (NodeState.ACTIVE, NodeState.STANDBY):
            raise FailedPrecondition(
                f"node {replacement} is {heir.state.value}: a replacement must be ACTIVE or STANDBY",
                "NODE_STATE",
            )
        return heir
    others = [info for info in nodes.values() if info.state is NodeState.ACTIVE and info.id != node_id]
    if not others:
        raise FailedPrecondition(
            f"node {node_id} is the last ACTIVE one: start another, or name a replacement",
            "LAST_NODE",
        )
    return min(others, key=lambda info: info.id)


async def registered_nodes(etcd: Etcd, cluster: str) -> dict[str, NodeInfo]:
    """The registered session-nodes by id, as the cluster agrees on them now."""
    found = await etcd.prefix(ClusterKeys(cluster).nodes)
    return {info.id: info for _, info in readable(found.kvs, decode_node)}


async def count_owned(etcd: Etcd, cluster: str, node_id: str) -> int:
    """How many shards the node owns, claims, or still runs while another one claims them, as of now."""
    found = await etcd.prefix(ClusterKeys(cluster).owners)
    owners = readable(found.kvs, decode_owner)
    return sum(node_id in (owner.node, owner.from_node) for _, owner in owners)
