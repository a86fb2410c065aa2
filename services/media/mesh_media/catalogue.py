"""The rows of media: which exist, which bytes they share, and which objects are loose.

An object's row in `media_loose_object` is written before its bytes are, and goes in the transaction that
makes a media row speak for it. Whatever crashes in between leaves a row that the sweep deletes with the
object.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import asyncpg
import orjson
from asyncpg.pgproto.pgproto import UUID
from asyncpg.pool import PoolConnectionProxy

from mesh_core import ids
from mesh_core.database import Database
from mesh_core.database.requests import Method, claim_request
from mesh_core.errors import NotFound, ResourceExhausted
from mesh_core.ids import Prefix


@dataclass(frozen=True, slots=True)
class MediaRow:
    """A media object as stored; `key` is its object's."""

    id: UUID
    tenant: UUID
    mime_type: str
    size: int
    sha256: bytes
    original_size: int
    original_sha256: bytes
    file_name: str
    width: int
    height: int
    origin: int
    labels: dict[str, str]
    create_time: datetime
    expire_time: datetime | None
    key: str


@dataclass(frozen=True, slots=True)
class NewMedia:
    """What an upload adds."""

    id: UUID
    tenant: UUID
    key: str
    mime_type: str
    size: int
    sha256: bytes
    original_size: int
    original_sha256: bytes
    file_name: str
    width: int
    height: int
    origin: int
    labels: dict[str, str]
    keep_for: timedelta | None


@dataclass(frozen=True, slots=True)
class Usage:
    """What a tenant stores: `bytes` counts shared objects once; `max_bytes` 0 is no quota."""

    media: int
    bytes: int
    max_bytes: int
    shared_bytes: int
    compressed_bytes: int


class Catalogue:
    """All statements of the media service."""

    def __init__(self, database: Database) -> None:
        self._pool = database.pool

    async def reserve(self, tenant: UUID, key: str, size: int, lifetime: timedelta) -> None:
        """Note an object that is about to be written; it counts against the quota from now on.

        Raises `NotFound` for an unknown tenant, `ResourceExhausted` QUOTA_EXCEEDED.
        """
        async with self._pool.acquire() as connection, connection.transaction():
            # Uploads of one tenant are counted one after the other.
            settings = await connection.fetchval(
                "SELECT settings FROM tenant WHERE id = $1 FOR NO KEY UPDATE", tenant
            )
            if settings is None:
                raise NotFound("tenant", ids.encode(Prefix.TENANT, tenant))
            quota = _quota(settings)
            if quota and await connection.fetchval(_USED, tenant) + size > quota:
                raise ResourceExhausted(
                    f"the tenant's {quota} bytes of media are used up",
                    "QUOTA_EXCEEDED",
                    quota="max_media_bytes",
                )
            await connection.execute(
                _LOOSEN,
                key,
                tenant,
                size,
                lifetime,
            )

    async def add(self, new: NewMedia, request_id: str, digest: bytes) -> MediaRow:
        """Make the media row, or return what the first upload of this request made.

        The object at `new.key` stays loose, and is deleted soon, when another one with the same bytes is
        there already. Raises `AlreadyExists` REQUEST_ID_REUSED.
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

    async def page(
        self,
        tenant: UUID,
        mime_prefix: str,
        origin: int,
        labels: dict[str, str],
        before: UUID | None,
        limit: int,
    ) -> list[MediaRow]:
        """At most `limit` rows older than `before`, newest first."""
        rows = await self._pool.fetch(
            _PAGE, tenant, before, mime_prefix, origin, orjson.dumps(labels).decode(), limit
        )
        return [_media_row(row) for row in rows]

    async def delete(self, media: UUID, grace: timedelta) -> None:
        """Delete a media row; its object, when no other shares it, is deleted after `grace`."""
        async with self._pool.acquire() as connection, connection.transaction():
            await _delete(connection, [media], grace)

    async def delete_expired(self, grace: timedelta, most: int = 500) -> int:
        """Delete rows whose time is over; how many there were, `most` at most."""
        expired = await self._pool.fetch("SELECT id FROM media WHERE expire_time <= now() LIMIT $1", most)
        if expired:
            async with self._pool.acquire() as connection, connection.transaction():
                await _delete(connection, [row["id"] for row in expired], grace)
        return len(expired)

    async def due_objects(self, most: int = 500) -> list[str]:
        """Keys of loose objects whose time is over."""
        rows = await self._pool.fetch(
            "SELECT key FROM media_loose_object WHERE due_time <= now() ORDER BY due_time LIMIT $1", most
        )
        return [row["key"] for row in rows]

    async def forget_objects(self, keys: list[str]) -> None:
        """After their objects are deleted."""
        await self._pool.execute("DELETE FROM media_loose_object WHERE key = ANY ($1)", keys)

    async def usage(self, tenant: UUID) -> Usage:
        """What the tenant stores."""
        row = await self._pool.fetchrow(_USAGE, tenant)
        if row is None:
            raise NotFound("tenant", ids.encode(Prefix.TENANT, tenant))
        return Usage(
            row["media"], row["bytes"], _quota(row["settings"]), row["shared_bytes"], row["compressed_bytes"]
        )

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
            """INSERT INTO media (id, tenant, mime_type, sha256, original_size, original_sha256, file_name,
                 width, height, origin, labels, expire_time)
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, now() + $12)""",
            new.id,
            new.tenant,
            new.mime_type,
            new.sha256,
            new.original_size,
            new.original_sha256,
            new.file_name,
            new.width,
            new.height,
            new.origin,
            orjson.dumps(new.labels).decode(),
            new.keep_for,
        )


async def _delete(connection: PoolConnectionProxy, media: list[UUID], grace: timedelta) -> None:
    # In the order of their keys: two transactions that delete the same files must not wait for each other.
    await connection.execute(
        """SELECT FROM media_object o WHERE (o.tenant, o.sha256) IN
             (SELECT tenant, sha256 FROM media WHERE id = ANY ($1)) ORDER BY o.key FOR UPDATE""",
        media,
    )
    gone = await connection.fetch("DELETE FROM media WHERE id = ANY ($1) RETURNING tenant, sha256", media)
    for row in gone:
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
        await connection.execute(
            _LOOSEN,
            last["key"],
            row["tenant"],
            last["size"],
            grace,
        )


def _quota(settings: str) -> int:
    """Bytes; int64 travels as text in proto JSON."""
    value: Any = orjson.loads(settings)
    return int(value.get("max_media_bytes", 0))


def _media_row(row: asyncpg.Record) -> MediaRow:
    return MediaRow(**{**dict(row), "labels": orjson.loads(row["labels"])})


_LOOSEN = "INSERT INTO media_loose_object (key, tenant, size, due_time) VALUES ($1, $2, $3, now() + $4)"
_SELECT = """SELECT m.id, m.tenant, m.mime_type, o.size, m.sha256, m.original_size, m.original_sha256,
  m.file_name, m.width, m.height, m.origin, m.labels, m.create_time, m.expire_time, o.key
FROM media m JOIN media_object o ON o.tenant = m.tenant AND o.sha256 = m.sha256"""
_PAGE = f"""{_SELECT}
WHERE m.tenant = $1 AND ($2::uuid IS NULL OR m.id < $2) AND starts_with(m.mime_type, $3)
  AND ($4::smallint = 0 OR m.origin = $4) AND m.labels @> $5::jsonb
ORDER BY m.id DESC LIMIT $6"""
_USED = """SELECT (SELECT coalesce(sum(size), 0) FROM media_object WHERE tenant = $1)
  + (SELECT coalesce(sum(size), 0) FROM media_loose_object WHERE tenant = $1 AND due_time > now())"""
_USAGE = """SELECT t.settings,
  (SELECT count(*) FROM media WHERE tenant = t.id) AS media,
  (SELECT coalesce(sum(size), 0) FROM media_object WHERE tenant = t.id)::bigint AS bytes,
  (SELECT coalesce(sum(size * (media - 1)), 0) FROM media_object WHERE tenant = t.id)::bigint AS shared_bytes,
  (SELECT coalesce(sum(m.original_size - o.size), 0) FROM media m
     JOIN media_object o ON o.tenant = m.tenant AND o.sha256 = m.sha256 WHERE m.tenant = t.id)::bigint
     AS compressed_bytes
FROM tenant t WHERE t.id = $1"""
