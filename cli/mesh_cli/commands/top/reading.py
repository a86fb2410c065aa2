"""What `mesh top` reads: the router's view of the fleet, and the metrics pages of the parts."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from mesh_cli.commands.metrics_pages import read_pages
from mesh_cli.commands.target import Target, local_mesh
from mesh_cli.commands.top.snapshot import Reading
from mesh_client import Client, MeshCallError, PermissionDenied, Unauthenticated
from sessionmesh.admin.v1 import fleet_pb2

SECONDS = 2.0
"""How long the router is waited for."""


class Source:
    """The mesh, which may answer in part. `metrics` are host:port of pages besides this machine's."""

    def __init__(self, client: Client, target: Target, metrics: Sequence[str]) -> None:
        self._client = client
        self._target = target
        self._metrics = {address: address for address in metrics}

    async def read(self) -> Reading:
        """Everything at once. Raises `PermissionDenied` and `Unauthenticated`: another key is needed then."""
        fleet, pages = await asyncio.gather(self._fleet(), read_pages({**self._local(), **self._metrics}))
        capacity, placement, problem = fleet
        return Reading(datetime.now(UTC).astimezone(), capacity, placement, problem, pages)

    async def _fleet(
        self,
    ) -> tuple[fleet_pb2.GetCapacityResponse | None, fleet_pb2.GetPlacementResponse | None, str]:
        try:
            capacity, placement = await asyncio.gather(
                self._client.fleet.GetCapacity(fleet_pb2.GetCapacityRequest(), timeout=SECONDS),
                self._client.fleet.GetPlacement(fleet_pb2.GetPlacementRequest(), timeout=SECONDS),
            )
        except (PermissionDenied, Unauthenticated):
            raise
        except MeshCallError as error:
            return None, None, str(error)
        return capacity, placement, ""

    def _local(self) -> Mapping[str, str]:
        """The parts of the mesh that runs here, if it is the one that is called; they may be started anew."""
        mesh = local_mesh(self._target)
        if mesh is None or self._target.address not in ("", mesh.address):
            return {}
        return {name: part.metrics for name, part in mesh.parts.items()}
