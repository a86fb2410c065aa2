"""Bytes that a tenant has already: a media that is made like another one of the same bytes."""

from __future__ import annotations

import asyncpg
import orjson
from asyncpg.pgproto.pgproto import UUID

from mesh_core.database.requests import Method
from mesh_media.repository.rows import NewMedia
from sessionmesh.v1 import media_pb2


async def copy_known(
    pool: asyncpg.Pool, new: NewMedia, request: tuple[Method, str, bytes], *, keep_original: bool
) -> tuple[bool, UUID | None]:
    """Adds a media row that is what the newest READY one is whose bytes came alike, were announced alike and
    processed alike: of the network's or of the callers'. Whether there is one, and the new id: None when the
    request id was used before. One that is being deleted, or has expired, is none.
    """
    method, request_id, digest = request
    [row] = await pool.fetch(
        _COPY_KNOWN,
        new.tenant,
        new.original_sha256,
        new.purpose,
        new.compression,
        keep_original,
        new.declared_mime_type,
        new.origin == media_pb2.MEDIA_ORIGIN_NETWORK,
        new.id,
        new.account,
        new.file_name,
        new.origin,
        orjson.dumps(new.labels).decode(),
        new.keep_for,
        method,
        request_id,
        digest,
    )
    return row["is_known"], row["id"]


# In one statement, since most uploads find nothing. The row that is found is held, so that whoever deletes it
# waits until it is referred to again. One that is being deleted is skipped: its objects may be gone before we
# come to them. State 2 is READY, origin 2 NETWORK.
_COPY_KNOWN = """WITH known AS MATERIALIZED (
    SELECT * FROM media
    WHERE tenant = $1 AND original_sha256 = $2 AND state = 2 AND purpose = $3 AND compression = $4
      AND (original_kept OR NOT $5 OR sha256 = original_sha256)
      AND (declared_mime_type = $6 OR mime_type = $6) AND (origin = 2) = $7
      AND (expire_time IS NULL OR expire_time > now())
    ORDER BY id DESC LIMIT 1 FOR KEY SHARE SKIP LOCKED),
  claimed AS (
    INSERT INTO request (scope, method, request_id, digest, result)
      SELECT $1, $14, $15, $16, $8 FROM known ON CONFLICT DO NOTHING RETURNING result),
  more AS (
    SELECT o.tenant, o.sha256, count(*)::int AS count
    FROM claimed, known, unnest(ARRAY[known.sha256, known.thumbnail_sha256,
      CASE WHEN known.original_kept THEN known.original_sha256 END]) AS referred(sha256)
      JOIN media_object o ON o.tenant = $1 AND o.sha256 = referred.sha256
    GROUP BY o.tenant, o.sha256 ORDER BY o.sha256),
  counted AS (
    UPDATE media_object o SET media = o.media + more.count FROM more
    WHERE o.tenant = more.tenant AND o.sha256 = more.sha256),
  copied AS (
    INSERT INTO media (id, tenant, account, state, mime_type, declared_mime_type, sha256, original_size,
        original_sha256, original_kept, file_name, unprocessed, purpose, compression, width, height,
        duration_ms, animated, waveform, preview, thumbnail_sha256, thumbnail_width, thumbnail_height, origin,
        labels, expire_time)
      SELECT $8, tenant, $9, state, mime_type, $6, sha256, original_size, original_sha256, original_kept, $10,
        unprocessed, purpose, compression, width, height, duration_ms, animated, waveform, preview,
        thumbnail_sha256, thumbnail_width, thumbnail_height, $11, $12, now() + $13
      FROM known, claimed RETURNING id)
SELECT EXISTS (SELECT FROM known) AS is_known, (SELECT id FROM copied) AS id"""
