"""The endpoints of all tenants in memory, as they were at a known revision."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass

import asyncpg
from asyncpg.pgproto.pgproto import UUID

from mesh_core.events import StoredEvent
from mesh_webhook.endpoints.endpoint import COLUMNS, Endpoint
from mesh_webhook.events.filters import EventFilter
from sessionmesh.v1 import webhook_pb2


@dataclass(frozen=True, slots=True)
class Subscriber:
    """An endpoint that is active or paused, and the filter of the events it wants."""

    endpoint: Endpoint
    filter: EventFilter


class EndpointCache:
    """The endpoints as the database had them at `revision`.

    The database may have changed since: whoever acts on them compares the revision, or an endpoint's version.
    """

    def __init__(self, pool: asyncpg.Pool) -> None:
        self.revision = 0
        self._pool = pool
        self._endpoints: dict[UUID, Endpoint] = {}
        self._by_tenant: dict[UUID, list[Subscriber]] = {}
        self._loading = asyncio.Lock()

    async def load(self) -> None:
        """Reads all endpoints again; rows and revision come from one snapshot."""
        async with self._loading:
            rows = await self._pool.fetch(_LOAD)
            endpoints = [Endpoint.of(row) for row in rows if row["id"] is not None]
            by_tenant: dict[UUID, list[Subscriber]] = defaultdict(list)
            for endpoint in endpoints:
                if endpoint.state != webhook_pb2.ENDPOINT_STATE_DISABLED:
                    by_tenant[endpoint.tenant].append(Subscriber(endpoint, endpoint.filter()))
            self._endpoints = {endpoint.id: endpoint for endpoint in endpoints}
            self._by_tenant = dict(by_tenant)
            self.revision = rows[0]["revision"]

    async def at_version(self, endpoint: UUID, version: int) -> Endpoint | None:
        """The endpoint in that version or a later one; None when it was deleted."""
        known = self._endpoints.get(endpoint)
        if known is None or known.version < version:
            await self.load()
            known = self._endpoints.get(endpoint)
        return known

    def candidates(self, event: StoredEvent) -> list[Subscriber]:
        """The endpoints that existed when the event was committed, and want it by type and account.

        The caller still has to compare the labels, for which the event must be parsed.
        """
        return [
            subscriber
            for subscriber in self._by_tenant.get(event.tenant, ())
            if subscriber.filter.matches(event.type, event.account)
            and not subscriber.endpoint.since.sees(event.cursor.xid)
        ]


_LOAD = f"SELECT r.revision, {COLUMNS} FROM webhook_revision r LEFT JOIN webhook_endpoint e ON true"  # noqa: S608 - constants
