"""The rows of media, and the objects that they share: equal files of a tenant have one object."""

from __future__ import annotations

from datetime import timedelta

import asyncpg
import orjson
from asyncpg.pgproto.pgproto import UUID
from asyncpg.pool import PoolConnectionProxy

from mesh_core import ids
from mesh_core.database import Database
from mesh_core.database.requests import Method, claim_request
from mesh_core.errors import NotFound
from mesh_core.ids import Prefix
from mesh_media.repository.object_repository import ADD_UNREFERENCED
from mesh_media.repository.rows import MediaQuery, MediaRow, NewMedia


class MediaRepository:
    """Adds, reads and deletes media rows."""

    def __init__(self, database: Database) -> None:
        self._pool = database.pool

    async def add(self, new: NewMedia, request_id: str, digest: bytes) -> MediaRow:
        """Adds a media row, or returns the one that the same request added before.

        If the tenant has an object with the same bytes already, the row refers to that one, and the object
        `new.key` is deleted soon. Raises `AlreadyExists` REQUEST_ID_REUSED.
        """
        async with self._pool.acquire() as connection, connection.transaction():
            first = await claim_request(
                connection, new.tenant, Method.UPLOAD_MEDIA, request_id, digest, new.id
            )
            if first is None:
                await self._insert(connection, new)
            await connection.execute("UPDATE media_loose_object SET due_time = now() WHERE key = $1", new.key)
            row = await connection.fetchrow(f"{_SELECT} WHERE m.id = $1", first or new.id)
        if row is None:
            raise NotFound("media", ids.encode(Prefix.MEDIA, first or new.id))
        return _media_row(row)

    async def get(self, media: UUID) -> MediaRow:
        """One media row; raises `NotFound`."""
        row = await self._pool.fetchrow(f"{_SELECT} WHERE m.id = $1", media)
        if row is None:
            raise NotFound("media", ids.encode(Prefix.MEDIA, media))
        return _media_row(row)

    async def page(self, wanted: MediaQuery, before: UUID | None, limit: int) -> list[MediaRow]:
        """At most `limit` rows older than `before`, newest first."""
        rows = await self._pool.fetch(
            _PAGE,
            wanted.tenant,
            before,
            wanted.accounts,
            wanted.mime_type_prefix,
            wanted.origin,
            orjson.dumps(dict(wanted.labels)).decode(),
            wanted.start,
            wanted.end,
            wanted.min_size,
            limit,
        )
        return [_media_row(row) for row in rows]

    async def delete(self, media: UUID, grace: timedelta) -> None:
        """Deletes a media row. Its object is deleted after `grace` when no other row refers to it."""
        async with self._pool.acquire() as connection, connection.transaction():
            await _delete(connection, [media], grace)

    async def delete_expired(self, grace: timedelta, limit: int = 500) -> int:
        """Deletes rows that have expired, `limit` at most, as `delete` does; returns how many."""
        expired = await self._pool.fetch("SELECT id FROM media WHERE expire_time <= now() LIMIT $1", limit)
        if expired:
            async with self._pool.acquire() as connection, connection.transaction():
                await _delete(connection, [row["id"] for row in expired], grace)
        return len(expired)

    async def _insert(self, connection: PoolConnectionProxy, new: NewMedia) -> None:
        key = await connection.fetchval(
            """INSERT INTO media_object AS o (tenant, sha256, key, size, media) VALUES ($1, $2, $3, $4, 1)
               ON CONFLICT (tenant, sha256) DO UPDATE SET media = o.media + 1 RETURNING key""",
            new.tenant,
            new.sha256,
            new.key,
            new.size,
        )
        if key == new.key:
            await connection.execute("DELETE FROM media_loose_object WHERE key = $1", key)
        await connection.execute(
            """INSERT INTO media (id, tenant, account, mime_type, declared_mime_type, sha256, original_size,
                 original_sha256, file_name, unprocessed, width, height, animated, origin, labels,
                 expire_time)
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, now() + $16)""",
            new.id,
            new.tenant,
            new.account,
            new.mime_type,
            new.declared_mime_type,
            new.sha256,
            new.original_size,
            new.original_sha256,
            new.file_name,
            new.unprocessed,
            new.width,
            new.height,
            new.animated,
            new.origin,
            orjson.dumps(new.labels).decode(),
            new.keep_for,
        )


async def _delete(connection: PoolConnectionProxy, media: list[UUID], grace: timedelta) -> None:
    # Locked in the order of their keys, so that two transactions that delete the same files cannot deadlock.
    await connection.execute(
        """SELECT FROM media_object o WHERE (o.tenant, o.sha256) IN
             (SELECT tenant, sha256 FROM media WHERE id = ANY ($1)) ORDER BY o.key FOR UPDATE""",
        media,
    )
    deleted = await connection.fetch("DELETE FROM media WHERE id = ANY ($1) RETURNING tenant, sha256", media)
    for row in deleted:
        last = await connection.fetchrow(
            "SELECT key, size FROM media_object WHERE tenant = $1 AND sha256 = $2 AND media = 1",
            *row.values(),
        )
        if last is None:
            await connection.execute(
                "UPDATE media_object SET media = media - 1 WHERE tenant = $1 AND sha256 = $2", *row.values()
            )
            continue
        await connection.execute("DELETE FROM media_object WHERE key = $1", last["key"])
        await connection.execute(ADD_UNREFERENCED, last["key"], row["tenant"], last["size"], grace)


def _media_row(row: asyncpg.Record) -> MediaRow:
    return MediaRow(**{**dict(row), "labels": orjson.loads(row["labels"])})


_SELECT = """SELECT m.id, m.tenant, m.account, m.mime_type, m.declared_mime_type, o.size, m.sha256,
  m.original_size, m.original_sha256, m.file_name, m.unprocessed, m.width, m.height, m.animated, m.origin,
  m.labels, m.create_time, m.expire_time, o.key
FROM media m JOIN media_object o ON o.tenant = m.tenant AND o.sha256 = m.sha256"""
_PAGE = f"""{_SELECT}
WHERE m.tenant = $1 AND ($2::uuid IS NULL OR m.id < $2) AND ($3::uuid[] IS NULL OR m.account = ANY ($3))
  AND starts_with(m.mime_type, $4) AND ($5::smallint = 0 OR m.origin = $5) AND m.labels @> $6::jsonb
  AND ($7::timestamptz IS NULL OR m.create_time >= $7) AND ($8::timestamptz IS NULL OR m.create_time < $8)
  AND o.size >= $9
ORDER BY m.id DESC LIMIT $10"""
