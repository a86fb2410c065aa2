"""Which media a filter matches: for pages of them, and for jobs that delete them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import orjson
from asyncpg.pgproto.pgproto import UUID

from mesh_core.database import Database
from mesh_core.database.pool import AnyConnection
from mesh_media.repository.media_repository import SELECT_MEDIA, media_row
from mesh_media.repository.references import delete_media
from mesh_media.repository.rows import MediaRow
from mesh_media.repository.sight import seen_by
from sessionmesh.v1 import media_pb2


@dataclass(frozen=True, slots=True)
class MediaQuery:
    """Which media of a tenant; what is None, empty or 0 leaves none out.

    `accounts`: uploaded for one of these, or referred to by one's messages; so `account` means, besides.
    """

    tenant: UUID
    accounts: Sequence[UUID] | None = None
    account: UUID | None = None
    category: int = 0
    mime_type_prefix: str = ""
    origin: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    start: datetime | None = None
    end: datetime | None = None
    min_size: int = 0
    state: int = 0


class MediaListing:
    """Lists what a query matches."""

    def __init__(self, database: Database) -> None:
        self._callers = database.callers

    async def page(self, wanted: MediaQuery, before: UUID | None, limit: int) -> list[MediaRow]:
        """At most `limit` rows older than `before`, newest first.

        Raises `DeadlineExceeded` SEARCH_TOO_LONG.
        """
        where = _Where(wanted)
        if before is not None:
            where.add("m.id < {}", before)
        query = f"{SELECT_MEDIA} WHERE {where.sql} ORDER BY m.id DESC LIMIT {int(limit)}"
        callers = self._callers.of(wanted.tenant)
        found = [media_row(row) for row in await callers.search(query, *where.arguments)]
        if wanted.accounts is None:
            return found
        async with callers.acquire() as connection:
            return await seen_by(connection, found, wanted.accounts)


async def count(connection: AnyConnection, wanted: MediaQuery) -> int:
    """How many match."""
    where = _Where(wanted)
    found: int = await connection.fetchval(
        f"SELECT count(*) FROM media m WHERE {where.sql}",  # noqa: S608 - constants
        *where.arguments,
    )
    return found


async def freed_bytes(connection: AnyConnection, wanted: MediaQuery) -> int:
    """How many bytes deleting all that match would free: those of objects that nothing else refers to."""
    where = _Where(wanted)
    freed: int = await connection.fetchval(_FREED.replace("{}", where.sql), *where.arguments)
    return freed


async def delete_matching(
    connection: AnyConnection, wanted: MediaQuery, after: UUID | None, limit: int, grace: timedelta
) -> tuple[UUID | None, int, int]:
    """Deletes at most `limit` that match behind `after`, oldest first, and objects that nothing else refers
    to after `grace`. Returns the last one that it looked at, None when those were all, how many went, and the
    bytes that this frees.
    """
    where = _Where(wanted)
    if after is not None:
        where.add("m.id > {}", after)
    query = f"SELECT m.id FROM media m WHERE {where.sql} ORDER BY m.id LIMIT {int(limit)}"  # noqa: S608 - constants
    media = [row["id"] for row in await connection.fetch(query, *where.arguments)]
    freed = await connection.fetchval(_FREED.replace("{}", "m.id = ANY ($1)"), media)
    async with connection.transaction():
        gone, _ = await delete_media(connection, media, grace)
    return media[-1] if len(media) == limit else None, gone, freed


class _Where:
    """The conditions of a query, with only what it sets: so each has a plan of its own."""

    def __init__(self, wanted: MediaQuery) -> None:
        self.arguments: list[object] = []
        self._conditions: list[str] = []
        self.add("m.tenant = {}", wanted.tenant)
        for accounts in (wanted.accounts, None if wanted.account is None else [wanted.account]):
            if accounts is not None:
                self.add(_OF_ACCOUNTS, accounts)
        if wanted.category:
            # $2 is the accounts that alone are there for who asks.
            seen = "" if wanted.accounts is None else "AND r.account = ANY ($2::uuid[])"
            condition = _IN_CATEGORY.get(wanted.category, _REFERRED_TO)
            self.add(condition.replace("{seen}", seen), wanted.category)
        if wanted.mime_type_prefix:
            self.add("starts_with(m.mime_type, {})", wanted.mime_type_prefix)
        if wanted.origin:
            self.add("m.origin = {}", wanted.origin)
        if wanted.labels:
            self.add("m.labels @> {}::jsonb", orjson.dumps(dict(wanted.labels)).decode())
        if wanted.start is not None:
            self.add("m.create_time >= {}", wanted.start)
        if wanted.end is not None:
            self.add("m.create_time < {}", wanted.end)
        if wanted.min_size:
            self.add("m.stored_size >= {}", wanted.min_size)
        if wanted.state:
            self.add("m.state = {}", wanted.state)

    @property
    def sql(self) -> str:
        return " AND ".join(self._conditions)

    def add(self, condition: str, value: object) -> None:
        """`condition` has the value's place as {}, any number of times."""
        self.arguments.append(value)
        self._conditions.append(condition.replace("{}", f"${len(self.arguments)}"))


_OF_ACCOUNTS = """m.id IN (SELECT media FROM media_reference WHERE account = ANY ({}::uuid[])
  UNION ALL SELECT id FROM media WHERE account = ANY ({}))"""
_REFERRED_TO = """m.id IN (SELECT r.media FROM media_reference r
  WHERE r.tenant = $1 AND r.category = {}::smallint {seen})"""
# What nothing refers to is found by looking at each file. Scalar subqueries are asked for a page's files
# only; of EXISTS the planner would make a table of all references.
_UNUSED = """media_own_category(m.origin) = {}::smallint
  AND (SELECT true FROM media_reference r WHERE r.media = m.id {seen} LIMIT 1) IS NULL"""
_IN_CATEGORY: Mapping[int, str] = {
    media_pb2.MEDIA_CATEGORY_DEFAULT: _UNUSED,
    media_pb2.MEDIA_CATEGORY_RECEIVED: f"""coalesce((SELECT true FROM media_reference r
      WHERE r.tenant = $1 AND r.category = {{}}::smallint AND r.media = m.id {{seen}} LIMIT 1),
      {_UNUSED})""",  # noqa: S608 - constants
}
_FREED = """WITH matching AS MATERIALIZED (
    SELECT m.tenant, m.sha256, m.thumbnail_sha256,
      CASE WHEN m.original_kept THEN m.original_sha256 END AS kept
    FROM media m WHERE {}),
  reference AS (
    SELECT tenant, sha256, count(*) AS media FROM (
      SELECT tenant, sha256 FROM matching UNION ALL SELECT tenant, thumbnail_sha256 FROM matching
      UNION ALL SELECT tenant, kept FROM matching) AS each
    WHERE sha256 IS NOT NULL GROUP BY tenant, sha256)
  SELECT coalesce(sum(o.size), 0)::bigint
  FROM reference r
    JOIN media_object o ON o.tenant = r.tenant AND o.sha256 = r.sha256 AND o.media <= r.media"""
