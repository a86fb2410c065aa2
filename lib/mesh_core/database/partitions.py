"""Partitions by day of the tables that grow. They are made ahead: a row without a partition is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import date

import asyncpg

from mesh_core.database.pool import AnyConnection

DAYS_AHEAD = 3
MESSAGE_AND_EVENT = ("message", "event")


async def make_partitions(connection: AnyConnection, tables: Sequence[str] = MESSAGE_AND_EVENT) -> int:
    """Makes the partitions that are missing from yesterday to `DAYS_AHEAD` days from now (UTC); returns how
    many.

    To be called every hour, by any number of services. Each partition is a short transaction of its own,
    which raises asyncpg's `LockNotAvailableError` after it has waited 2 s for a lock.
    """
    made = 0
    for table in tables:
        for ahead in range(-1, DAYS_AHEAD + 1):
            async with connection.transaction():
                await connection.execute("SET LOCAL lock_timeout = '2s'")
                made += await connection.fetchval(_MAKE, table, ahead)
    return made


async def stored_days(connection: AnyConnection | asyncpg.Pool, table: str) -> list[date]:
    """The days that a table has partitions for, oldest first."""
    return [row["day"] for row in await connection.fetch(_DAYS, table)]


async def drop_partition(connection: AnyConnection, table: str, day: date) -> bool:
    """Drops a day's partition with all its rows; False when there is none, or the table's lock was not to
    be had.

    Whether anything in it is still needed is for the caller to know. The position of the last dropped event
    is kept, so that an older cursor is answered as expired. Every reader and writer of the table waits behind
    one that waits for this lock: so that is 100 ms at a time, a few times.
    """
    for _ in range(_ATTEMPTS):
        try:
            async with connection.transaction():
                await connection.execute("SET LOCAL lock_timeout = '100ms'")
                dropped = await connection.fetchval("SELECT drop_day_partition($1, $2)", table, day)
        except asyncpg.LockNotAvailableError:
            await asyncio.sleep(_PAUSE_SECONDS)
        else:
            return bool(dropped)
    return False


_ATTEMPTS = 5
_PAUSE_SECONDS = 0.3
_MAKE = "SELECT make_day_partition($1, (now() AT TIME ZONE 'UTC')::date + $2::int)::int"
_DAYS = """SELECT to_date(right(c.relname, 8), 'YYYYMMDD') AS day FROM pg_inherits i
  JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = $1::text::regclass ORDER BY day"""
