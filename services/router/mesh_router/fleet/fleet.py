"""The parts that look after the fleet, made and started together."""

from __future__ import annotations

from mesh_core.database import Database
from mesh_core.etcd import Etcd
from mesh_core.ownership.view import OwnerView
from mesh_core.tasks import Supervisor
from mesh_router.fleet.drains import Drains
from mesh_router.fleet.feed import FleetFeed
from mesh_router.fleet.monitor import FleetMonitor
from mesh_router.fleet.occupancy import Occupancy
from mesh_router.fleet.pulse import Pulse


class Fleet:
    """One of each."""

    def __init__(self, database: Database, etcd: Etcd, cluster: str, view: OwnerView) -> None:
        self.occupancy = Occupancy(database, view)
        self.drains = Drains(database, etcd, cluster, view, self.occupancy)
        self._pulse = Pulse(etcd, cluster, view)
        self.monitor = FleetMonitor(view, self.occupancy, self._pulse)
        self.feed = FleetFeed(view, self.occupancy, self.monitor)

    async def start(self, supervisor: Supervisor) -> None:
        """Count accounts once, so that no call is judged without, and start what goes on."""
        await self.occupancy.refresh()
        supervisor.start("fleet-occupancy", self.occupancy.run())
        supervisor.start("fleet-pulse", self._pulse.run())
        supervisor.start("fleet-monitor", self.monitor.run())
        supervisor.start("fleet-feed", self.feed.run())
        supervisor.start("drains", self.drains.run())
