"""Says which tenants have nearly used up their room, before uploads are refused."""

from __future__ import annotations

import structlog
from asyncpg.pgproto.pgproto import UUID

from mesh_core import ids
from mesh_core.ids import Prefix
from mesh_core.metrics import gauge
from mesh_media.repository.object_repository import ObjectRepository

logger = structlog.get_logger(__name__)

NEARLY_FULL = 0.8
"""The share of a quota from which on its tenant is told of."""
TENANTS = gauge(
    "mesh_media_nearly_full_tenants",
    "Tenants that use 80 % of their quota of media or more.",
    answers="Whose uploads will soon be refused?",
)
TENANTS.set(0)


class QuotaWatch:
    """Logs each tenant once as long as it stays above the share."""

    def __init__(self, objects: ObjectRepository) -> None:
        self._objects = objects
        self._told: frozenset[UUID] = frozenset()

    async def look(self) -> None:
        """Looks at all tenants that have a quota."""
        full = await self._objects.fuller_than(NEARLY_FULL)
        TENANTS.set(len(full))
        for tenant in full.keys() - self._told:
            used, quota = full[tenant]
            logger.warning(
                "a tenant's room for media is nearly used up",
                tenant_id=ids.encode(Prefix.TENANT, tenant),
                used_bytes=used,
                max_media_bytes=quota,
            )
        for tenant in self._told - full.keys():
            logger.info("a tenant has room for media again", tenant_id=ids.encode(Prefix.TENANT, tenant))
        self._told = frozenset(full)
