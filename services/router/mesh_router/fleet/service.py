"""FleetService: nodes and owners from etcd, accounts from Postgres; and the fleet's parts put together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import aclosing
from statistics import median_low
from typing import Any

from mesh_core.database import Database
from mesh_core.errors import InvalidField, NotFound
from mesh_core.etcd import Etcd
from mesh_core.ids import SHARDS, Prefix, decode
from mesh_core.jobs import job_message
from mesh_core.kept.answers import KeptAnswers
from mesh_core.ownership.keys import NodeInfo, NodeState
from mesh_core.ownership.view import Owner, OwnerView
from mesh_core.paging import Pager
from mesh_core.rpc.account_id import shard_of
from mesh_core.sizing.figures import BY_DRIVER, WHATSAPP_WEB
from mesh_core.sizing.fleet import fleet_need
from mesh_core.tasks import Supervisor
from mesh_router.fleet.admission import ALARM_PERCENT, WARN_PERCENT, Admission
from mesh_router.fleet.connects import NodeConnects
from mesh_router.fleet.counts import Counts, counts, messages_per_second
from mesh_router.fleet.drains import Drains
from mesh_router.fleet.liveness import EtcdLiveness
from mesh_router.fleet.log_levels import LogLevels
from mesh_router.fleet.monitor import FleetMonitor
from mesh_router.fleet.outages import NetworkOutages
from mesh_router.fleet.resources import node_message, percent, plan_message, shard_message
from mesh_router.fleet.watch import FleetWatch
from mesh_router.retention import Retention
from sessionmesh.admin.v1 import fleet_pb2, fleet_pb2_grpc

SPARE_NODES = 1
DEFAULT_CAPACITY = 5000
"""Sessions that a node may run, assumed while no node is registered."""


class Fleet:
    """The parts that look after the fleet, made and started together."""

    def __init__(
        self, database: Database, etcd: Etcd, cluster: str, view: OwnerView, retention: Retention
    ) -> None:
        self.admission = Admission(database, view)
        self.drains = Drains(database, etcd, cluster, view, self.admission)
        self._liveness = EtcdLiveness(etcd, cluster, view)
        self._outages = NetworkOutages(database)
        self.monitor = FleetMonitor(view, self.admission, self._liveness, self._outages, retention)
        self.log_levels = LogLevels(etcd, cluster, view)
        self.watch = FleetWatch(view, self.admission, self.monitor)

    async def start(self, supervisor: Supervisor) -> None:
        """Count the accounts once, which the first call needs already, and start the background tasks."""
        await self.admission.refresh()
        supervisor.start("fleet-admission", self.admission.run())
        supervisor.start("fleet-etcd-liveness", self._liveness.run())
        supervisor.start("fleet-outages", self._outages.run())
        supervisor.start("fleet-monitor", self.monitor.run())
        supervisor.start("fleet-watch", self.watch.run())
        supervisor.start("drains", self.drains.run())


class FleetService(fleet_pb2_grpc.FleetServiceServicer):
    """Nodes, placement, capacity, drains. Each response shows one moment."""

    def __init__(
        self,
        database: Database,
        view: OwnerView,
        pager: Pager,
        fleet: Fleet,
        connects: NodeConnects,
        kept: KeptAnswers,
        default_driver: str,
    ) -> None:
        self._default_driver = default_driver
        self._kept = kept
        self._connects = connects
        self._database = database
        self._view = view
        self._pager = pager
        self._monitor = fleet.monitor
        self._watch = fleet.watch
        self._drains = fleet.drains
        self._log_levels = fleet.log_levels

    async def ListNodes(
        self, request: fleet_pb2.ListNodesRequest, context: Any
    ) -> fleet_pb2.ListNodesResponse:
        page = self._pager.page(request)
        after = (page.after or b"").decode()
        counted = await counts(self._database)
        nodes = [node for node in self._view.nodes() if node.id > after]
        owned = self._owned()
        shown, next_page_token = page.cut(
            nodes, lambda node: _node(node, owned[node.id], counted), lambda node: node.id.encode()
        )
        return fleet_pb2.ListNodesResponse(nodes=shown, next_page_token=next_page_token)

    async def GetPlacement(
        self, request: fleet_pb2.GetPlacementRequest, context: Any
    ) -> fleet_pb2.GetPlacementResponse:
        counted = await counts(self._database)
        owners = self._view.owners()
        incarnations = {node.id: node.incarnation for node in self._view.nodes()}
        placement = self._view.placement
        response = fleet_pb2.GetPlacementResponse(
            table_revision=self._view.table_revision, unowned=SHARDS - len(owners)
        )
        for shard in self._requested(request, owners):
            owner = owners.get(shard)
            incarnation = incarnations.get(owner.node_id, "") if owner else ""
            accounts = counted.accounts_of({shard})
            response.shards.append(shard_message(shard, owner, placement[shard], incarnation, accounts))
        return response

    async def WatchFleet(
        self, request: fleet_pb2.WatchFleetRequest, context: Any
    ) -> AsyncIterator[fleet_pb2.WatchFleetResponse]:
        async with aclosing(self._watch.follow()) as frames:
            async for frame in frames:
                yield frame

    async def DrainNode(
        self, request: fleet_pb2.DrainNodeRequest, context: Any
    ) -> fleet_pb2.DrainNodeResponse:
        row = await self._drains.start(request)
        progress = self._drains.progress(row) if row["end_time"] is None else None
        return fleet_pb2.DrainNodeResponse(job=job_message(row, progress))

    async def UndrainNode(
        self, request: fleet_pb2.UndrainNodeRequest, context: Any
    ) -> fleet_pb2.UndrainNodeResponse:
        node = await self._drains.undrain(request.node_id)
        counted = await counts(self._database)
        return fleet_pb2.UndrainNodeResponse(node=_node(node, self._owned()[node.id], counted))

    async def ConnectAccounts(
        self, request: fleet_pb2.ConnectAccountsRequest, context: Any
    ) -> fleet_pb2.ConnectAccountsResponse:
        return await self._connects.connect(request)

    async def ClearCaches(
        self, request: fleet_pb2.ClearCachesRequest, context: Any
    ) -> fleet_pb2.ClearCachesResponse:
        tenant = decode(Prefix.TENANT, request.tenant_id, "tenant_id") if request.tenant_id else None
        return fleet_pb2.ClearCachesResponse(cleared=await self._kept.clear(tenant))

    async def SetLogLevel(
        self, request: fleet_pb2.SetLogLevelRequest, context: Any
    ) -> fleet_pb2.SetLogLevelResponse:
        return await self._log_levels.set(request)

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
            usage_percent=percent(active, most),
            sessions=counted.sessions_of(set(range(SHARDS))),
            warn_percent=WARN_PERCENT,
            alarm_percent=ALARM_PERCENT,
            nodes=[_node(node, owned[node.id], counted) for node in nodes],
            alarms=self._monitor.alarms,
        )

    async def PlanCapacity(
        self, request: fleet_pb2.PlanCapacityRequest, context: Any
    ) -> fleet_pb2.PlanCapacityResponse:
        for name, least, most in _PLANNED:
            if not least <= getattr(request, name) <= most:
                raise InvalidField(name, f"must be between {least} and {most:,}")
        capacities = [node.capacity for node in self._view.nodes() if node.state is NodeState.ACTIVE]
        capacity = median_low(capacities) if capacities else DEFAULT_CAPACITY
        rate, origins = request.messages_per_second, []
        if not request.HasField("messages_per_second"):
            rate = await messages_per_second(self._database)
            origins.append(f"{rate:.1f} messages a second: the mean of the last ten minutes.")
        origins.append(
            f"A node may run {capacity} sessions: "
            + ("the median of the ACTIVE nodes." if capacities else "the default, as no node is ACTIVE.")
        )
        spare = request.spare_nodes if request.HasField("spare_nodes") else SPARE_NODES
        figures = BY_DRIVER.get(self._default_driver, WHATSAPP_WEB)
        origins.append(
            f"Figures of the network {figures.network}: accounts that name none are of "
            f"{self._default_driver}."
        )
        return plan_message(fleet_need(figures, request.accounts, rate, capacity, spare), figures, origins)

    def _owned(self) -> defaultdict[str, set[int]]:
        """The shards that each node owns, by its id."""
        owned: defaultdict[str, set[int]] = defaultdict(set)
        for shard, owner in self._view.owners().items():
            owned[owner.node_id].add(shard)
        return owned

    def _requested(self, request: fleet_pb2.GetPlacementRequest, owners: dict[int, Owner]) -> list[int]:
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


_PLANNED = (
    ("accounts", 1, 1_000_000_000),
    ("messages_per_second", 0, 1_000_000_000),
    ("spare_nodes", 0, 1_000_000),
)
"""What a plan can be asked for: field, least and most."""


def _node(node: NodeInfo, shards: set[int], counted: Counts) -> fleet_pb2.Node:
    return node_message(node, len(shards), counted.accounts_of(shards), counted.sessions_of(shards))
