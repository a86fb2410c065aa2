"""Endpoints in the database, where a trigger numbers the changes of each tenant's for `Subscribers`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from urllib.parse import urlsplit

import asyncpg
from asyncpg.pgproto.pgproto import UUID

from mesh_core import ids, validation
from mesh_core.database.callers import CallerPool, Callers
from mesh_core.database.requests import Method, claim_request
from mesh_core.errors import FailedPrecondition, InvalidField, NotFound, ResourceExhausted
from mesh_core.ids import Prefix
from mesh_webhook.endpoints.endpoint import COLUMNS, Endpoint, FormerSecret
from sessionmesh.v1 import webhook_pb2


class EndpointStore:
    """Reads and changes endpoints. `tenant` is the only tenant whose rows are seen; None: every tenant's."""

    def __init__(self, callers: Callers) -> None:
        self._callers = callers

    async def create(
        self,
        endpoint: UUID,
        tenant: UUID,
        columns: Mapping[str, object],
        secret: bytes,
        request_id: str,
        digest: bytes,
    ) -> Endpoint:
        """Creates `endpoint`, or returns the one that the same request created.

        Raises `AlreadyExists`, and `ResourceExhausted` when the tenant has as many as it may.

        `columns` has values for url, display_name, event_types, account_ids, labels, headers, header_names,
        state and rate_per_second.
        """
        # Inserting locks the tenant's row of revisions, so creations are counted one after the other.
        async with self._callers.locking(tenant, tenant) as connection:
            first = await claim_request(
                connection, tenant, Method.CREATE_ENDPOINT, request_id, digest, endpoint
            )
            if first is not None:
                return await self._get(connection, first, tenant)
            names = [*columns, "id", "tenant", "secret"]
            values = [*columns.values(), endpoint, tenant, secret]
            places = ", ".join(f"${number}" for number in range(1, len(values) + 1))
            [made] = await connection.fetch(
                f"""WITH made AS (
                    INSERT INTO webhook_endpoint AS e ({", ".join(names)}) VALUES ({places})
                      RETURNING {COLUMNS}),
                  health AS (INSERT INTO webhook_health (endpoint) SELECT id FROM made)
                  SELECT * FROM made""",  # noqa: S608 - our own names
                *values,
            )
            [(quota, count)] = await connection.fetch(_QUOTA, tenant, DEFAULT_MAX_ENDPOINTS)
            if count > quota:
                raise ResourceExhausted(
                    f"the tenant may have {quota} endpoints", "QUOTA_EXCEEDED", quota="max_endpoints"
                )
            return Endpoint.of(made)

    async def check_tenant(self, tenant: UUID) -> None:
        """Raises `NotFound` for a tenant that does not exist."""
        if not await self._callers.of(tenant).fetchval("SELECT true FROM tenant WHERE id = $1", tenant):
            raise NotFound("tenant", ids.encode(Prefix.TENANT, tenant))

    async def get(self, endpoint: UUID, tenant: UUID | None) -> Endpoint:
        """Raises `NotFound`."""
        return await self._get(self._callers.of(tenant), endpoint, tenant)

    async def page(self, tenant: UUID, after: UUID | None, limit: int) -> list[Endpoint]:
        """At most `limit` of a tenant's endpoints after `after`, oldest first."""
        rows = await self._callers.of(tenant).fetch(_PAGE, tenant, after or UUID(bytes(16)), limit)
        return [Endpoint.of(row) for row in rows]

    async def update(
        self, endpoint: UUID, tenant: UUID | None, columns: Mapping[str, object], etag: str
    ) -> Endpoint:
        """Sets columns; raises `NotFound`, `Aborted` when `etag` is set and not the current one, and
        `InvalidField` for a URL of another origin that would get the headers of the present one.

        A disabled endpoint that is enabled gets no event from before that moment.
        """
        pool = self._callers.of(tenant)
        while True:
            before = await self._get(pool, endpoint, tenant)
            validation.check_etag(etag, before.version)
            if "headers" not in columns and before.headers is not None:
                _check_same_origin(before.url, str(columns.get("url", before.url)))
            sets = [f"{name} = ${number}" for number, name in enumerate(columns, 3)]
            enabled = False
            if columns.get("state", before.state) != before.state:
                sets += ["disable_reason = ''"]
                if enabled := before.state == webhook_pb2.ENDPOINT_STATE_DISABLED:
                    sets += ["since = pg_current_snapshot()"]
            sets += ["version = version + 1", "update_time = now()"]
            # One statement, not a transaction that is open over several: that hides everybody's new events.
            rows = await pool.fetch(
                f"""WITH changed AS (
                    UPDATE webhook_endpoint e SET {", ".join(sets)} WHERE id = $1 AND version = $2
                      RETURNING {COLUMNS}),
                  health AS (UPDATE webhook_health SET failing_since = NULL, hold_until = NULL
                    WHERE {enabled} AND endpoint IN (SELECT id FROM changed))
                  SELECT changed.*, pg_notify('{DELIVERIES_CHANNEL}', '') FROM changed""",  # noqa: S608 - our own names
                endpoint,
                before.version,
                *columns.values(),
            )
            if rows:
                return Endpoint.of(rows[0])

    async def rotate(
        self,
        endpoint: UUID,
        tenant: UUID | None,
        secret: bytes,
        overlap: timedelta,
        request_id: str,
        digest: bytes,
    ) -> Endpoint:
        """Replaces the secret; the old one signs too for `overlap`, older ones as long as was said of them.

        A repeated request changes nothing. Raises `FailedPrecondition` when too many still sign.
        """
        async with self._callers.of(tenant).transaction() as connection:
            before = await self._lock(connection, endpoint, tenant)
            first = await claim_request(
                connection, before.tenant, Method.ROTATE_SECRET, request_id, digest, endpoint
            )
            if first is not None:
                return before
            now = await connection.fetchval("SELECT now()")
            former = [one for one in before.former_secrets if one.until > now]
            if overlap:
                former.insert(0, FormerSecret(before.secret, now + overlap))
            if len(former) > MAX_FORMER_SECRETS:
                ends = min(one.until for one in former)
                raise FailedPrecondition(
                    f"{MAX_FORMER_SECRETS} earlier secrets still sign, which is the most; the first ends at "
                    f"{ends:%Y-%m-%dT%H:%M:%SZ}",
                    "TOO_MANY_SECRETS",
                    retry_after=max(0.0, (ends - now).total_seconds()),
                )
            await connection.execute(
                _ROTATE,
                endpoint,
                secret,
                overlap,
                [one.secret for one in former],
                [one.until for one in former],
            )
            return await self._get(connection, endpoint, tenant)

    async def delete(self, endpoint: UUID, tenant: UUID | None, etag: str) -> None:
        """Deletes an endpoint and some of its pending deliveries; the rest goes in small steps afterwards.

        Raises like `update`.
        """
        pool = self._callers.of(tenant)
        async with pool.transaction() as connection:
            validation.check_etag(etag, (await self._lock(connection, endpoint, tenant)).version)
            await connection.execute("DELETE FROM webhook_endpoint WHERE id = $1", endpoint)
            await connection.execute("DELETE FROM webhook_health WHERE endpoint = $1", endpoint)
        await delete_pending(pool, endpoint)

    async def _lock(
        self, connection: asyncpg.pool.PoolConnectionProxy, endpoint: UUID, tenant: UUID | None
    ) -> Endpoint:
        """The endpoint, which nobody else changes before this transaction ends."""
        return await self._get(connection, endpoint, tenant, f"{_GET} FOR UPDATE")

    @staticmethod
    async def _get(
        connection: CallerPool | asyncpg.pool.PoolConnectionProxy,
        endpoint: UUID,
        tenant: UUID | None,
        query: str = "",
    ) -> Endpoint:
        row = await connection.fetchrow(query or _GET, endpoint, tenant)
        if row is None:
            raise NotFound("endpoint", ids.encode(Prefix.ENDPOINT, endpoint))
        return Endpoint.of(row)


def _check_same_origin(before: str, after: str) -> None:
    """Headers hold tokens that nobody can read back: neither can whoever may change the URL."""
    old, new = urlsplit(before), urlsplit(after)
    if (old.scheme, old.netloc.lower()) != (new.scheme, new.netloc.lower()):
        raise InvalidField("endpoint.headers", "must be given anew with a URL of another origin")


async def delete_pending(pool: asyncpg.Pool | CallerPool, endpoint: UUID) -> int:
    """Deletes a bounded number of an endpoint's pending deliveries; returns how many."""
    return int((await pool.execute(_DELETE_PENDING, endpoint)).split()[-1])


MAX_FORMER_SECRETS = 4
"""So many secrets that were replaced may sign beside the current one."""

DEFAULT_MAX_ENDPOINTS = 10_000
"""Of a tenant whose settings do not say."""

DELIVERIES_CHANNEL = "webhook_deliveries"

WAKE_DISPATCHERS = f"SELECT pg_notify('{DELIVERIES_CHANNEL}', '')"
"""Tells the dispatchers of all instances that a delivery may be due."""

_GET = f"SELECT {COLUMNS} FROM webhook_endpoint e WHERE id = $1 AND ($2::uuid IS NULL OR tenant = $2)"  # noqa: S608 - constants
_PAGE = f"SELECT {COLUMNS} FROM webhook_endpoint e WHERE tenant = $1 AND id > $2 ORDER BY id LIMIT $3"  # noqa: S608 - constants
# `previous_...` are for the release before, which knows only one of them.
_ROTATE = """UPDATE webhook_endpoint SET previous_secret = secret, previous_until = now() + $3::interval,
  former_secrets = $4, former_until = $5, secret = $2, version = version + 1, update_time = now()
  WHERE id = $1"""
_QUOTA = """SELECT coalesce((t.settings->>'max_endpoints')::int, $2),
    (SELECT count(*) FROM webhook_endpoint WHERE tenant = t.id) FROM tenant t WHERE t.id = $1"""
_DELETE_PENDING = f"""DELETE FROM webhook_delivery WHERE id = ANY (ARRAY(
  SELECT id FROM webhook_delivery WHERE id = ANY (ARRAY(
    SELECT id FROM webhook_delivery
      WHERE endpoint = $1 AND state = {webhook_pb2.DELIVERY_STATE_PENDING} LIMIT 500))
  ORDER BY id FOR UPDATE))"""  # noqa: S608 - constants; completions lock by id, too
