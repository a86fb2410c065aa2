"""What `mesh top` reads: the router's view of the fleet, and the metrics pages of the parts."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from datetime import UTC, datetime

from mesh_cli.commands.metrics_pages import Page, read_pages
from mesh_cli.commands.running_parts import ClusterInEtcd, RunningPart, local_parts, registered_parts
from mesh_cli.commands.target import Target, local_mesh
from mesh_cli.commands.top.snapshot import Reading
from mesh_client import Client, MeshCallError, PermissionDenied, Unauthenticated
from mesh_core.settings import BadSettings, read
from sessionmesh.admin.v1 import fleet_pb2

SECONDS = 2.0
"""How long the router is waited for."""


class Source:
    """The mesh, which may answer in part: its router, and its parts where somebody says where they are."""

    def __init__(self, client: Client, target: Target) -> None:
        self._client = client
        self._target = target
        self._etcd = _etcd_of_settings()
        self._known: dict[str, str] = {}

    async def read(self) -> Reading:
        """Everything at once. Raises `PermissionDenied` and `Unauthenticated`: another key is needed then."""
        fleet, pages = await asyncio.gather(self._fleet(), self._read_pages())
        capacity, placement, problem = fleet
        return Reading(datetime.now(UTC).astimezone(), capacity, placement, problem, pages)

    async def _read_pages(self) -> dict[str, Page | None]:
        return await read_pages(await self._pages())

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

    async def _pages(self) -> dict[str, str]:
        """Where the parts have their metrics pages; as known before while etcd does not answer."""
        mesh = local_mesh(self._target)
        parts: Mapping[str, RunningPart] | None = None
        if mesh is not None and self._target.address in ("", mesh.address):
            parts = local_parts(mesh)
        elif self._etcd is not None:
            parts = await registered_parts(self._etcd)
        if parts is not None:
            self._known = {name: part.metrics for name, part in parts.items() if part.metrics}
        return self._known


def _etcd_of_settings() -> ClusterInEtcd | None:
    """Where a part with our environment finds the others; `mesh doctor` tells what is wrong with it."""
    try:
        return read(ClusterInEtcd, os.environ)
    except BadSettings:
        return None
