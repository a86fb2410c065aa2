"""Which of a stage's nodes owns an account."""

from __future__ import annotations

from contextlib import suppress

from mesh_core.etcd import Etcd, EtcdUnavailable
from mesh_core.ids import shard_of
from tests.support.eventually import eventually
from tests.support.placement import Placement, read_placement
from tests.support.session_node_stage import NodeProcess, Stage


async def owner_of(stage: Stage, nodes: list[NodeProcess], account_id: str) -> NodeProcess:
    """The account's node, once nobody but `nodes` takes part and no shard would move any more."""
    etcd = Etcd.at(stage.environment["MESH_ETCD_ENDPOINTS"])

    async def settled() -> Placement | None:
        with suppress(EtcdUnavailable):
            seen = await read_placement(etcd, stage.environment["MESH_CLUSTER_NAME"], stage.database)
            if len(seen.nodes) == len(nodes) and seen.is_settled(*seen.nodes):
                return seen
        return None

    try:
        placement = await eventually(settled, what=f"shares of all shards for {len(nodes)} nodes")
    finally:
        await etcd.close()
    owner = placement.owners[shard_of(account_id)].address
    return next(node for node in nodes if node.address == owner)
