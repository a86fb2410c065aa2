"""FleetService as gRPC serves it, out of what etcd says of nodes and owners and Postgres of accounts."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from mesh_core.database import Database
from mesh_core.errors import InvalidField, NotFound
from mesh_core.ids import SHARDS
from mesh_core.ownership.keys import NodeInfo, NodeState, OwnerState
from mesh_core.ownership.view import Owner, OwnerView
from mesh_core.paging import Pager, listing
from mesh_router.fleet.queries import Counts, counts
from mesh_router.proxy.account_id import shard_of
from sessionmesh.v1 import fleet_pb2, fleet_pb2_grpc

WARN_PERCENT = 80.0
ALARM_PERCENT = 95.0


class FleetService(fleet_pb2_grpc.FleetServiceServicer):
    """Nodes, placement and capacity. Every answer is of one moment."""

    def __init__(self, database: Database, view: OwnerView, pager: Pager) -> None:
        self._database = database
        self._view = view
        self._pager = pager

    async def ListNodes(
        self, request: fleet_pb2.ListNodesRequest, context: Any
    ) -> fleet_pb2.ListNodesResponse:
        filters = listing(request)
        page = self._pager.parse(request.page_size, request.page_token, filters)
        after = (page.after or b"").decode()
        nodes = [node for node in self._view.nodes() if node.id > after]
        counted = await counts(self._database)
        owned = self._owned()
        response = fleet_pb2.ListNodesResponse(
            nodes=[_node(node, owned[node.id], counted) for node in nodes[: page.limit]]
        )
        if len(nodes) > page.limit:
            response.next_page_token = self._pager.token(nodes[page.limit - 1].id.encode(), filters)
        return response

    async def GetPlacement(
        self, request: fleet_pb2.GetPlacementRequest, context: Any
    ) -> fleet_pb2.GetPlacementResponse:
        owners = self._view.owners()
        counted = await counts(self._database)
        incarnations = {node.id: node.incarnation for node in self._view.nodes()}
        placement = self._view.placement
        return fleet_pb2.GetPlacementResponse(
            shards=[
                _shard(shard, owners.get(shard), placement[shard], incarnations, counted)
                for shard in self._asked(request, owners)
            ],
            table_revision=self._view.table_revision,
            unowned=SHARDS - len(owners),
        )

    async def GetCapacity(
        self, request: fleet_pb2.GetCapacityRequest, context: Any
    ) -> fleet_pb2.GetCapacityResponse:
        counted = await counts(self._database)
        nodes = self._view.nodes()
        owned = self._owned()
        most = sum(node.capacity for node in nodes if node.state is NodeState.ACTIVE)
        active = sum(counted.accounts.values())
        return fleet_pb2.GetCapacityResponse(
            active=active,
            max=most,
            available=max(0, most - active),
            usage_percent=100 * active / most if most else 100.0 if active else 0.0,
            sessions=counted.sessions_of(set(range(SHARDS))),
            warn_percent=WARN_PERCENT,
            alarm_percent=ALARM_PERCENT,
            nodes=[_node(node, owned[node.id], counted) for node in nodes],
        )

    def _owned(self) -> defaultdict[str, set[int]]:
        """The shards that each node runs, by its id."""
        owned: defaultdict[str, set[int]] = defaultdict(set)
        for shard, owner in self._view.owners().items():
            owned[owner.node_id].add(shard)
        return owned

    def _asked(self, request: fleet_pb2.GetPlacementRequest, owners: dict[int, Owner]) -> list[int]:
        subject = request.WhichOneof("subject")
        if subject == "account_id":
            return [shard_of(request.account_id)]
        if subject == "shard":
            if not 0 <= request.shard < SHARDS:
                raise InvalidField("shard", f"must be between 0 and {SHARDS - 1}")
            return [request.shard]
        if subject == "node_id":
            if all(node.id != request.node_id for node in self._view.nodes()):
                raise NotFound("node", request.node_id)
            return sorted(shard for shard, owner in owners.items() if owner.node_id == request.node_id)
        return list(range(SHARDS))


def _node(node: NodeInfo, shards: set[int], counted: Counts) -> fleet_pb2.Node:
    return fleet_pb2.Node(
        id=node.id,
        incarnation=node.incarnation,
        address=node.address,
        state=fleet_pb2.NodeState.Value(f"NODE_STATE_{node.state.value}"),
        capacity=node.capacity,
        shards=len(shards),
        accounts=counted.accounts_of(shards),
        sessions=counted.sessions_of(shards),
    )


def _shard(
    shard: int,
    owner: Owner | None,
    assigned: str | None,
    incarnations: dict[str, str],
    counted: Counts,
) -> fleet_pb2.ShardPlacement:
    placement = fleet_pb2.ShardPlacement(
        shard=shard, assigned_node_id=assigned or "", accounts=counted.accounts_of({shard})
    )
    if owner is not None:
        placement.node_id = owner.node_id
        placement.incarnation = incarnations.get(owner.node_id, "")
        placement.epoch = owner.epoch
        placement.state = _STATES[owner.state]
    return placement


_STATES = {
    OwnerState.CLAIMED: fleet_pb2.OWNER_STATE_CLAIMED,
    OwnerState.ACTIVE: fleet_pb2.OWNER_STATE_ACTIVE,
}
