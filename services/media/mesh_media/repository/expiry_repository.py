"""Media whose time is over, and those beyond a limit of bytes: deleted in batches, by any number of
replicas at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from asyncpg.pgproto.pgproto import UUID
from asyncpg.pool import PoolConnectionProxy

from mesh_core.database import Database
from mesh_media.repository.references import delete_media

BATCH = 500
"""Media that one transaction looks at: who refers to one of them meanwhile waits for it."""


@dataclass(frozen=True, slots=True)
class Overfull:
    """A tenant's files of one category, or all of them (`category` 0), that are `excess` bytes too many."""

    tenant: UUID
    category: int
    excess: int


@dataclass(frozen=True, slots=True)
class Batch:
    """What a batch looked at, and how many files and bytes of it were deleted."""

    seen: int
    deleted: int
    bytes: int


class ExpiryRepository:
    """Deletes media that nothing keeps any more; their objects are deleted after `grace`."""

    def __init__(self, database: Database, grace: timedelta) -> None:
        self._pool = database.pool
        self._grace = grace
        self._last_settled = UUID(bytes(16))

    async def delete_due(self) -> Batch:
        """Deletes media whose `expire_time` is over, the longest due first. What something keeps after all
        gets another one. What another replica is at is left to it.
        """
        async with self._pool.acquire() as connection, connection.transaction():
            due = [row["id"] for row in await connection.fetch(_DUE, BATCH)]
            if not due:
                return Batch(0, 0, 0)
            return await self._delete_unless_kept(connection, due)

    async def overfull(self) -> list[Overfull]:
        """What has more bytes than its rule, or its tenant's quota, allows."""
        rows = await self._pool.fetch(_OVERFULL)
        return [Overfull(row["tenant"], row["category"], row["excess"]) for row in rows]

    async def evict(self, full: Overfull) -> Batch:
        """Ends the oldest references of the category, until it has room or a batch is full; a file goes when
        nothing else keeps it. Of all categories it deletes those that have an end, the oldest first. What an
        upload asked to keep stays so long. What another replica is at is left to it.
        """
        query = _OLDEST_OF_CATEGORY if full.category else _OLDEST
        async with self._pool.acquire() as connection, connection.transaction():
            if not await connection.fetchval(_ALONE, f"{full.tenant} {full.category}"):
                return Batch(0, 0, 0)
            # What is too much now: a batch before this one, or another replica, has ended some of it.
            excess = await connection.fetchval(_EXCESS, full.tenant, full.category)
            if excess is None:
                return Batch(0, 0, 0)
            arguments = (full.tenant, excess, BATCH, *([full.category] if full.category else []))
            oldest = [row["media"] for row in await connection.fetch(query, *arguments)]
            locked = [row["id"] for row in await connection.fetch(_LOCK, oldest)]
            if not full.category:
                return await self._delete(connection, locked, seen=len(oldest))
            await connection.execute(_END_REFERENCES, full.tenant, full.category, locked)
            unreferenced = [row["id"] for row in await connection.fetch(_UNREFERENCED, locked)]
            gone = await self._delete(connection, unreferenced, seen=len(oldest))
            await connection.execute("SELECT media_settle($1)", locked)
            return gone

    async def settle_policies(self) -> bool:
        """Has a batch of media follow their tenant's changed rules, in turns over the tenants; False when all
        do.
        """
        async with self._pool.acquire() as connection, connection.transaction():
            unsettled = await connection.fetchrow(_UNSETTLED, self._last_settled)
            if unsettled is None:
                return False
            tenant, after = unsettled
            self._last_settled = tenant
            media = [row["id"] for row in await connection.fetch(_AFTER, tenant, after, BATCH)]
            await connection.execute("SELECT media_settle($1)", media)
            await connection.execute(_SETTLED, tenant, media[-1] if len(media) == BATCH else None)
            return True

    async def waiting_work(self) -> int:
        """How many media are still to be processed or fetched."""
        waiting: int = await self._pool.fetchval("SELECT count(*) FROM media_work")
        return waiting

    async def put_totals_together(self) -> None:
        """Has each tenant's sums be few rows again."""
        for row in await self._pool.fetch(_MANY_TOTALS):
            await self._pool.execute(_TOTAL, row["tenant"])

    async def _delete_unless_kept(self, connection: PoolConnectionProxy, locked: list[UUID]) -> Batch:
        # Asked once they are locked: whoever refers to one has done so before, or waits, and finds it gone.
        kept = [row["id"] for row in await connection.fetch(_KEPT, locked)]
        if kept:
            await connection.execute("SELECT media_settle($1)", kept)
        over = {*locked}.difference(kept)
        return await self._delete(connection, [*over], seen=len(locked))

    async def _delete(self, connection: PoolConnectionProxy, media: list[UUID], seen: int) -> Batch:
        if not media:
            return Batch(seen, 0, 0)
        size: int = await connection.fetchval(_SIZE, media)
        return Batch(seen, await delete_media(connection, media, self._grace), size)


_DUE = """SELECT id FROM media WHERE expire_time <= now() ORDER BY expire_time LIMIT $1
  FOR UPDATE SKIP LOCKED"""
# What `media_end` says of each, asked of all at once: a sweep asks it of millions.
_KEPT = """WITH
  due AS MATERIALIZED (
    SELECT id, tenant, media_own_category(origin) AS category, create_time, keep_until FROM media
      WHERE id = ANY ($1) AND NOT ended),
  rule AS MATERIALIZED (
    SELECT of.tenant, category, (
        SELECT keep_for FROM media_rule r
        WHERE r.category = c.category AND r.tenant IN (of.tenant, '00000000-0000-0000-0000-000000000000')
        ORDER BY r.tenant DESC LIMIT 1) AS keep_for
      FROM (SELECT DISTINCT tenant FROM due) AS of
        CROSS JOIN unnest('{1,2,3,4,5,6,7}'::smallint[]) AS c(category)),
  referred AS MATERIALIZED (
    SELECT l.media, bool_or(rule.keep_for IS NULL OR l.since + rule.keep_for > now()) AS kept
      FROM (SELECT media, tenant, category, max(create_time) AS since FROM media_reference
          WHERE media = ANY ($1) GROUP BY media, tenant, category) AS l
        JOIN rule ON rule.tenant = l.tenant AND rule.category = l.category
      GROUP BY l.media)
  SELECT due.id FROM due LEFT JOIN referred ON referred.media = due.id
      LEFT JOIN rule ON rule.tenant = due.tenant AND rule.category = due.category
    WHERE due.keep_until > now() OR referred.kept
      OR (due.keep_until IS NULL AND referred.media IS NULL
        AND (rule.keep_for IS NULL OR due.create_time + rule.keep_for > now()))"""
_SIZE = "SELECT coalesce(sum(stored_size), 0)::bigint FROM media WHERE id = ANY ($1)"
_LOCK = "SELECT id FROM media WHERE id = ANY ($1) ORDER BY id FOR UPDATE SKIP LOCKED"
_OVERFULL = """SELECT r.tenant, r.category, used.bytes - r.max_bytes AS excess
  FROM media_rule r CROSS JOIN LATERAL (
    SELECT sum(m.stored_size)::bigint AS bytes FROM media_category c JOIN media m ON m.id = c.media
    WHERE c.tenant = r.tenant AND c.category = r.category) AS used
  WHERE r.max_bytes IS NOT NULL AND used.bytes > r.max_bytes
UNION ALL
SELECT t.id, 0, used.bytes - (t.settings ->> 'max_media_bytes')::bigint
  FROM tenant t CROSS JOIN LATERAL (
    SELECT sum(bytes)::bigint AS bytes FROM media_total WHERE tenant = t.id) AS used
  WHERE t.settings ? 'max_media_bytes' AND used.bytes > (t.settings ->> 'max_media_bytes')::bigint"""
_EXCESS = f"SELECT excess FROM ({_OVERFULL}) AS too_much WHERE tenant = $1 AND category = $2"  # noqa: S608 - constants
_ALONE = "SELECT pg_try_advisory_xact_lock(hashtextextended('sessionmesh media limit ' || $1, 0))"
_OLDEST_OF_CATEGORY = """SELECT media FROM (
    SELECT c.media, c.since, sum(m.stored_size) OVER (ORDER BY c.since, c.media) - m.stored_size AS before
    FROM media_category c JOIN media m ON m.id = c.media
    WHERE c.tenant = $1 AND c.category = $4 AND (m.keep_until IS NULL OR m.keep_until <= now())) AS files
  WHERE before < $2 ORDER BY since, media LIMIT $3"""
_OLDEST = """SELECT media FROM (
    SELECT id AS media, sum(stored_size) OVER (ORDER BY id) - stored_size AS before
    FROM media WHERE tenant = $1 AND expire_time IS NOT NULL AND (keep_until IS NULL OR keep_until <= now())
    ORDER BY id LIMIT $3) AS files
  WHERE before < $2"""
_END_REFERENCES = "DELETE FROM media_reference WHERE tenant = $1 AND category = $2 AND media = ANY ($3)"
_UNREFERENCED = """SELECT id FROM media m WHERE id = ANY ($1)
  AND NOT EXISTS (SELECT FROM media_reference r WHERE r.media = m.id)"""
_UNSETTLED = """SELECT tenant, settled_until FROM media_policy WHERE settled_until IS NOT NULL
  ORDER BY tenant <= $1, tenant LIMIT 1 FOR UPDATE SKIP LOCKED"""
_AFTER = "SELECT id FROM media WHERE tenant = $1 AND id > $2 ORDER BY id LIMIT $3"
_SETTLED = "UPDATE media_policy SET settled_until = $2 WHERE tenant = $1"
_MANY_TOTALS = "SELECT tenant FROM media_total GROUP BY tenant HAVING count(*) > 100 LIMIT 1000"
_TOTAL = """WITH gone AS (
    DELETE FROM media_total WHERE ctid = ANY (ARRAY(
      SELECT ctid FROM media_total WHERE tenant = $1 LIMIT 100000 FOR UPDATE SKIP LOCKED))
    RETURNING objects, bytes, shared_bytes)
  INSERT INTO media_total SELECT $1, sum(objects), sum(bytes), sum(shared_bytes) FROM gone
    HAVING count(*) > 0"""
