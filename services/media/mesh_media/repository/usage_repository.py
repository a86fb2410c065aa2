"""What tenants and accounts store: counted when they ask, or from time to time for those with very many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from time import monotonic

import asyncpg
from asyncpg.pgproto.pgproto import UUID
from asyncpg.pool import PoolConnectionProxy

from mesh_core import ids
from mesh_core.database import Database
from mesh_core.errors import NotFound
from mesh_core.ids import Prefix
from mesh_media.repository.object_repository import quota_of

Counts = Mapping[int, tuple[int, int]]
"""Files and their bytes, by age or category."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a tenant stores. `bytes` counts a shared object once; `max_bytes` None means no quota.

    `report_time`: when files, `compressed_bytes`, ages and categories were counted; None: just now.
    """

    files: int
    bytes: int
    reserved_bytes: int
    max_bytes: int | None
    shared_bytes: int
    compressed_bytes: int
    by_age: Counts
    by_category: Counts
    report_time: datetime | None


@dataclass(frozen=True, slots=True)
class AccountUsage:
    """What an account's messages refer to, and what was uploaded for it."""

    account: UUID
    files: int
    bytes: int
    by_category: Counts


LIVE = 20_000
"""Files up to which a tenant's are counted when it asks; of more the last report tells, if there is one."""
REPORT_TIMEOUT = "10min"


class UsageRepository:
    """Adds up, and reports ahead for tenants where that takes long."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._pool = database.pool
        self._callers = database.callers

    async def of_tenant(self, tenant: UUID) -> Usage:
        """Raises `NotFound`."""
        async with self._callers.of(tenant).acquire() as connection:
            totals = await self._totals(connection, tenant)
            query = f"SELECT kind, number, files, bytes, saved FROM {_source(totals)} WHERE account = $2"  # noqa: S608 - constants
            rows = await connection.fetch(query, tenant, _ALL)
        ages = [row for row in rows if row["kind"] == _AGE]
        return Usage(
            files=sum(age["files"] for age in ages),
            bytes=totals["bytes"],
            reserved_bytes=totals["reserved_bytes"],
            max_bytes=quota_of(totals["settings"]),
            shared_bytes=totals["shared_bytes"],
            compressed_bytes=sum(age["saved"] for age in ages),
            by_age={age["number"]: (age["files"], age["bytes"]) for age in ages},
            by_category={
                row["number"]: (row["files"], row["bytes"]) for row in rows if row["kind"] == _CATEGORY
            },
            report_time=_report_time(totals),
        )

    async def of_accounts(
        self,
        tenant: UUID,
        accounts: Sequence[UUID] | None,
        after: tuple[int, UUID] | None,
        limit: int,
    ) -> tuple[list[AccountUsage], datetime | None]:
        """Most bytes first, `limit` of those behind `after` (bytes and account), and when that was counted,
        None for just now. `accounts`: only these. Raises `NotFound`.
        """
        size, account = after or (None, None)
        async with self._callers.of(tenant).acquire() as connection:
            stored = await self._totals(connection, tenant)
            source = _source(stored)
            query = _ACCOUNTS.format(source)
            totals = await connection.fetch(query, tenant, accounts, size, account, limit)
            found = [row["account"] for row in totals]
            categories: dict[UUID, dict[int, tuple[int, int]]] = {account: {} for account in found}
            for each in await connection.fetch(_ACCOUNT_CATEGORIES.format(source), tenant, found):
                categories[each["account"]][each["number"]] = each["files"], each["bytes"]
        usages = [
            AccountUsage(row["account"], row["files"], row["bytes"], categories[row["account"]])
            for row in totals
        ]
        return usages, _report_time(stored)

    async def report(self) -> bool:
        """Makes the report of one tenant that needs a new one; False when none does. What takes long is made
        less often.
        """
        await self._pool.execute(_NOTE_LARGE, LIVE)
        tenant = await self._pool.fetchval(_NEEDS_REPORT)
        if tenant is None:
            return False
        async with self._database.alone(f"media report of {tenant}") as connection:
            if connection is None:
                return False
            await connection.execute(f"SET transaction_timeout = '{REPORT_TIMEOUT}'")
            # It writes nothing, and so hides no events while it takes its time.
            began, time = monotonic(), await connection.fetchval("SELECT now()")
            rows = await connection.fetch(_COUNT, tenant)
            took = timedelta(seconds=monotonic() - began)
            async with connection.transaction():
                await connection.execute("DELETE FROM media_usage WHERE tenant = $1", tenant)
                await connection.copy_records_to_table(
                    "media_usage", records=[(tenant, *row) for row in rows]
                )
                await connection.execute(_REPORTED, tenant, took, time)
        return True

    async def _totals(self, connection: PoolConnectionProxy, tenant: UUID) -> asyncpg.Record:
        row = await connection.fetchrow(_TOTALS, tenant)
        if row is None:
            raise NotFound("tenant", ids.encode(Prefix.TENANT, tenant))
        return row


def _source(totals: asyncpg.Record) -> str:
    """Where the counts come from: a table expression with the tenant as $1."""
    return _COUNTED if _report_time(totals) is None else _REPORT


def _report_time(totals: asyncpg.Record) -> datetime | None:
    """When the report was made that the counts come from; None where they are counted now."""
    made: datetime | None = totals["made_time"]
    return made if totals["objects"] > LIVE else None


_ALL = UUID(bytes(16))
_CATEGORY, _AGE = 1, 2
_TOTALS = """SELECT t.settings, coalesce(o.objects, 0) AS objects, coalesce(o.bytes, 0) AS bytes,
    coalesce(o.shared_bytes, 0) AS shared_bytes,
    (SELECT coalesce(sum(size), 0) FROM media_loose_object
       WHERE tenant = t.id AND uploading AND due_time > now())::bigint AS reserved_bytes,
    (SELECT made_time FROM media_report WHERE tenant = t.id) AS made_time
  FROM tenant t CROSS JOIN LATERAL (
    SELECT sum(objects)::bigint AS objects, sum(bytes)::bigint AS bytes,
      sum(shared_bytes)::bigint AS shared_bytes
    FROM media_total WHERE tenant = t.id) AS o
  WHERE t.id = $1"""
_REPORT = """(SELECT account, kind, number, files, bytes, saved FROM media_usage
  WHERE tenant = $1) AS counts"""
# The ages are numbers of sessionmesh.v1.MediaAge: MEDIA_AGE_DAY to MEDIA_AGE_OLDER.
_COUNTED = """(WITH
  stored AS MATERIALIZED (
    SELECT id, account, create_time, origin, stored_size, saved_size FROM media WHERE tenant = $1),
  used AS MATERIALIZED (
    SELECT r.account, r.category, r.media, m.stored_size
      FROM (SELECT DISTINCT account, category, media FROM media_reference WHERE tenant = $1) AS r
        JOIN stored m ON m.id = r.media),
  unused AS MATERIALIZED (
    SELECT media_own_category(origin) AS category, id, stored_size FROM stored m
      WHERE NOT EXISTS (SELECT FROM used WHERE used.media = m.id)),
  uploaded AS MATERIALIZED (
    SELECT account, media_own_category(origin) AS category, id, stored_size FROM stored m
      WHERE account IS NOT NULL
        AND NOT EXISTS (SELECT FROM used WHERE used.media = m.id AND used.account = m.account)),
  of_account AS MATERIALIZED (SELECT * FROM used UNION ALL SELECT * FROM uploaded)
  SELECT '00000000-0000-0000-0000-000000000000'::uuid AS account, 2 AS kind,
      1 + width_bucket(now() - create_time,
        ARRAY[interval '1 day', interval '7 days', interval '30 days', interval '365 days']) AS number,
      count(*) AS files, sum(stored_size)::bigint AS bytes, sum(saved_size)::bigint AS saved
    FROM stored GROUP BY 3
  UNION ALL SELECT '00000000-0000-0000-0000-000000000000', 1, category, count(*),
      sum(stored_size)::bigint, 0
    FROM (SELECT DISTINCT category, media, stored_size FROM used UNION ALL SELECT * FROM unused) AS each
    GROUP BY category
  UNION ALL SELECT account, 1, category, count(*), sum(stored_size)::bigint, 0
    FROM of_account GROUP BY account, category
  UNION ALL SELECT account, 0, 0, count(*), sum(stored_size)::bigint, 0
    FROM (SELECT DISTINCT account, media, stored_size FROM of_account) AS each GROUP BY account
  ) AS counts"""
_COUNT = f"""SELECT account, kind::smallint, number::smallint, files, bytes, saved::bigint
  FROM {_COUNTED}"""  # noqa: S608 - constants
_ACCOUNTS = """SELECT account, files, bytes FROM {}
  WHERE kind = 0 AND ($2::uuid[] IS NULL OR account = ANY ($2))
    AND ($3::bigint IS NULL OR (bytes, account) < ($3, $4::uuid))
  ORDER BY bytes DESC, account DESC LIMIT $5"""
_ACCOUNT_CATEGORIES = """SELECT account, number, files, bytes FROM {}
  WHERE kind = 1 AND account = ANY ($2)"""
_NOTE_LARGE = """INSERT INTO media_report (tenant)
  SELECT tenant FROM media_total GROUP BY tenant HAVING sum(objects) > $1 ON CONFLICT DO NOTHING"""
_NEEDS_REPORT = """SELECT tenant FROM media_report
  WHERE made_time IS NULL OR made_time < now() - greatest(interval '5 minutes', took * 100)
  ORDER BY made_time NULLS FIRST LIMIT 1"""
_REPORTED = "UPDATE media_report SET made_time = $3, took = $2 WHERE tenant = $1"
