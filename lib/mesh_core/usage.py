"""What tenants use: counted in each process, and added to the tenants' rows of the day every few seconds.

Counting is an addition to a number in memory. A process that is killed has not written what it counted since
it last wrote; what is written when Postgres did not say whether it took it may count twice.
"""

from __future__ import annotations

import asyncio

import asyncpg
import structlog
from asyncpg.pgproto.pgproto import UUID

from mesh_core.database import UNAVAILABLE

logger = structlog.get_logger(__name__)

WRITE_SECONDS = 10.0
COLUMNS = (
    "messages_sent",
    "messages_received",
    "media_uploaded_bytes",
    "media_downloaded_bytes",
    "webhook_attempts",
)
"""Of the table, as of `Used`."""


class Used:
    """What one tenant has used, and is not written yet: add to it, from the event loop."""

    __slots__ = COLUMNS

    def __init__(self) -> None:
        self.messages_sent = 0
        self.messages_received = 0
        self.media_uploaded_bytes = 0
        self.media_downloaded_bytes = 0
        self.webhook_attempts = 0

    def take(self) -> tuple[int, ...]:
        """All of it, by `COLUMNS`; nothing is left."""
        taken = tuple(getattr(self, name) for name in COLUMNS)
        for name in COLUMNS:
            setattr(self, name, 0)
        return taken

    def give_back(self, taken: tuple[int, ...]) -> None:
        """It could not be written."""
        for name, number in zip(COLUMNS, taken, strict=True):
            setattr(self, name, getattr(self, name) + number)


_used: dict[UUID, Used] = {}


def used_by(tenant: UUID) -> Used:
    """What this process counts of a tenant; always the same object."""
    found = _used.get(tenant)
    return _used.setdefault(tenant, Used()) if found is None else found


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
        taken = {tenant: numbers for tenant, used in _used.items() if any(numbers := used.take())}
        if not taken:
            return
        try:
            await self._pool.execute(_ADD, [*taken], *zip(*taken.values(), strict=True))
        except UNAVAILABLE as error:
            for tenant, numbers in taken.items():
                _used[tenant].give_back(numbers)
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
