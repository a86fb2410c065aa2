"""Endpoints in memory by their ids, for those who deliver to them."""

from __future__ import annotations

import asyncpg
from asyncpg.pgproto.pgproto import UUID

from mesh_webhook.endpoints.endpoint import COLUMNS, Endpoint

MAX_CACHED = 10_000
"""How many endpoints are kept, those that were read last."""


class EndpointCache:
    """Endpoints as they were when they were last read: whoever needs a version asks for it."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._endpoints: dict[UUID, Endpoint] = {}

    async def at_version(self, endpoint: UUID, version: int) -> Endpoint | None:
        """The endpoint in that version or a later one; None when it was deleted."""
        known = self._endpoints.get(endpoint)
        if known is not None and known.version >= version:
            return known
        row = await self._pool.fetchrow(_GET, endpoint)
        self._endpoints.pop(endpoint, None)
        if row is None:
            return None
        if len(self._endpoints) >= MAX_CACHED:
            del self._endpoints[next(iter(self._endpoints))]
        self._endpoints[endpoint] = read = Endpoint.of(row)
        return read


_GET = f"SELECT {COLUMNS} FROM webhook_endpoint e WHERE e.id = $1"  # noqa: S608 - constants
