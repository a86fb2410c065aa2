"""Does all of it once an hour, in one router at a time: whichever finds that it is due takes the lock."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from time import monotonic

import asyncpg
import structlog

from mesh_core.database import Database
from mesh_core.metrics import gauge
from mesh_router.retention.ages import (
    AGED,
    delete_aged,
    delete_audit_events,
    delete_receipts,
    delete_references,
    delete_votes,
)
from mesh_router.retention.days import drop_old_days
from mesh_router.retention.policy import Policy
from mesh_router.retention.purge import purge_expired_accounts, purge_strays
from mesh_router.retention.shorter import shorter_tenants, sweep

logger = structlog.get_logger(__name__)

AGE = gauge(
    "mesh_retention_age_seconds",
    "Since when all of the retention's work was last done.",
    answers="Is old data deleted in time?",
)
HELD = gauge(
    "mesh_retention_held_days",
    "Days that are over and stand, because something in them is needed.",
    answers="What keeps the database from shrinking?",
)


CLOCKS_APART = timedelta(hours=1)
"""Further apart from the database's clock this router's must not be."""


class Retention:
    """`run` must run in every router."""

    def __init__(self, database: Database, policy: Policy) -> None:
        self._database = database
        self._policy = policy
        self._succeeded_at = monotonic()
        self.failure = ""
        """What the last run could not do."""

    @property
    def age(self) -> float:
        """Seconds since all of it was last done, in whatever router."""
        return monotonic() - self._succeeded_at

    async def run(self) -> None:
        """Looks every minute whether it is due, until cancelled."""
        while True:
            try:
                if await self._due():
                    await self.run_once()
            except Exception as error:  # whatever it is, the next round may do better
                logger.warning("old data was not deleted", error=repr(error))
            await asyncio.sleep(_LOOK_SECONDS)

    async def run_once(self, now: datetime | None = None) -> bool:
        """Does everything that is due at `now` (by default the database's time), each item guarded by itself.

        Returns whether all went well; False also when another router is at it.
        """
        async with self._database.alone("retention") as connection:
            if connection is None:
                return False
            await connection.execute("UPDATE retention_run SET start_time = now()")
            present = await connection.fetchval("SELECT now()")
            if abs(present - own_time()) > CLOCKS_APART:  # one has leapt: it must not take everything along
                failures = [f"the database's clock says {present}, this router's {own_time()}"]
                logger.error("old data was not deleted", reason=failures[0])
            else:
                failures = await self._do_all(connection, now or present)
            await connection.execute(_RECORD, "; ".join(failures)[:1000])
            return not failures

    async def _do_all(self, connection: asyncpg.Connection, now: datetime) -> list[str]:
        failures = []
        for name, work in self._items(connection, now):
            try:
                await work()
            except Exception as error:
                failures.append(f"{name}: {error!r}")
                logger.warning("old data was not deleted", item=name, error=repr(error))
                if connection.is_closed():
                    break
        return failures

    def _items(
        self, connection: asyncpg.Connection, now: datetime
    ) -> Sequence[tuple[str, Callable[[], Awaitable[object]]]]:
        return [
            ("days", partial(self._days, connection, now)),
            ("message_receipt", partial(delete_receipts, connection)),
            ("votes", partial(delete_votes, connection)),
            ("audit events", partial(delete_audit_events, connection)),
            ("media_reference", partial(delete_references, connection)),
            ("shorter tenants", partial(self._shorter, connection, now)),
            ("accounts", partial(purge_expired_accounts, connection, now)),
            ("rows of no account", partial(purge_strays, connection)),
            *((table, partial(delete_aged, connection, table, now)) for table in AGED),
        ]

    async def _days(self, connection: asyncpg.Connection, now: datetime) -> None:
        held = await drop_old_days(connection, self._policy, now)
        HELD.set(len(held))
        for day in held:
            logger.info("a day is held", table=day.table, day=day.day.isoformat(), reason=day.reason)
        if stuck := [f"{day.table} of {day.day}: {day.reason}" for day in held if not day.needed]:
            raise _NotDroppedError("; ".join(stuck))

    async def _shorter(self, connection: asyncpg.Connection, now: datetime) -> None:
        failure = None
        for tenant in await shorter_tenants(connection, self._policy, now):
            try:
                if not await sweep(connection, tenant):
                    logger.info("a tenant's events wait for the webhooks' reader", tenant=str(tenant.id))
            except Exception as error:
                failure = error
                logger.warning("a tenant was not swept", tenant=str(tenant.id), error=repr(error))
        if failure is not None:
            raise failure

    async def _due(self) -> bool:
        row = await self._database.pool.fetchrow(_WHEN)
        assert row is not None  # noqa: S101 - the migration made it
        self._succeeded_at = monotonic() - row["age"].total_seconds()
        self.failure = row["failure"]
        AGE.set(self.age)
        return bool(row["due"])


class _NotDroppedError(Exception):
    """Days that nobody needs stand all the same."""


def own_time() -> datetime:
    return datetime.now(UTC)


_LOOK_SECONDS = 60.0
_RECORD = """UPDATE retention_run
  SET failure = $1, success_time = CASE $1 WHEN '' THEN now() ELSE success_time END"""
# An hour after the last run, ten minutes after one that failed; at once when the clock stepped back since.
_WHEN = """SELECT clock_timestamp() - success_time AS age, failure,
  start_time IS NULL OR clock_timestamp() - start_time > interval '1 hour' OR start_time > clock_timestamp()
    OR (failure <> '' AND clock_timestamp() - start_time > interval '10 minutes') AS due
  FROM retention_run"""
