"""Limits of bytes, of tenants and of their categories: which are passed, and what goes because of that."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

import asyncpg
from asyncpg.pgproto.pgproto import UUID

from mesh_core.database import Database
from mesh_media.repository.references import delete_locked
from mesh_media.repository.rows import Batch

PAGE = 200
"""Limits that are read at once."""
MOST = 20_000
"""Files that one look finds at most."""
LOOK_TIMEOUT = "10min"


@dataclass(frozen=True, slots=True)
class Limit:
    """How many bytes a tenant may have of a category, or in all (`category` 0)."""

    tenant: UUID
    category: int
    max_bytes: int


@dataclass(frozen=True, slots=True)
class TooMuch:
    """What goes, the oldest first, so that a limit holds again, or the first `MOST` of that; as of `time`."""

    time: datetime
    media: Sequence[UUID]


class Look:
    """Looks at all limits, one after the other, while no other replica does."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def limits(self) -> AsyncIterator[Limit]:
        """All there are, but those of categories that the tenant could not have passed with all it has."""
        tenant, category = UUID(bytes(16)), 0
        while page := await self._connection.fetch(_LIMITS, tenant, category, PAGE):
            for row in page:
                tenant, category = row["tenant"], row["category"]
                if row["passed"]:
                    yield Limit(tenant, category, row["max_bytes"])

    async def too_much(self, limit: Limit) -> TooMuch:
        """Looks at all files of the limit, however long that takes: what writes nothing hides no events."""
        arguments = (limit.tenant, limit.max_bytes, MOST, *([limit.category] if limit.category else []))
        time = await self._connection.fetchval("SELECT now()")
        rows = await self._connection.fetch(_OLDEST_OF_CATEGORY if limit.category else _OLDEST, *arguments)
        return TooMuch(time, [row["media"] for row in rows])


class LimitRepository:
    """Deletes media that are too much; their objects are deleted after `grace`."""

    def __init__(self, database: Database, grace: timedelta) -> None:
        self._database = database
        self._pool = database.pool
        self._grace = grace

    @asynccontextmanager
    async def look(self) -> AsyncIterator[Look | None]:
        """None while another replica looks."""
        async with self._database.alone("limits of media") as connection:
            if connection is None:
                yield None
                return
            await connection.execute(f"SET transaction_timeout = '{LOOK_TIMEOUT}'")
            yield Look(connection)

    async def evict(self, limit: Limit, time: datetime, media: Sequence[UUID]) -> Batch:
        """Ends what referred to these in the category at that time; a file goes when nothing else keeps it.
        Of all categories it deletes those that still have an end. What others are at is left to them.
        """
        async with self._pool.acquire() as connection, connection.transaction():
            locked = [row["id"] for row in await connection.fetch(_LOCK, media)]
            if not limit.category:
                ending = [row["id"] for row in await connection.fetch(_ENDING, locked)]
                return Batch(len(media), *await delete_locked(connection, ending, self._grace))
            await connection.execute(_END_REFERENCES, limit.tenant, limit.category, locked, time)
            unreferenced = [row["id"] for row in await connection.fetch(_UNREFERENCED, locked)]
            gone = await delete_locked(connection, unreferenced, self._grace)
            await connection.execute("SELECT media_settle($1)", locked)
            return Batch(len(media), *gone)


# What all of a category's files have is no more than what all of the tenant's have.
_LIMITS = """SELECT l.tenant, l.category, l.max_bytes, l.max_bytes < (
    SELECT coalesce(sum(bytes), 0) FROM media_total t WHERE t.tenant = l.tenant) AS passed
  FROM (
    SELECT tenant, category, max_bytes FROM media_rule WHERE max_bytes IS NOT NULL AND tenant >= $1
    UNION ALL
    SELECT id, 0, (settings ->> 'max_media_bytes')::bigint FROM tenant
      WHERE settings ? 'max_media_bytes' AND id >= $1) AS l
  WHERE (l.tenant, l.category) > ($1, $2::smallint) ORDER BY l.tenant, l.category LIMIT $3"""
# Equal files are one object, whose bytes go with the last of them: they are all as old as the newest, and
# stay where one of them has to. What is shared counts once, and with the file that goes last.
_OLDEST_OF_CATEGORY = """WITH
  file AS MATERIALIZED (
    SELECT c.media, m.sha256, m.thumbnail_sha256,
      CASE WHEN m.original_kept THEN m.original_sha256 END AS kept,
      max(c.since) OVER equal AS since, bool_or(coalesce(m.keep_until > now(), false)) OVER equal AS stays
    FROM media_category c JOIN media m ON m.id = c.media
    WHERE c.tenant = $1 AND c.category = $4 AND m.sha256 IS NOT NULL
    WINDOW equal AS (PARTITION BY m.sha256)),
  last AS (
    SELECT DISTINCT ON (object) object, media FROM (
      SELECT sha256 AS object, * FROM file UNION ALL SELECT thumbnail_sha256, * FROM file
      UNION ALL SELECT kept, * FROM file) AS each
    WHERE object IS NOT NULL ORDER BY object, stays DESC, since DESC, sha256 DESC, media DESC),
  weight AS MATERIALIZED (
    SELECT last.media, sum(o.size) AS size
    FROM last JOIN media_object o ON o.tenant = $1 AND o.sha256 = last.object GROUP BY last.media)
  SELECT media FROM (
    SELECT f.media, f.since, f.sha256,
      sum(coalesce(w.size, 0)) OVER (ORDER BY f.since, f.sha256, f.media) - coalesce(w.size, 0) AS before
    FROM file f LEFT JOIN weight w ON w.media = f.media WHERE NOT f.stays) AS files
  WHERE before < (SELECT sum(size) FROM weight) - $2 ORDER BY since, sha256, media LIMIT $3"""
_OLDEST = """SELECT media FROM (
    SELECT id AS media, sum(stored_size) OVER (ORDER BY id) - stored_size AS before FROM (
      SELECT id, stored_size FROM media
      WHERE tenant = $1 AND expire_time IS NOT NULL AND (keep_until IS NULL OR keep_until <= now())
      ORDER BY id LIMIT $3) AS ending) AS files
  WHERE before < (SELECT sum(bytes) FROM media_total WHERE tenant = $1) - $2 ORDER BY media"""
_LOCK = "SELECT id FROM media WHERE id = ANY ($1) ORDER BY id FOR UPDATE SKIP LOCKED"
_ENDING = "SELECT id FROM media m WHERE id = ANY ($1) AND media_end(m) IS NOT NULL"
_END_REFERENCES = """DELETE FROM media_reference
  WHERE tenant = $1 AND category = $2 AND media = ANY ($3) AND message < uuid_at($4)"""
_UNREFERENCED = """SELECT id FROM media m WHERE id = ANY ($1)
  AND NOT EXISTS (SELECT FROM media_reference r WHERE r.media = m.id)"""
