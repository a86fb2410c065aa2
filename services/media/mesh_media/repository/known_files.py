"""Bytes that a tenant has already: a media that is made like another one of the same bytes."""

from __future__ import annotations

from collections import Counter

import orjson
from asyncpg.pgproto.pgproto import UUID
from asyncpg.pool import PoolConnectionProxy

from mesh_media.repository.references import refer_again
from mesh_media.repository.rows import NewMedia
from sessionmesh.v1 import media_pb2


async def refer_to_known(connection: PoolConnectionProxy, new: NewMedia, keep_original: bool) -> bool:
    """Adds a media row that is what the newest READY one is whose bytes came alike, were announced alike and
    processed alike: of the network's or of the callers'. False when there is none; one that is being deleted,
    or has expired, is none.
    """
    known = await connection.fetchrow(
        _KNOWN,
        new.tenant,
        new.original_sha256,
        new.purpose,
        new.compression,
        keep_original,
        new.declared_mime_type,
        new.origin == media_pb2.MEDIA_ORIGIN_NETWORK,
    )
    if known is None:
        return False
    references: Counter[tuple[UUID, bytes]] = Counter()
    for sha256 in (known["sha256"], known["thumbnail_sha256"], known["kept_sha256"]):
        if sha256 is not None:
            references[new.tenant, sha256] += 1
    await refer_again(connection, references)
    await connection.execute(
        _COPY,
        known["id"],
        new.id,
        new.account,
        new.declared_mime_type,
        new.file_name,
        new.origin,
        orjson.dumps(new.labels).decode(),
        new.keep_for,
    )
    return True


# Its row is held, so that whoever deletes it waits until it is referred to again. One that is being deleted
# is skipped: its objects may be gone before we come to them. State 2 is READY, origin 2 NETWORK.
_KNOWN = """SELECT id, sha256, thumbnail_sha256,
  CASE WHEN original_kept THEN original_sha256 END AS kept_sha256
FROM media
WHERE tenant = $1 AND original_sha256 = $2 AND state = 2 AND purpose = $3
  AND compression = $4 AND (original_kept OR NOT $5 OR sha256 = original_sha256)
  AND (declared_mime_type = $6 OR mime_type = $6) AND (origin = 2) = $7
  AND (expire_time IS NULL OR expire_time > now())
ORDER BY id DESC LIMIT 1 FOR KEY SHARE SKIP LOCKED"""
_COPY = """INSERT INTO media (id, tenant, account, state, mime_type, declared_mime_type, sha256,
    original_size, original_sha256, original_kept, file_name, unprocessed, purpose, compression, width,
    height, duration_ms, animated, waveform, preview, thumbnail_sha256, thumbnail_width, thumbnail_height,
    origin, labels, expire_time)
  SELECT $2, tenant, $3, state, mime_type, $4, sha256, original_size, original_sha256, original_kept, $5,
    unprocessed, purpose, compression, width, height, duration_ms, animated, waveform, preview,
    thumbnail_sha256, thumbnail_width, thumbnail_height, $6, $7, now() + $8
  FROM media WHERE id = $1"""
