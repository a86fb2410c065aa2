"""Media whose time is over: found, and deleted in batches, by any number of replicas at once."""

from __future__ import annotations

from datetime import timedelta

from asyncpg.pgproto.pgproto import UUID
from asyncpg.pool import PoolConnectionProxy

from mesh_core.database import Database
from mesh_media.repository.references import delete_locked
from mesh_media.repository.rows import Batch

BATCH = 500
"""Media that one transaction looks at: who refers to one of them meanwhile waits for it."""


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

    async def settle_changed(self) -> bool:
        """Settles a batch of what changed its category, now that this is committed; False when all is."""
        async with self._pool.acquire() as connection, connection.transaction():
            media = [row["media"] for row in await connection.fetch(_TAKE_CHANGED, BATCH)]
            # Whoever settles one now is waited for: what it did not see is seen here.
            await connection.execute(_HOLD, media)
            await connection.execute("SELECT media_settle($1)", media)
            return bool(media)

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
        return Batch(len(locked), *await delete_locked(connection, [*over], self._grace))


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
_UNSETTLED = """SELECT tenant, settled_until FROM media_policy WHERE settled_until IS NOT NULL
  ORDER BY tenant <= $1, tenant LIMIT 1 FOR UPDATE SKIP LOCKED"""
_AFTER = "SELECT id FROM media WHERE tenant = $1 AND id > $2 ORDER BY id LIMIT $3"
_SETTLED = "UPDATE media_policy SET settled_until = $2 WHERE tenant = $1"
_TAKE_CHANGED = """DELETE FROM media_unsettled WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM media_unsettled LIMIT $1 FOR UPDATE SKIP LOCKED)) RETURNING media"""
_HOLD = "SELECT FROM media WHERE id = ANY ($1) ORDER BY id FOR NO KEY UPDATE"
_MANY_TOTALS = "SELECT tenant FROM media_total GROUP BY tenant HAVING count(*) > 100 LIMIT 1000"
_TOTAL = """WITH gone AS (
    DELETE FROM media_total WHERE ctid = ANY (ARRAY(
      SELECT ctid FROM media_total WHERE tenant = $1 LIMIT 100000 FOR UPDATE SKIP LOCKED))
    RETURNING objects, bytes, shared_bytes)
  INSERT INTO media_total SELECT $1, sum(objects), sum(bytes), sum(shared_bytes) FROM gone
    HAVING count(*) > 0"""
