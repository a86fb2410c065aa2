"""What tenants want done with files that say nothing themselves."""

from __future__ import annotations

from asyncpg.pgproto.pgproto import UUID

from mesh_core.database import Database
from mesh_media.ingest.announcements import Policy
from sessionmesh.v1 import media_pb2


class Policies:
    """Reads the tenants' rules for compression."""

    def __init__(self, database: Database) -> None:
        self._pool = database.pool

    async def of(self, tenant: UUID) -> Policy:
        """A tenant's rules; the mesh's where it has none."""
        row = await self._pool.fetchrow(_READ, tenant)
        if row is None:
            return Policy()
        return Policy(row["compression"] or media_pb2.COMPRESSION_BALANCED, row["keep_original"])


_READ = "SELECT compression, keep_original FROM media_policy WHERE tenant = $1"
