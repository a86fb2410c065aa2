"""What stores have and rows do not know, and the other way round."""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

from mesh_media.repository.media_repository import read_media
from mesh_media.repository.moving_repository import Moving
from mesh_media.repository.work_repository import tell_of_end
from sessionmesh.v1 import content_pb2, media_pb2


async def page(connection: asyncpg.Connection, after: str, limit: int) -> Sequence[Moving]:
    """Objects behind the key `after`, in the order of their keys."""
    return [Moving(**row) for row in await connection.fetch(_PAGE, after, limit)]


async def known(connection: asyncpg.Connection, keys: Sequence[str]) -> tuple[set[str], set[str]]:
    """Those of the keys that media refer to, and those that are being written or are to be deleted."""
    rows = await connection.fetch(_KNOWN, keys)
    return {row["key"] for row in rows if not row["loose"]}, {row["key"] for row in rows if row["loose"]}


async def has_objects(connection: asyncpg.Connection, name: str) -> bool:
    """Whether any object is in the store `name`."""
    return bool(await connection.fetchval("SELECT EXISTS (SELECT FROM media_object WHERE store = $1)", name))


async def give_up(connection: asyncpg.Connection, lost: Moving) -> int | None:
    """Has media do without an object: FAILED where it was their bytes, with an event each, without a
    thumbnail or an original where it was that. What is left of it in the store is deleted. How many are
    FAILED now; None when it moved or went meanwhile.
    """
    of = (lost.tenant, lost.sha256)
    async with connection.transaction():
        media = await connection.fetch(_LOCK_MEDIA, *of)  # before objects, as everywhere
        if await connection.fetchval(_LOCK_OBJECT, *of, lost.key) is None:
            return None
        await connection.execute(_LOSE, *of)
        await connection.execute("DELETE FROM media_object WHERE tenant = $1 AND sha256 = $2", *of)
        await connection.execute(_LOOSE, lost.key, lost.tenant)
        failed = [row["id"] for row in media if row["is_ready"]]
        for one in failed:
            await tell_of_end(connection, await read_media(connection, one))
    return len(failed)


_PAGE = "SELECT tenant, sha256, key, size FROM media_object WHERE key > $1 ORDER BY key LIMIT $2"
_KNOWN = """SELECT key, false AS loose FROM media_object WHERE key = ANY ($1)
  UNION ALL SELECT key, true FROM media_loose_object WHERE key = ANY ($1)"""
_OF_IT = "tenant = $1 AND (sha256 = $2 OR thumbnail_sha256 = $2 OR original_sha256 = $2)"
_LOCK_OBJECT = "SELECT key FROM media_object WHERE tenant = $1 AND sha256 = $2 AND key = $3 FOR UPDATE"
# What is PENDING fails in its turn, which tells of it.
_READY = f"sha256 = $2 AND state = {content_pb2.MEDIA_STATE_READY}"
_LOCK_MEDIA = f"SELECT id, {_READY} AS is_ready FROM media WHERE {_OF_IT} ORDER BY id FOR UPDATE"  # noqa: S608
_LOSE = f"""UPDATE media SET
    state = CASE WHEN {_READY} THEN {content_pb2.MEDIA_STATE_FAILED} ELSE state END,
    failure = CASE WHEN {_READY} THEN {media_pb2.MEDIA_FAILURE_OBJECT_LOST} ELSE failure END,
    sha256 = nullif(sha256, $2),
    thumbnail_sha256 = nullif(thumbnail_sha256, $2),
    original_kept = original_kept AND original_sha256 <> $2
  WHERE {_OF_IT}"""  # noqa: S608 - constants
_LOOSE = "INSERT INTO media_loose_object (key, tenant, size, due_time) VALUES ($1, $2, 0, now())"
