"""FleetService: nodes, placement and capacity."""

from mesh_router.fleet.service import FleetService

__all__ = ["FleetService"]
