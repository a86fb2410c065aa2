"""Recurring work on the tables of deliveries: partitions, retention, and the gauges of the backlog."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from datetime import timedelta

import asyncpg
import structlog
from prometheus_client import Counter, Gauge

from mesh_core.database import DATABASE_ERRORS
from mesh_core.database.partitions import drop_partition, make_partitions
from sessionmesh.v1 import webhook_pb2

logger = structlog.get_logger(__name__)

PENDING = Gauge("mesh_webhook_pending", "Deliveries that are not done, at most 100,000")
UNFINISHED = Counter("mesh_webhook_maintenance_failures", "Pieces of maintenance that did not finish")
OLDEST_DUE = Gauge(
    "mesh_webhook_oldest_due_seconds", "How long the delivery that is due longest has been due"
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
            expire_deliveries(pool, retention),
            delete_old(pool, retention),
        ):
            await _guarded(work)
        await asyncio.sleep(_INTERVAL_SECONDS)


async def _guarded(work: Awaitable[object]) -> None:
    """Does one thing of many: what the database does not let it finish is tried again the next time."""
    try:
        await work
    except DATABASE_ERRORS as error:
        UNFINISHED.inc()
        logger.warning("maintenance did not finish", error=repr(error))


async def expire_deliveries(pool: asyncpg.Pool, retention: timedelta) -> int:
    """Fails deliveries that have waited for longer than `retention`, as for a paused endpoint.

    Returns how many.
    """
    return await _repeat_until_done(pool, _EXPIRE, retention)


async def delete_old(pool: asyncpg.Pool, retention: timedelta) -> int:
    """Deletes deliveries and attempts that ended before `retention`, and deliveries of deleted endpoints.

    Returns how many deliveries.
    """
    deleted = await _repeat_until_done(pool, _DELETE_ENDED, retention)
    deleted += await _repeat_until_done(pool, _DELETE_ORPHANS, timedelta())
    async with pool.acquire() as connection:
        for row in await connection.fetch(_OLD_PARTITIONS, retention.days):
            async with connection.transaction():
                await connection.execute("SET LOCAL lock_timeout = '2s'")
                await drop_partition(connection, _ATTEMPT_TABLE, row["day"])
    return deleted


async def measure_backlog(pool: asyncpg.Pool) -> None:
    """Refreshes the gauges every few seconds until it is cancelled."""
    while True:
        try:
            [row] = await pool.fetch(_BACKLOG)
            PENDING.set(row["pending"])
            OLDEST_DUE.set(row["overdue"].total_seconds())
        except DATABASE_ERRORS as error:
            logger.warning("backlog cannot be measured", error=repr(error))
        await asyncio.sleep(_MEASURE_SECONDS)


async def _repeat_until_done(pool: asyncpg.Pool, statement: str, retention: timedelta) -> int:
    """Runs a statement that changes a bounded number of rows until it changes none; returns how many."""
    total = 0
    while changed := int((await pool.execute(statement, retention)).split()[-1]):
        total += changed
    return total


_ATTEMPT_TABLE = "webhook_attempt"
_INTERVAL_SECONDS = 3600.0
_MEASURE_SECONDS = 5.0
_STATE_PENDING = webhook_pb2.DELIVERY_STATE_PENDING
_EXPIRE = f"""UPDATE webhook_delivery SET state = {webhook_pb2.DELIVERY_STATE_FAILED}, token = NULL,
    end_time = now(), last_error = 'not delivered in time'
  WHERE id = ANY (ARRAY(SELECT id FROM webhook_delivery
    WHERE id < uuid_at(now() - $1::interval) AND state = {_STATE_PENDING}
      AND create_time < now() - $1::interval AND (token IS NULL OR due_at < now())
    ORDER BY id LIMIT 2000))"""  # noqa: S608 - constants
_DELETE_ENDED = f"""DELETE FROM webhook_delivery WHERE id = ANY (ARRAY(SELECT id FROM webhook_delivery
  WHERE id < uuid_at(now() - $1::interval) AND state <> {_STATE_PENDING} AND end_time < now() - $1::interval
  ORDER BY id LIMIT 2000))"""  # noqa: S608 - constants
_DELETE_ORPHANS = f"""DELETE FROM webhook_delivery WHERE id = ANY (ARRAY(SELECT d.id FROM webhook_delivery d
  WHERE d.state = {_STATE_PENDING} AND d.create_time < now() - $1::interval
    AND NOT EXISTS (SELECT FROM webhook_endpoint e WHERE e.id = d.endpoint) LIMIT 2000))"""  # noqa: S608 - constants
_OLD_PARTITIONS = """SELECT to_date(right(c.relname, 8), 'YYYYMMDD') AS day
  FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'webhook_attempt'::regclass
    AND to_date(right(c.relname, 8), 'YYYYMMDD') < (now() AT TIME ZONE 'UTC')::date - $1::int"""
_BACKLOG = f"""SELECT
  (SELECT count(*) FROM (
    SELECT FROM webhook_delivery WHERE state = {_STATE_PENDING} LIMIT 100000) p) AS pending,
  coalesce((
    SELECT greatest(now() - min(first.due_at), interval '0') FROM webhook_endpoint e CROSS JOIN LATERAL (
      SELECT d.due_at FROM webhook_delivery d
      WHERE d.endpoint = e.id AND d.state = {_STATE_PENDING} ORDER BY d.due_at LIMIT 1) AS first
    WHERE e.state = {webhook_pb2.ENDPOINT_STATE_ACTIVE}), interval '0') AS overdue"""  # noqa: S608 - constants
