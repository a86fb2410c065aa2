"""Deliveries and attempts as callers see them: listings, counts, and the request to deliver again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import asyncpg
from asyncpg.pgproto.pgproto import UUID

from mesh_core import ids
from mesh_core.database.callers import CallerPool, Callers
from mesh_core.database.requests import Method, claim_request
from mesh_core.errors import FailedPrecondition, NotFound
from mesh_core.ids import Prefix
from mesh_core.validation import to_duration, to_timestamp
from mesh_webhook.endpoints.endpoint_store import WAKE_DISPATCHERS
from sessionmesh.v1 import webhook_pb2

MAX_LOOKED_AT = 10_000
"""Deliveries that one page is picked from."""

MAX_COUNTED = 100_000
"""Deliveries, and attempts, of an endpoint that `stats` counts at most."""


@dataclass(frozen=True, slots=True)
class DeliveryQuery:
    """Which deliveries of a tenant to list. None, and state 0, match every delivery."""

    tenant: UUID
    endpoint: UUID | None
    event: UUID | None
    state: int


class DeliveryStore:
    """Reads deliveries. `tenant` is the only tenant whose rows are seen; None: every tenant's."""

    def __init__(self, callers: Callers) -> None:
        self._callers = callers

    async def page(
        self, query: DeliveryQuery, before: UUID | None, limit: int
    ) -> tuple[list[asyncpg.Record], UUID | None]:
        """At most `limit` deliveries older than `before`, newest first; rows for `delivery_message`. Raises
        `DeadlineExceeded` SEARCH_TOO_LONG.

        With a filter it looks through a bounded number of the tenant's deliveries. When it found fewer than
        `limit` among them, the second value is where to go on; None when there is no more.
        """
        start = before or _LAST_ID
        pool = self._callers.of(query.tenant)
        rows = await pool.search(
            _PAGE, query.tenant, start, query.endpoint, query.event, query.state, limit, MAX_LOOKED_AT
        )
        if len(rows) == limit:
            return rows, None
        return rows, await pool.fetchval(_LOOKED_AT, query.tenant, start, MAX_LOOKED_AT - 1)

    async def attempts(
        self, delivery: UUID, tenant: UUID | None, after: UUID | None, limit: int
    ) -> list[asyncpg.Record]:
        """A delivery's attempts after `after`, oldest first; rows for `attempt_message`.

        Raises `NotFound`.
        """
        pool = self._callers.of(tenant)
        row = await self._get(pool, delivery, tenant)
        return await pool.search(_ATTEMPTS, row["endpoint"], delivery, after or UUID(bytes(16)), limit)

    async def redeliver(
        self, delivery: UUID, tenant: UUID | None, request_id: str, digest: bytes
    ) -> asyncpg.Record:
        """Makes a delivery PENDING again, at the start of its schedule; a repeated request changes nothing.

        Raises `NotFound`, `AlreadyExists`, and `FailedPrecondition` when its endpoint is disabled or deleted.
        """
        async with self._callers.of(tenant).transaction() as connection:
            row = await self._get(connection, delivery, tenant)
            first = await claim_request(
                connection, row["tenant"], Method.REDELIVER, request_id, digest, delivery
            )
            if first is not None:
                return row
            state = await connection.fetchval(
                "SELECT state FROM webhook_endpoint WHERE id = $1", row["endpoint"]
            )
            if state is None:
                raise FailedPrecondition("the endpoint was deleted", "RESOURCE_DELETED")
            if state == webhook_pb2.ENDPOINT_STATE_DISABLED:
                raise FailedPrecondition("the endpoint is disabled", "ENDPOINT_DISABLED")
            await connection.execute(_REDELIVER, delivery)
            await connection.execute(_QUEUE, row["endpoint"], row["tenant"])
            await connection.execute(WAKE_DISPATCHERS)
            return await self._get(connection, delivery, tenant)

    async def stats(
        self, endpoint: UUID, tenant: UUID | None, window: timedelta
    ) -> webhook_pb2.GetEndpointStatsResponse:
        """Counts an endpoint's pending deliveries, and the deliveries and attempts that ended in `window`.

        Raises `DeadlineExceeded` SEARCH_TOO_LONG.
        """
        pool = self._callers.of(tenant)
        [counts] = await pool.search(_DELIVERY_COUNTS, endpoint, window)
        [attempts] = await pool.search(_ATTEMPT_COUNTS, endpoint, window)
        response = webhook_pb2.GetEndpointStatsResponse(
            pending=counts["pending"],
            succeeded=counts["succeeded"],
            failed=counts["failed"],
            attempts=attempts["attempts"],
        )
        if attempts["p50"] is not None:
            response.latency_p50.CopyFrom(to_duration(attempts["p50"]))
            response.latency_p99.CopyFrom(to_duration(attempts["p99"]))
        if counts["oldest"] is not None:
            response.oldest_pending_age.CopyFrom(to_duration(counts["oldest"]))
        return response

    @staticmethod
    async def _get(
        connection: CallerPool | asyncpg.pool.PoolConnectionProxy, delivery: UUID, tenant: UUID | None
    ) -> asyncpg.Record:
        row = await connection.fetchrow(_GET, delivery, tenant)
        if row is None:
            raise NotFound("delivery", ids.encode(Prefix.DELIVERY, delivery))
        return row


def delivery_message(row: asyncpg.Record) -> webhook_pb2.Delivery:
    """A row of `DeliveryStore` as a proto."""
    message = webhook_pb2.Delivery(
        id=ids.encode(Prefix.DELIVERY, row["id"]),
        endpoint_id=ids.encode(Prefix.ENDPOINT, row["endpoint"]),
        event_id=ids.encode(Prefix.EVENT, row["event"]),
        event_type=row["event_type"],
        account_id=ids.encode(Prefix.ACCOUNT, row["account"]) if row["account"] else "",
        state=row["state"],
        attempts=row["attempts"],
        last_http_status=row["last_status"],
        last_error=row["last_error"],
        create_time=to_timestamp(row["create_time"]),
        traceparent=row["traceparent"],
        replay_job_id="" if row["replay"] is None else ids.encode(Prefix.JOB, row["replay"]),
    )
    if row["end_time"] is not None:
        message.end_time.CopyFrom(to_timestamp(row["end_time"]))
    if row["state"] == webhook_pb2.DELIVERY_STATE_PENDING:
        message.next_attempt_time.CopyFrom(to_timestamp(row["due_at"]))
    return message


def attempt_message(row: asyncpg.Record) -> webhook_pb2.Attempt:
    """A row of `DeliveryStore.attempts` as a proto."""
    return webhook_pb2.Attempt(
        id=ids.encode(Prefix.ATTEMPT, row["id"]),
        delivery_id=ids.encode(Prefix.DELIVERY, row["delivery"]),
        number=row["number"],
        start_time=to_timestamp(row["start_time"]),
        duration=to_duration(row["duration"]),
        http_status=row["status"],
        error=row["error"],
        response_body=row["response_body"],
    )


_LAST_ID = UUID(b"\xff" * 16)
_PENDING = webhook_pb2.DELIVERY_STATE_PENDING
_COLUMNS = """id, endpoint, tenant, account, event, event_type, state, attempts, due_at, last_status,
  last_error, create_time, end_time, traceparent, replay"""
_GET = f"SELECT {_COLUMNS} FROM webhook_delivery WHERE id = $1 AND ($2::uuid IS NULL OR tenant = $2)"  # noqa: S608 - constants
_PAGE = f"""SELECT {_COLUMNS} FROM (
    SELECT * FROM webhook_delivery WHERE tenant = $1 AND id < $2 ORDER BY id DESC LIMIT $7) newest
  WHERE ($3::uuid IS NULL OR endpoint = $3) AND ($4::uuid IS NULL OR event = $4) AND ($5 = 0 OR state = $5)
  ORDER BY id DESC LIMIT $6"""  # noqa: S608 - constants
_LOOKED_AT = (
    "SELECT id FROM webhook_delivery WHERE tenant = $1 AND id < $2 ORDER BY id DESC OFFSET $3 LIMIT 1"
)
_ATTEMPTS = """SELECT id, delivery, number, start_time, duration, status, error, response_body
  FROM webhook_attempt WHERE endpoint = $1 AND delivery = $2 AND id > $3 ORDER BY id LIMIT $4"""
# A claim that is running keeps its token, and its completion decides whether the delivery stays pending.
_REDELIVER = f"""UPDATE webhook_delivery SET state = {_PENDING}, tries = 0, end_time = NULL, replay = NULL,
  due_at = CASE WHEN token IS NULL THEN now() ELSE due_at END WHERE id = $1"""  # noqa: S608 - constants
_QUEUE = """INSERT INTO webhook_queue (endpoint, tenant, due_at, awake) VALUES ($1, $2, now(), true)
  ON CONFLICT (endpoint) DO UPDATE SET due_at = now(), awake = true"""
_DELIVERY_COUNTS = f"""SELECT count(*) FILTER (WHERE state = {_PENDING}) AS pending,
    count(*) FILTER (WHERE state = {webhook_pb2.DELIVERY_STATE_SUCCEEDED} AND recent) AS succeeded,
    count(*) FILTER (WHERE state = {webhook_pb2.DELIVERY_STATE_FAILED} AND recent) AS failed,
    now() - min(create_time) FILTER (WHERE state = {_PENDING}) AS oldest
  FROM (SELECT state, create_time, end_time >= now() - $2::interval AS recent
        FROM webhook_delivery WHERE endpoint = $1 LIMIT {MAX_COUNTED}) d"""  # noqa: S608 - constants
_ATTEMPT_COUNTS = f"""SELECT count(*) AS attempts,
    percentile_disc(0.5) WITHIN GROUP (ORDER BY duration) AS p50,
    percentile_disc(0.99) WITHIN GROUP (ORDER BY duration) AS p99
  FROM (SELECT duration FROM webhook_attempt WHERE endpoint = $1 AND id >= uuid_at(now() - $2::interval)
    LIMIT {MAX_COUNTED}) a"""  # noqa: S608 - constants
