"""FleetService: nodes, placement, capacity, drains and alarms."""

from mesh_router.fleet.fleet import Fleet
from mesh_router.fleet.service import FleetService

__all__ = ["Fleet", "FleetService"]
