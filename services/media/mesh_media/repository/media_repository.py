"""The rows of media."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import asyncpg
import orjson
from asyncpg.pgproto.pgproto import UUID
from asyncpg.pool import PoolConnectionProxy

from mesh_core import ids
from mesh_core.database import Database
from mesh_core.database.pool import AnyConnection
from mesh_core.database.requests import Method, claim_request
from mesh_core.errors import NotFound, ResourceExhausted, Unavailable
from mesh_core.ids import Prefix
from mesh_core.telemetry import tracing
from mesh_media.repository.known_files import copy_known
from mesh_media.repository.references import delete_media, refer
from mesh_media.repository.rows import (
    MediaRow,
    NewFile,
    NewMedia,
    NewWork,
    StoredObject,
)
from mesh_media.repository.sight import check_only_of, seen_by
from sessionmesh.v1 import content_pb2

MOST_WAITING = 10_000
"""Media of a tenant that are PENDING; calls that are made at once may add some more."""
RETRY_SECONDS = 10.0


class MediaRepository:
    """Adds, reads and deletes media rows."""

    def __init__(self, database: Database) -> None:
        self._pool = database.pool

    async def add(
        self,
        new: NewMedia,
        file: NewFile | None,
        request: tuple[Method, str, bytes],
        work: NewWork | None = None,
    ) -> MediaRow:
        """Adds a media row, or returns the one that the same request (method, id and digest) added before.

        It is READY, or PENDING where there is `work` to be done. Raises `AlreadyExists` REQUEST_ID_REUSED,
        `ResourceExhausted` RATE_LIMITED where as much work waits as may, and `ObjectGone` when the file says
        wrongly that the tenant has an object.
        """
        method, request_id, digest = request
        async with self._pool.acquire() as connection, connection.transaction():
            first = await claim_request(connection, new.tenant, method, request_id, digest, new.id)
            if first is None:
                await _insert(connection, new, file, work)
            return await read_media(connection, first or new.id)

    async def add_known(
        self, new: NewMedia, request: tuple[Method, str, bytes], keep_original: bool
    ) -> MediaRow | None:
        """Adds a media row for bytes that the tenant has as another one's, which was processed alike: it gets
        what that one is. None when there is none; a row that is being deleted is none. Raises `AlreadyExists`
        REQUEST_ID_REUSED.
        """
        is_known, media = await copy_known(self._pool, new, request, keep_original=keep_original)
        if not is_known:
            return None
        if media is None:
            media = await self._made_before(new, request)
        return await read_media(self._pool, media)

    async def _made_before(self, new: NewMedia, request: tuple[Method, str, bytes]) -> UUID:
        """The media of an earlier request. Raises `AlreadyExists` REQUEST_ID_REUSED."""
        async with self._pool.acquire() as connection, connection.transaction():
            first = await claim_request(connection, new.tenant, *request, new.id)
            if first is None:  # it was forgotten this very moment
                raise Unavailable("the request has to be made again", "BACKEND_UNAVAILABLE", retry_after=0.1)
        return first

    async def check_owner(self, tenant: UUID, account: UUID | None) -> None:
        """Raises `NotFound` for a tenant, or an account of it, that does not exist."""
        found = await self._pool.fetchrow(_OWNER, tenant, account)
        if found is None:
            raise NotFound("tenant", ids.encode(Prefix.TENANT, tenant))
        if account is not None and not found["is_account"]:
            raise NotFound("account", ids.encode(Prefix.ACCOUNT, account))

    async def get(self, media: UUID) -> MediaRow:
        """One media row; raises `NotFound`."""
        return await read_media(self._pool, media)

    async def look_up(self, tenant: UUID, sha256: bytes, accounts: Sequence[UUID] | None) -> MediaRow | None:
        """The newest READY media whose bytes have this hash, as stored or as they came, and that is not
        about to expire; `accounts`: only what is theirs, or their messages refer to.
        """
        row = await self._pool.fetchrow(_LOOK_UP, tenant, sha256, accounts, _TOO_LATE)
        return None if row is None else media_row(row)

    async def objects_with(self, tenant: UUID, hashes: Sequence[bytes]) -> frozenset[bytes]:
        """Those of the hashes that the tenant has objects of."""
        rows = await self._pool.fetch(
            "SELECT sha256 FROM media_object WHERE tenant = $1 AND sha256 = ANY ($2)", tenant, hashes
        )
        return frozenset(row["sha256"] for row in rows)

    async def seen_by(self, row: MediaRow, accounts: Sequence[UUID]) -> MediaRow | None:
        """The row as a key sees it that is limited to these accounts; None where it does not."""
        async with self._pool.acquire() as connection:
            return next(iter(await seen_by(connection, [row], accounts)), None)

    async def delete(self, media: UUID, grace: timedelta, accounts: Sequence[UUID] | None = None) -> None:
        """Deletes a media row. Its objects are deleted after `grace` when nothing else refers to them.
        `accounts`: only if it is all theirs; else it raises `PermissionDenied` SCOPE_MISSING.
        """
        async with self._pool.acquire() as connection, connection.transaction():
            if accounts is not None:
                await check_only_of(connection, media, accounts)
            await delete_media(connection, [media], grace)


async def read_media(connection: AnyConnection | asyncpg.Pool, media: UUID) -> MediaRow:
    """One media row; raises `NotFound`."""
    row = await connection.fetchrow(f"{SELECT_MEDIA} WHERE m.id = $1", media)
    if row is None:
        raise NotFound("media", ids.encode(Prefix.MEDIA, media))
    return media_row(row)


async def write_file(connection: PoolConnectionProxy, media: UUID, tenant: UUID, file: NewFile) -> None:
    """Has a media row say what is stored of its file, and counts the references. Raises `ObjectGone`."""
    await refer(connection, tenant, file.objects)
    thumbnail = None if file.thumbnail is None else file.thumbnail.sha256
    await connection.execute(
        _WRITE_FILE,
        media,
        file.mime_type,
        file.stored.sha256,
        file.unprocessed,
        file.width,
        file.height,
        file.duration_ms,
        file.animated,
        file.waveform,
        file.preview,
        thumbnail,
        file.thumbnail_width,
        file.thumbnail_height,
        file.original is not None,
    )


async def _insert(
    connection: PoolConnectionProxy, new: NewMedia, file: NewFile | None, work: NewWork | None
) -> None:
    if work is not None and await connection.fetchval(_WAITING, new.tenant, MOST_WAITING) >= MOST_WAITING:
        raise ResourceExhausted(
            f"{MOST_WAITING} of the tenant's files wait to be fetched or processed",
            "RATE_LIMITED",
            quota="media work",
            retry_after=RETRY_SECONDS,
        )
    await connection.execute(
        _INSERT,
        new.id,
        new.tenant,
        new.account,
        content_pb2.MEDIA_STATE_READY if work is None else content_pb2.MEDIA_STATE_PENDING,
        new.declared_mime_type,
        new.original_size,
        new.original_sha256,
        new.file_name,
        new.purpose,
        new.compression,
        new.origin,
        orjson.dumps(new.labels).decode(),
        new.keep_for,
    )
    if file is not None:
        await write_file(connection, new.id, new.tenant, file)
    if work is not None:
        here = [tracing.current_traceparent()]
        tracing.start_span("mesh.media.pending", itself=tracing.found(f"media/{new.id}"), links=here).end()
        await connection.execute(
            _ADD_WORK,
            new.id,
            new.tenant,
            work.kind,
            work.options,
            work.url,
            work.with_headers,
            work.held_for,
        )


def media_row(row: asyncpg.Record) -> MediaRow:
    """A row of `SELECT_MEDIA`."""
    values = dict(row)
    for name in ("thumbnail", "original"):
        key, sha256, size = (values.pop(f"{name}_object_{part}") for part in ("key", "sha256", "size"))
        values[name] = None if key is None else StoredObject(key, sha256, size)
    values["labels"] = orjson.loads(row["labels"])
    return MediaRow(**values)


_OWNER = """SELECT EXISTS (SELECT FROM account WHERE tenant = $1 AND id = $2) AS is_account
  FROM tenant WHERE id = $1"""
_TOO_LATE = timedelta(hours=1)
SELECT_MEDIA = """SELECT m.id, m.tenant, m.account, m.state, m.failure, m.mime_type,
  CASE WHEN m.declared_mime_type <> m.mime_type THEN m.declared_mime_type ELSE '' END AS declared_mime_type,
  coalesce(o.size, 0) AS size, coalesce(m.sha256, '') AS sha256, m.original_size,
  coalesce(m.original_sha256, '') AS original_sha256, m.file_name, m.unprocessed, m.purpose, m.compression,
  m.width, m.height, m.duration_ms, m.animated, m.waveform, m.preview, m.thumbnail_width, m.thumbnail_height,
  m.origin, m.labels, m.create_time, m.expire_time, media_categories(m) AS categories,
  coalesce(o.key, '') AS key,
  t.key AS thumbnail_object_key, t.sha256 AS thumbnail_object_sha256, t.size AS thumbnail_object_size,
  k.key AS original_object_key, k.sha256 AS original_object_sha256, k.size AS original_object_size
FROM media m
  LEFT JOIN media_object o ON o.tenant = m.tenant AND o.sha256 = m.sha256
  LEFT JOIN media_object t ON t.tenant = m.tenant AND t.sha256 = m.thumbnail_sha256
  LEFT JOIN media_object k ON m.original_kept AND k.tenant = m.tenant AND k.sha256 = m.original_sha256"""
# State 2 is READY.
_WITH_HASH = """WHERE m.id IN (
    (SELECT id FROM media WHERE tenant = $1 AND sha256 = $2 AND state = 2
      AND ($3::uuid[] IS NULL OR account = ANY ($3) OR EXISTS (
        SELECT FROM media_reference r WHERE r.media = media.id AND r.account = ANY ($3)))
      AND (expire_time IS NULL OR expire_time > now() + $4)
      ORDER BY id DESC LIMIT 1)
    UNION ALL
    (SELECT id FROM media WHERE tenant = $1 AND original_sha256 = $2 AND state = 2
      AND ($3::uuid[] IS NULL OR account = ANY ($3) OR EXISTS (
        SELECT FROM media_reference r WHERE r.media = media.id AND r.account = ANY ($3)))
      AND (expire_time IS NULL OR expire_time > now() + $4)
      ORDER BY id DESC LIMIT 1))
ORDER BY m.id DESC LIMIT 1"""
_LOOK_UP = f"{SELECT_MEDIA} {_WITH_HASH}"
_INSERT = """INSERT INTO media (id, tenant, account, state, mime_type, declared_mime_type, original_size,
    original_sha256, file_name, purpose, compression, origin, labels, keep_until, unprocessed)
  VALUES ($1, $2, $3, $4, $5, $5, $6, $7, $8, $9, $10, $11, $12, now() + $13, 0)"""
_WRITE_FILE = """UPDATE media SET mime_type = $2, sha256 = $3, unprocessed = $4, width = $5, height = $6,
    duration_ms = $7, animated = $8, waveform = $9, preview = $10, thumbnail_sha256 = $11,
    thumbnail_width = $12, thumbnail_height = $13, original_kept = $14
  WHERE id = $1"""
_WAITING = "SELECT count(*) FROM (SELECT FROM media_work WHERE tenant = $1 LIMIT $2) AS waiting"
_ADD_WORK = """INSERT INTO media_work (media, tenant, kind, options, url, with_headers, due_time)
  VALUES ($1, $2, $3, $4, $5, $6, now() + $7)"""
