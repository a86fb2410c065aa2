"""What must happen now and then: partitions for attempts, an end to what is too old, and the gauges."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import asyncpg
import structlog

from mesh_core.database.partitions import drop_partition, make_partitions
from mesh_webhook import metrics
from mesh_webhook.away import AWAY

logger = structlog.get_logger(__name__)


async def prepare(pool: asyncpg.Pool) -> None:
    """Partitions for the attempts of the next days: before the first delivery, and then daily."""
    async with pool.acquire() as connection:
        await make_partitions(connection, [_ATTEMPTS])


async def keep_house(pool: asyncpg.Pool, retention_days: int) -> None:
    """Hourly; until it is cancelled. Any number of instances may do it at once."""
    retention = timedelta(days=retention_days)
    while True:
        try:
            await prepare(pool)
            await expire_deliveries(pool, retention)
            await delete_old(pool, retention)
        except (*AWAY, asyncpg.LockNotAvailableError) as error:
            logger.warning("housekeeping did not finish", error=repr(error))
        await asyncio.sleep(_HOUSEKEEPING_EVERY)


async def expire_deliveries(pool: asyncpg.Pool, retention: timedelta) -> int:
    """End what has waited for longer than `retention`, as for a paused endpoint; returns how many."""
    return await _in_steps(pool, _EXPIRE, retention)


async def delete_old(pool: asyncpg.Pool, retention: timedelta) -> int:
    """Delete deliveries that ended before `retention`, what deleted endpoints left, and old attempts.

    Returns how many deliveries.
    """
    deleted = await _in_steps(pool, _DELETE_ENDED, retention) + await _in_steps(
        pool, _DELETE_ORPHANS, timedelta()
    )
    async with pool.acquire() as connection:
        for row in await connection.fetch(_OLD_PARTITIONS, retention.days):
            async with connection.transaction():
                await connection.execute("SET LOCAL lock_timeout = '2s'")
                await drop_partition(connection, _ATTEMPTS, row["day"])
    return deleted


async def measure(pool: asyncpg.Pool) -> None:
    """Refresh the gauges; until it is cancelled."""
    while True:
        try:
            [row] = await pool.fetch(_BACKLOG)
            metrics.pending.set(row["pending"])
            metrics.oldest_due.set(row["overdue"].total_seconds())
        except AWAY as error:
            logger.warning("backlog cannot be measured", error=repr(error))
        await asyncio.sleep(_MEASURE_EVERY)


async def _in_steps(pool: asyncpg.Pool, statement: str, retention: timedelta) -> int:
    total = 0
    while changed := int((await pool.execute(statement, retention)).split()[-1]):
        total += changed
    return total


_ATTEMPTS = "webhook_attempt"
_HOUSEKEEPING_EVERY = 3600.0
_MEASURE_EVERY = 5.0
_EXPIRE = """UPDATE webhook_delivery SET state = 3, token = NULL, end_time = now(),
    last_error = 'not delivered in time'
  WHERE id = ANY (ARRAY(SELECT id FROM webhook_delivery
    WHERE id < uuid_at(now() - $1::interval) AND state = 1 AND create_time < now() - $1::interval
      AND (token IS NULL OR due_at < now()) ORDER BY id LIMIT 2000))"""
_DELETE_ENDED = """DELETE FROM webhook_delivery WHERE id = ANY (ARRAY(SELECT id FROM webhook_delivery
  WHERE id < uuid_at(now() - $1::interval) AND state <> 1 AND end_time < now() - $1::interval
  ORDER BY id LIMIT 2000))"""
_DELETE_ORPHANS = """DELETE FROM webhook_delivery WHERE id = ANY (ARRAY(SELECT d.id FROM webhook_delivery d
  WHERE d.state = 1 AND d.create_time < now() - $1::interval
    AND NOT EXISTS (SELECT FROM webhook_endpoint e WHERE e.id = d.endpoint) LIMIT 2000))"""
_OLD_PARTITIONS = """SELECT to_date(right(c.relname, 8), 'YYYYMMDD') AS day
  FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'webhook_attempt'::regclass
    AND to_date(right(c.relname, 8), 'YYYYMMDD') < (now() AT TIME ZONE 'UTC')::date - $1::int"""
_BACKLOG = """SELECT
  (SELECT count(*) FROM (SELECT FROM webhook_delivery WHERE state = 1 LIMIT 100000) p) AS pending,
  coalesce((
    SELECT greatest(now() - min(first.due_at), interval '0') FROM webhook_endpoint e CROSS JOIN LATERAL (
      SELECT d.due_at FROM webhook_delivery d
      WHERE d.endpoint = e.id AND d.state = 1 ORDER BY d.due_at LIMIT 1) AS first
    WHERE e.state = 1), interval '0') AS overdue"""
