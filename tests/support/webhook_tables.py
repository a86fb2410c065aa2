"""The webhook service's tables, without the service: rows as it would have them, and claims on them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import asyncpg
from asyncpg.pgproto.pgproto import UUID

from mesh_core.ids import new_uuid
from mesh_webhook.deliveries import claims
from mesh_webhook.deliveries.claims import ClaimedDelivery
from mesh_webhook.deliveries.http_sender import AttemptResult
from mesh_webhook.deliveries.slots import Share

NOBODY = UUID(bytes(16))
OK = AttemptResult(200, "", b"", None, datetime(2026, 1, 1, tzinfo=UTC), 0.01)
BAD = AttemptResult(500, "HTTP 500", b"", None, datetime(2026, 1, 1, tzinfo=UTC), 0.01)


class Tables:
    """A tenant with endpoints and deliveries, without a service."""

    def __init__(self, pool: asyncpg.Pool, tenant: UUID) -> None:
        self.pool = pool
        self.tenant = tenant

    async def endpoint(self, **columns: object) -> UUID:
        """A new endpoint of the tenant, with these columns."""
        endpoint = new_uuid()
        names = ["id", "tenant", "url", "secret", *columns]
        values = [endpoint, self.tenant, "https://example.org", b"", *columns.values()]
        places = ", ".join(f"${number}" for number in range(1, len(values) + 1))
        await self.pool.execute(
            f"INSERT INTO webhook_endpoint ({', '.join(names)}) VALUES ({places})", *values
        )
        await self.pool.execute("INSERT INTO webhook_health (endpoint) VALUES ($1)", endpoint)
        return endpoint

    async def owe(self, endpoint: UUID, count: int = 1) -> list[UUID]:
        """Deliveries that are due; their ids."""
        made = [new_uuid() for _ in range(count)]
        await self.pool.executemany(
            "INSERT INTO webhook_delivery (id, endpoint, tenant, event, event_type, body)"
            " VALUES ($1, $2, $3, $4, 'a.b', '')",
            [(delivery, endpoint, self.tenant, new_uuid()) for delivery in made],
        )
        return made

    async def due(self, full: Iterable[UUID] = (), *, after: UUID = NOBODY) -> list[UUID]:
        """Endpoints with something due."""
        return [one.endpoint for one in await claims.due(self.pool, after, [], [*full])]

    async def claim(
        self, lease: float = 60, most: int = 100, retries: int = 100, full: Iterable[UUID] = ()
    ) -> list[ClaimedDelivery]:
        """Claims what is due, at most `most` of each endpoint."""
        shares = {endpoint: Share(most, retries) for endpoint in await self.due(full)}
        return await claims.take(self.pool, lease, shares)

    async def delivery(self, delivery: UUID) -> asyncpg.Record:
        """Its row."""
        [row] = await self.pool.fetch("SELECT * FROM webhook_delivery WHERE id = $1", delivery)
        return row

    async def advance(self, start: tuple[int, int], end: tuple[int, int], *owed: UUID) -> bool:
        """Calls the function with one delivery for each endpoint in `owed`, all of one event."""
        event: list[list[Any]] = [[NOBODY], [self.tenant], [None], ["a.b"], [b"{}"], [""]]
        done: bool = await self.pool.fetchval(
            "SELECT webhook_advance('fan-out', 1, $1::xid8, $2, $3::xid8, $4, $5, $6, $7, $8, $9, $10,"
            " $11, $12, $13, '{}', '{}', '{}', '{}')",
            *start,
            *end,
            *event,
            [new_uuid() for _ in owed],
            [*owed],
            [1 for _ in owed],
        )
        return done

    async def count(self) -> int:
        """How many deliveries there are."""
        return int(await self.pool.fetchval("SELECT count(*) FROM webhook_delivery"))


@asynccontextmanager
async def empty_tables(pool: asyncpg.Pool) -> AsyncIterator[Tables]:
    """A new tenant in empty tables: claims and maintenance take the rows of all tenants."""
    tenant = new_uuid()
    await pool.execute("INSERT INTO tenant (id) VALUES ($1)", tenant)
    yield Tables(pool, tenant)
    for table in ("delivery", "attempt", "health", "endpoint", "queue", "owed", "leaving"):
        await pool.execute(f"DELETE FROM webhook_{table}")
    await pool.execute("DELETE FROM event")
    await pool.execute("UPDATE webhook_reader SET xid = '0', seq = 0")
    await pool.execute("UPDATE webhook_clock SET latest = '-infinity'")
