"""FleetService: nodes, placement, capacity, drains, outages and alarms."""

from mesh_router.fleet.connects import NodeConnects
from mesh_router.fleet.service import Fleet, FleetService

__all__ = ["Fleet", "FleetService", "NodeConnects"]
