"""Endpoints in the database.

Every change raises the revision first, which waits until a fan-out that is being written has committed.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

import asyncpg
from asyncpg.pgproto.pgproto import UUID

from mesh_core import ids, validation
from mesh_core.database.requests import Method, claim_request
from mesh_core.errors import NotFound
from mesh_core.ids import Prefix
from mesh_webhook.endpoints.endpoint import COLUMNS, Endpoint
from sessionmesh.v1 import webhook_pb2


class EndpointStore:
    """Reads and changes endpoints. `tenant` is the only tenant whose rows are seen; None: every tenant's."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def create(
        self,
        endpoint: UUID,
        tenant: UUID,
        columns: Mapping[str, object],
        secret: bytes,
        request_id: str,
        digest: bytes,
    ) -> Endpoint:
        """Creates `endpoint`, or returns the one that the same request created; raises `AlreadyExists`.

        `columns` has values for url, display_name, event_types, account_ids, labels, headers, header_names,
        state and rate_per_second.
        """
        async with self._pool.acquire() as connection, connection.transaction():
            first = await claim_request(
                connection, tenant, Method.CREATE_ENDPOINT, request_id, digest, endpoint
            )
            if first is not None:
                return await self._get(connection, first, tenant)
            await raise_revision(connection)
            names = [*columns, "id", "tenant", "secret"]
            values = [*columns.values(), endpoint, tenant, secret]
            places = ", ".join(f"${number}" for number in range(1, len(values) + 1))
            await connection.execute(
                f"INSERT INTO webhook_endpoint ({', '.join(names)}) VALUES ({places})",  # noqa: S608 - our own names
                *values,
            )
            await connection.execute("INSERT INTO webhook_health (endpoint) VALUES ($1)", endpoint)
            return await self._get(connection, endpoint, tenant)

    async def check_tenant(self, tenant: UUID) -> None:
        """Raises `NotFound` for a tenant that does not exist."""
        if not await self._pool.fetchval("SELECT true FROM tenant WHERE id = $1", tenant):
            raise NotFound("tenant", ids.encode(Prefix.TENANT, tenant))

    async def get(self, endpoint: UUID, tenant: UUID | None) -> Endpoint:
        """Raises `NotFound`."""
        return await self._get(self._pool, endpoint, tenant)

    async def page(self, tenant: UUID, after: UUID | None, limit: int) -> list[Endpoint]:
        """At most `limit` of a tenant's endpoints after `after`, oldest first."""
        rows = await self._pool.fetch(_PAGE, tenant, after or UUID(bytes(16)), limit)
        return [Endpoint.of(row) for row in rows]

    async def update(
        self, endpoint: UUID, tenant: UUID | None, columns: Mapping[str, object], etag: str
    ) -> Endpoint:
        """Sets columns; raises `NotFound`, or `Aborted` when `etag` is set and not the current one.

        A disabled endpoint that is enabled gets no event from before that moment.
        """
        async with self._pool.acquire() as connection, connection.transaction():
            await raise_revision(connection)
            before = await self._get(connection, endpoint, tenant)
            validation.check_etag(etag, before.version)
            sets = [f"{name} = ${number}" for number, name in enumerate(columns, 2)]
            if columns.get("state", before.state) != before.state:
                sets += ["disable_reason = ''"]
                if before.state == webhook_pb2.ENDPOINT_STATE_DISABLED:
                    sets += ["since = pg_current_snapshot()"]
                    await connection.execute(_CLEAR_HEALTH, endpoint)
            sets += ["version = version + 1", "update_time = now()"]
            await connection.execute(
                f"UPDATE webhook_endpoint SET {', '.join(sets)} WHERE id = $1",  # noqa: S608 - our own names
                endpoint,
                *columns.values(),
            )
            await connection.execute(WAKE_DISPATCHERS)
            return await self._get(connection, endpoint, tenant)

    async def rotate(
        self,
        endpoint: UUID,
        tenant: UUID | None,
        secret: bytes,
        overlap: timedelta,
        request_id: str,
        digest: bytes,
    ) -> Endpoint:
        """Replaces the secret; the old one signs too for `overlap`. A repeated request changes nothing."""
        async with self._pool.acquire() as connection, connection.transaction():
            await raise_revision(connection)
            owner = (await self._get(connection, endpoint, tenant)).tenant
            first = await claim_request(connection, owner, Method.ROTATE_SECRET, request_id, digest, endpoint)
            if first is None:
                await connection.execute(_ROTATE, endpoint, secret, overlap)
            return await self._get(connection, endpoint, tenant)

    async def delete(self, endpoint: UUID, tenant: UUID | None, etag: str) -> None:
        """Deletes an endpoint, and then, in small steps, its pending deliveries; raises like `update`."""
        async with self._pool.acquire() as connection, connection.transaction():
            await raise_revision(connection)
            validation.check_etag(etag, (await self._get(connection, endpoint, tenant)).version)
            await connection.execute("DELETE FROM webhook_endpoint WHERE id = $1", endpoint)
            await connection.execute("DELETE FROM webhook_health WHERE endpoint = $1", endpoint)
        while await self._pool.fetchval(_DELETE_PENDING, endpoint):
            pass

    @staticmethod
    async def _get(
        connection: asyncpg.Pool | asyncpg.pool.PoolConnectionProxy, endpoint: UUID, tenant: UUID | None
    ) -> Endpoint:
        row = await connection.fetchrow(_GET, endpoint, tenant)
        if row is None:
            raise NotFound("endpoint", ids.encode(Prefix.ENDPOINT, endpoint))
        return Endpoint.of(row)


async def raise_revision(connection: asyncpg.pool.PoolConnectionProxy) -> None:
    """Must be the first statement of a transaction that changes endpoints: it makes them run one by one."""
    await connection.execute("UPDATE webhook_revision SET revision = revision + 1")


DELIVERIES_CHANNEL = "webhook_deliveries"

WAKE_DISPATCHERS = f"SELECT pg_notify('{DELIVERIES_CHANNEL}', '')"
"""Tells the dispatchers of all instances that a delivery may be due."""

_GET = f"SELECT {COLUMNS} FROM webhook_endpoint e WHERE id = $1 AND ($2::uuid IS NULL OR tenant = $2)"  # noqa: S608 - constants
_PAGE = f"SELECT {COLUMNS} FROM webhook_endpoint e WHERE tenant = $1 AND id > $2 ORDER BY id LIMIT $3"  # noqa: S608 - constants
_CLEAR_HEALTH = "UPDATE webhook_health SET failing_since = NULL, hold_until = NULL WHERE endpoint = $1"
_ROTATE = """UPDATE webhook_endpoint SET previous_secret = secret, previous_until = now() + $3::interval,
  secret = $2, version = version + 1, update_time = now() WHERE id = $1"""
_DELETE_PENDING = f"""WITH deleted AS (
  DELETE FROM webhook_delivery WHERE id = ANY (ARRAY(
    SELECT id FROM webhook_delivery WHERE endpoint = $1 AND state = {webhook_pb2.DELIVERY_STATE_PENDING}
    LIMIT 2000)) RETURNING 1)
  SELECT count(*) FROM deleted"""  # noqa: S608 - constants
