"""What tenants and accounts store, read from sums and from indexes alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from asyncpg.pgproto.pgproto import UUID

from mesh_core import ids
from mesh_core.database import Database
from mesh_core.errors import NotFound
from mesh_core.ids import Prefix
from mesh_media.repository.object_repository import quota_of

Counts = Mapping[int, tuple[int, int]]
"""Files and their bytes, by age or category."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a tenant stores. `bytes` counts a shared object once; `max_bytes` None means no quota."""

    files: int
    bytes: int
    reserved_bytes: int
    max_bytes: int | None
    shared_bytes: int
    compressed_bytes: int
    by_age: Counts
    by_category: Counts


@dataclass(frozen=True, slots=True)
class AccountUsage:
    """What an account's messages refer to, and what was uploaded for it."""

    account: UUID
    files: int
    bytes: int
    by_category: Counts


class UsageRepository:
    """Adds up."""

    def __init__(self, database: Database) -> None:
        self._pool = database.pool

    async def of_tenant(self, tenant: UUID) -> Usage:
        """Raises `NotFound`."""
        async with self._pool.acquire() as connection:
            row = await connection.fetchrow(_TOTALS, tenant)
            if row is None:
                raise NotFound("tenant", ids.encode(Prefix.TENANT, tenant))
            ages = await connection.fetch(_AGES, tenant)
            categories = await connection.fetch(_CATEGORIES, tenant)
        return Usage(
            files=sum(age["files"] for age in ages),
            bytes=row["bytes"],
            reserved_bytes=row["reserved_bytes"],
            max_bytes=quota_of(row["settings"]),
            shared_bytes=row["shared_bytes"],
            compressed_bytes=sum(age["saved"] for age in ages),
            by_age={age["age"]: (age["files"], age["bytes"]) for age in ages},
            by_category={each["category"]: (each["files"], each["bytes"]) for each in categories},
        )

    async def of_accounts(
        self,
        tenant: UUID,
        accounts: Sequence[UUID] | None,
        after: tuple[int, UUID] | None,
        limit: int,
    ) -> list[AccountUsage]:
        """Most bytes first, `limit` of those behind `after` (bytes and account). `accounts`: only these."""
        size, account = after or (None, None)
        async with self._pool.acquire() as connection:
            totals = await connection.fetch(_ACCOUNTS, tenant, accounts, size, account, limit)
            found = [row["account"] for row in totals]
            categories: dict[UUID, dict[int, tuple[int, int]]] = {account: {} for account in found}
            for each in await connection.fetch(_ACCOUNT_CATEGORIES, tenant, found):
                categories[each["account"]][each["category"]] = each["files"], each["bytes"]
        return [
            AccountUsage(row["account"], row["files"], row["bytes"], categories[row["account"]])
            for row in totals
        ]


_TOTALS = """SELECT t.settings, coalesce(o.bytes, 0) AS bytes, coalesce(o.shared_bytes, 0) AS shared_bytes,
    (SELECT coalesce(sum(size), 0) FROM media_loose_object
       WHERE tenant = t.id AND uploading AND due_time > now())::bigint AS reserved_bytes
  FROM tenant t CROSS JOIN LATERAL (
    SELECT sum(bytes)::bigint AS bytes, sum(shared_bytes)::bigint AS shared_bytes
    FROM media_total WHERE tenant = t.id) AS o
  WHERE t.id = $1"""
# The ages are numbers of sessionmesh.v1.MediaAge: MEDIA_AGE_DAY to MEDIA_AGE_OLDER.
_AGES = """SELECT 1 + width_bucket(now() - create_time,
    ARRAY[interval '1 day', interval '7 days', interval '30 days', interval '365 days']) AS age,
  count(*) AS files, sum(stored_size)::bigint AS bytes, sum(saved_size)::bigint AS saved
FROM media WHERE tenant = $1 GROUP BY 1 ORDER BY 1"""
_CATEGORIES = """SELECT category, sum(files)::bigint AS files, sum(bytes)::bigint AS bytes FROM (
    SELECT r.category, count(*) AS files, sum(m.stored_size) AS bytes
      FROM (SELECT category, media FROM media_reference WHERE tenant = $1 GROUP BY category, media) AS r
        JOIN media m ON m.tenant = $1 AND m.id = r.media
      GROUP BY r.category
    UNION ALL SELECT media_own_category(origin), count(*), sum(stored_size) FROM media m
      WHERE tenant = $1 AND NOT EXISTS (SELECT FROM media_reference r WHERE r.tenant = $1 AND r.media = m.id)
      GROUP BY 1) AS counts
  GROUP BY category"""
_USED = """SELECT account, category, media FROM media_reference
    WHERE tenant = $1 AND ($2::uuid[] IS NULL OR account = ANY ($2)) GROUP BY account, category, media
  UNION ALL SELECT account, media_own_category(origin), id FROM media m
    WHERE tenant = $1 AND account IS NOT NULL AND ($2::uuid[] IS NULL OR account = ANY ($2))
      AND NOT EXISTS (SELECT FROM media_reference r WHERE r.account = m.account AND r.media = m.id)"""
_ACCOUNTS = f"""SELECT account, files, bytes FROM (
    SELECT u.account, count(*) AS files, sum(m.stored_size)::bigint AS bytes
    FROM (SELECT DISTINCT account, media FROM ({_USED}) AS used) AS u
      JOIN media m ON m.tenant = $1 AND m.id = u.media
    GROUP BY u.account) AS accounts
  WHERE $3::bigint IS NULL OR (bytes, account) < ($3, $4::uuid)
  ORDER BY bytes DESC, account DESC LIMIT $5"""  # noqa: S608 - constants
_ACCOUNT_CATEGORIES = f"""SELECT u.account, u.category, count(*) AS files, sum(m.stored_size)::bigint AS bytes
  FROM ({_USED}) AS u JOIN media m ON m.tenant = $1 AND m.id = u.media
  GROUP BY u.account, u.category ORDER BY u.category"""  # noqa: S608 - constants
