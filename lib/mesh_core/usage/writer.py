"""Adds what a process counted of tenants to their rows of the day, every few seconds.

A process that is killed has not written what it counted since it last wrote. What Postgres did not say it has
may count twice.
"""

from __future__ import annotations

import asyncio

import asyncpg
import structlog

from mesh_core.database import UNAVAILABLE
from mesh_core.usage.counts import COLUMNS, take_all, used_by

logger = structlog.get_logger(__name__)

WRITE_SECONDS = 10.0


class UsageWriter:
    """Writes what this process has counted."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def run(self) -> None:
        """Every few seconds, until it is cancelled."""
        while True:
            await asyncio.sleep(WRITE_SECONDS)
            await self.write()

    async def write(self) -> None:
        """Add what was counted to the rows of today, if the database takes it now; else it is counted on."""
        taken = take_all()
        if not taken:
            return
        try:
            await self._pool.execute(_ADD, [*taken], *zip(*taken.values(), strict=True))
        except UNAVAILABLE as error:
            for tenant, numbers in taken.items():
                used_by(tenant).give_back(numbers)
            logger.warning("what tenants used is not written yet", error=repr(error))
        except asyncpg.PostgresError:
            logger.exception("what tenants used is not written", tenants=len(taken))


# In the order of tenants: other processes write the same rows.
_ADD = f"""INSERT INTO tenant_usage AS t (tenant, day, {", ".join(COLUMNS)})
  SELECT u.tenant, (now() AT TIME ZONE 'UTC')::date, {", ".join(f"u.{name}" for name in COLUMNS)}
  FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[])
    AS u(tenant, {", ".join(COLUMNS)})
  JOIN tenant ON tenant.id = u.tenant ORDER BY u.tenant
  ON CONFLICT (tenant, day) DO UPDATE SET
    {", ".join(f"{name} = t.{name} + excluded.{name}" for name in COLUMNS)}"""  # noqa: S608 - our own names
