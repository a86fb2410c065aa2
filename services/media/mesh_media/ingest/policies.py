"""What tenants want done with files that say nothing themselves."""

from __future__ import annotations

import time

from asyncpg.pgproto.pgproto import UUID

from mesh_core.database import Database
from mesh_media.ingest.announcements import Policy
from sessionmesh.v1 import media_pb2

REMEMBERED_SECONDS = 2.0
"""How long files may still be compressed by rules that were changed."""


class Policies:
    """Reads the tenants' rules for compression, and remembers them for a moment."""

    def __init__(self, database: Database) -> None:
        self._pool = database.pool
        self._known: dict[UUID, tuple[float, Policy]] = {}

    async def of(self, tenant: UUID) -> Policy:
        """A tenant's rules; the mesh's where it has none."""
        known = self._known.get(tenant)
        if known is not None and time.monotonic() - known[0] < REMEMBERED_SECONDS:
            return known[1]
        row = await self._pool.fetchrow(_READ, tenant)
        policy = Policy()
        if row is not None:
            policy = Policy(row["compression"] or media_pb2.COMPRESSION_BALANCED, row["keep_original"])
        if len(self._known) >= _MAX_REMEMBERED:
            self._known.clear()
        self._known[tenant] = (time.monotonic(), policy)
        return policy


_MAX_REMEMBERED = 10_000
_READ = "SELECT compression, keep_original FROM media_policy WHERE tenant = $1"
