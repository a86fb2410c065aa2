"""Day partitions of the tables that grow: made ahead, so that no insert ever waits for one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from mesh_core.database.pool import AnyConnection

DAYS_AHEAD = 3
MESSAGE_AND_EVENT = ("message", "event")


async def make_partitions(connection: AnyConnection, tables: Sequence[str] = MESSAGE_AND_EVENT) -> int:
    """Makes the partitions that are missing from yesterday to `DAYS_AHEAD` days on (UTC); returns how many.

    Any service may call it at any time; call it hourly. A row whose id is of another day is refused. Each is
    a short transaction that gives up after 2 s of waiting for a lock, raising asyncpg's
    `LockNotAvailableError`.
    """
    made = 0
    for table in tables:
        for ahead in range(-1, DAYS_AHEAD + 1):
            async with connection.transaction():
                await connection.execute("SET LOCAL lock_timeout = '2s'")
                made += await connection.fetchval(_MAKE, table, ahead)
    return made


async def drop_partition(connection: AnyConnection, table: str, day: date) -> bool:
    """Drops a day's rows for good, in the caller's transaction or its own; returns whether there was one.

    The caller knows that nothing in it is needed. Of events it remembers the last position, so that a cursor
    before it is told of the gap. Set a `lock_timeout`: all readers and writers of the table wait behind this
    one.
    """
    return bool(await connection.fetchval("SELECT drop_day_partition($1, $2)", table, day))


_MAKE = "SELECT make_day_partition($1, (now() AT TIME ZONE 'UTC')::date + $2::int)::int"
