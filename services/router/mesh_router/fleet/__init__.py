"""FleetService: nodes, placement, capacity, drains and alarms."""

from mesh_router.fleet.service import Fleet, FleetService

__all__ = ["Fleet", "FleetService"]
