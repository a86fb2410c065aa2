"""Recurring work on the tables of deliveries: partitions, retention, the queue, deleted endpoints."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from datetime import timedelta

import asyncpg
import structlog

from mesh_core.database.partitions import drop_partition, make_partitions
from mesh_core.metrics import counter, counters
from mesh_webhook.deliveries import clock
from mesh_webhook.deliveries.settings import WebhookSettings
from mesh_webhook.endpoints.endpoint_store import delete_pending
from sessionmesh.v1 import webhook_pb2

logger = structlog.get_logger(__name__)

MOST_OWED = 100_000
"""Events of one tenant whose deliveries are still to be made; the oldest beyond that get none."""
GIVEN_UP = counters(
    "mesh_webhook_given_up_events_total",
    "Owed events that got no deliveries any more: too many, or too old.",
    answers="Were events lost that webhooks should have had?",
    why=["too many", "too old"],
)
UNFINISHED = counter(
    "mesh_webhook_maintenance_failures_total",
    "Pieces of maintenance that did not finish.",
    answers="Is what is over deleted?",
)


async def make_attempt_partitions(pool: asyncpg.Pool) -> None:
    """Makes the partitions for the attempts of the next days. Must run before the first delivery."""
    async with pool.acquire() as connection:
        await make_partitions(connection, [_ATTEMPT_TABLE])


async def run(pool: asyncpg.Pool, retention_days: int) -> None:
    """Does all of it every hour until it is cancelled. Any number of instances may do so at once."""
    retention = timedelta(days=retention_days)
    while True:
        for work in (
            make_attempt_partitions(pool),
            repair_queue(pool),
            expire_deliveries(pool, retention),
            delete_old(pool, retention),
            expire_owed(pool, retention),
        ):
            await _guarded(work)
        await asyncio.sleep(_INTERVAL_SECONDS)


async def _guarded(work: Awaitable[object]) -> None:
    """Does one thing of many: what the database does not let it finish is tried again the next time."""
    try:
        await work
    except Exception:  # neither the other pieces nor the process depend on it
        UNFINISHED.inc()
        logger.warning("maintenance did not finish", exc_info=True)


async def expire_deliveries(pool: asyncpg.Pool, retention: timedelta) -> int:
    """Fails deliveries that have waited for longer than `retention`, as for a paused endpoint.

    Returns how many.
    """
    return await _repeat_until_done(pool, _EXPIRE, retention)


async def delete_old(pool: asyncpg.Pool, retention: timedelta) -> int:
    """Deletes deliveries and attempts that ended before `retention`.

    Returns how many deliveries.
    """
    deleted = await _repeat_until_done(pool, _DELETE_ENDED, retention)
    async with pool.acquire() as connection:
        for row in await connection.fetch(_OLD_PARTITIONS, retention.days):
            if not await drop_partition(connection, _ATTEMPT_TABLE, row["day"]):
                break  # it is busy: the next hour will do
    return deleted


async def expire_owed(pool: asyncpg.Pool, retention: timedelta) -> int:
    """Gives up owed events that are older than `retention`, like deliveries; returns how many."""
    expired = await _repeat_until_done(pool, _EXPIRE_OWED, retention)
    _give_up(expired, "too old")
    return expired


async def bound_owed(pool: asyncpg.Pool, most: int = MOST_OWED) -> int:
    """Gives up a tenant's oldest owed events beyond `most`; returns how many."""
    total = 0
    for row in await pool.fetch(_TOO_MANY_OWED, most):
        deleted = await _repeat_until_done(pool, _DELETE_OWED, row["tenant"], row["xid"], row["seq"])
        _give_up(deleted, "too many", str(row["tenant"]))
        total += deleted
    return total


def _give_up(count: int, why: str, tenant: str = "") -> None:
    if count:
        GIVEN_UP.labels(why).inc(count)
        logger.error("events get no deliveries any more", count=count, why=why, tenant=tenant)


async def tidy(pool: asyncpg.Pool, settings: WebhookSettings) -> None:
    """Does what must not wait for an hour, every few seconds until it is cancelled."""
    while True:
        await _guarded(clock.mend(pool, settings))
        await _guarded(clear_leaving(pool))
        await _guarded(bound_owed(pool))
        await asyncio.sleep(_TIDY_SECONDS)


async def clear_leaving(pool: asyncpg.Pool) -> int:
    """Deletes pending deliveries of deleted endpoints, a bounded number of them; returns how many.

    An endpoint is looked at once more after an hour, for deliveries that were being made as it was deleted.
    """
    deleted = 0
    for row in await pool.fetch(_LEAVING):
        of_endpoint = await delete_pending(pool, row["endpoint"])
        if not of_endpoint:
            await pool.execute(_FORGET if row["seen_empty"] else _LOOK_AGAIN, row["endpoint"])
        deleted += of_endpoint
    return deleted


async def repair_queue(pool: asyncpg.Pool) -> None:
    """Queues endpoints with pending deliveries that are not queued, such as those of the release before."""
    await pool.execute(_REPAIR_QUEUE)


async def _repeat_until_done(pool: asyncpg.Pool, statement: str, *arguments: object) -> int:
    """Runs a statement that changes a bounded number of rows until it changes none; returns how many."""
    total = 0
    while changed := int((await pool.execute(statement, *arguments)).split()[-1]):
        total += changed
    return total


_ATTEMPT_TABLE = "webhook_attempt"
_INTERVAL_SECONDS = 3600.0
_TIDY_SECONDS = 5.0
_STATE_PENDING = webhook_pb2.DELIVERY_STATE_PENDING
_EXPIRE = f"""UPDATE webhook_delivery SET state = {webhook_pb2.DELIVERY_STATE_FAILED}, token = NULL,
    end_time = now(), last_error = 'not delivered in time'
  WHERE id = ANY (ARRAY(SELECT id FROM webhook_delivery
    WHERE id < uuid_at(now() - $1::interval) AND state = {_STATE_PENDING}
      AND create_time < now() - $1::interval AND (token IS NULL OR due_at < now())
      AND (replay IS NULL OR due_at < now() - $1::interval)
    ORDER BY id LIMIT 500 FOR UPDATE SKIP LOCKED))"""  # noqa: S608 - constants
_DELETE_ENDED = f"""DELETE FROM webhook_delivery WHERE id = ANY (ARRAY(SELECT id FROM webhook_delivery
  WHERE id < uuid_at(now() - $1::interval) AND state <> {_STATE_PENDING} AND end_time < now() - $1::interval
  ORDER BY id LIMIT 500))"""  # noqa: S608 - constants
_EXPIRE_OWED = """DELETE FROM webhook_owed WHERE ctid = ANY (ARRAY(SELECT ctid FROM webhook_owed
  WHERE event < uuid_at(now() - $1::interval) LIMIT 5000 FOR UPDATE SKIP LOCKED))"""
_TOO_MANY_OWED = """WITH RECURSIVE owing AS (
    (SELECT tenant FROM webhook_owed ORDER BY tenant LIMIT 1)
    UNION ALL
    SELECT (SELECT w.tenant FROM webhook_owed w WHERE w.tenant > o.tenant ORDER BY w.tenant LIMIT 1)
      FROM owing o WHERE o.tenant IS NOT NULL)
  SELECT o.tenant, last.xid, last.seq FROM owing o CROSS JOIN LATERAL (
    SELECT w.xid, w.seq FROM webhook_owed w WHERE w.tenant = o.tenant
      ORDER BY w.xid DESC, w.seq DESC OFFSET $1 LIMIT 1) AS last"""
_DELETE_OWED = """DELETE FROM webhook_owed WHERE ctid = ANY (ARRAY(SELECT ctid FROM webhook_owed
  WHERE tenant = $1 AND (xid, seq) <= ($2::xid8, $3) ORDER BY xid, seq LIMIT 1000 FOR UPDATE SKIP LOCKED))"""
_OLD_PARTITIONS = """SELECT to_date(right(c.relname, 8), 'YYYYMMDD') AS day
  FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'webhook_attempt'::regclass
    AND to_date(right(c.relname, 8), 'YYYYMMDD') < (now() AT TIME ZONE 'UTC')::date - $1::int"""
_LEAVING = """SELECT endpoint, check_at > delete_time AS seen_empty FROM webhook_leaving
  WHERE check_at <= now()
  ORDER BY check_at LIMIT 50"""
_LOOK_AGAIN = "UPDATE webhook_leaving SET check_at = now() + interval '1 hour' WHERE endpoint = $1"
_FORGET = "DELETE FROM webhook_leaving WHERE endpoint = $1"
_REPAIR_QUEUE = f"""WITH RECURSIVE pending AS (
    (SELECT endpoint FROM webhook_delivery WHERE state = {_STATE_PENDING} ORDER BY endpoint LIMIT 1)
    UNION ALL
    SELECT (SELECT d.endpoint FROM webhook_delivery d
        WHERE d.state = {_STATE_PENDING} AND d.endpoint > p.endpoint
      ORDER BY d.endpoint LIMIT 1) FROM pending p WHERE p.endpoint IS NOT NULL)
  INSERT INTO webhook_queue (endpoint, tenant, due_at, awake)
    SELECT e.id, e.tenant, now(), false FROM pending p JOIN webhook_endpoint e ON e.id = p.endpoint
    ORDER BY e.id
    ON CONFLICT DO NOTHING"""  # noqa: S608 - constants
