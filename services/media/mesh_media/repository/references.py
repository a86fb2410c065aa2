"""How media refer to objects: equal bytes of a tenant are one object, which counts who refers to it, and
goes with the last of them.

Whoever locks several rows in one transaction locks media before objects, media in the order of their ids and
objects in that of their hashes: so no two can wait for each other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta

from asyncpg.pgproto.pgproto import UUID
from asyncpg.pool import PoolConnectionProxy

from mesh_core.database.pool import AnyConnection
from mesh_media.repository.object_repository import ADD_UNREFERENCED
from mesh_media.repository.rows import NewObject

References = Mapping[tuple[UUID, bytes], int]
"""How many references to each object, by tenant and hash."""


class ObjectGone(Exception):
    """The tenant no longer has an object that it had just now: its bytes have to be written after all."""


async def refer(connection: PoolConnectionProxy, tenant: UUID, objects: Sequence[NewObject]) -> None:
    """Counts a reference to each object. What was written for one that the tenant has already is deleted
    soon. Raises `ObjectGone` for one that is neither written nor there, or whose time is over.
    """
    for one in sorted(objects, key=lambda one: one.sha256):
        key = await connection.fetchval(_REFER, tenant, one.sha256, one.key, one.size)
        if key != one.key:
            await connection.execute("UPDATE media_loose_object SET due_time = now() WHERE key = $1", one.key)
        elif not one.written or not await connection.fetchval(_USE, key):
            raise ObjectGone


async def hold(connection: PoolConnectionProxy, tenant: UUID, hashes: Collection[bytes]) -> None:
    """Locks those of the tenant's objects that are there, for who refers to some and releases others."""
    await connection.execute(_LOCK, [tenant] * len(hashes), [*hashes])


async def release(connection: AnyConnection, references: References, grace: timedelta) -> None:
    """Takes references back; an object that nothing refers to any longer is deleted after `grace`."""
    if not references:
        return
    tenants = [tenant for tenant, _ in references]
    hashes = [sha256 for _, sha256 in references]
    last, fewer, less = [], [], []
    for row in await connection.fetch(_LOCK, tenants, hashes):
        released = references[row["tenant"], row["sha256"]]
        if released < row["media"]:
            fewer.append(row["ctid"])
            less.append(released)
        else:
            last.append(row)
    if fewer:
        await connection.execute(_FEWER, fewer, less)
    if last:
        await connection.execute(_REMOVE, [row["ctid"] for row in last])
        keys, owners, sizes = ([row[column] for row in last] for column in ("key", "tenant", "size"))
        await connection.execute(ADD_UNREFERENCED, keys, owners, sizes, grace)


async def delete_media(connection: AnyConnection, media: Sequence[UUID], grace: timedelta) -> tuple[int, int]:
    """Deletes media rows, and their objects after `grace` when nothing else refers to them; how many went,
    and the bytes of their objects, shared ones too.
    """
    locked = await connection.fetch("SELECT id FROM media WHERE id = ANY ($1) ORDER BY id FOR UPDATE", media)
    return await delete_locked(connection, [row["id"] for row in locked], grace)


async def delete_locked(
    connection: AnyConnection, media: Sequence[UUID], grace: timedelta
) -> tuple[int, int]:
    """The same for rows that this transaction has locked."""
    deleted = await connection.fetch(_DELETE_MEDIA, media)
    references: Counter[tuple[UUID, bytes]] = Counter()
    for row in deleted:
        for sha256 in (row["sha256"], row["thumbnail_sha256"], row["kept_sha256"]):
            if sha256 is not None:
                references[row["tenant"], sha256] += 1
    await release(connection, references, grace)
    return len(deleted), sum(row["stored_size"] for row in deleted)


# The sweeper may be deleting one that is no upload's any more.
_USE = "DELETE FROM media_loose_object WHERE key = $1 AND uploading RETURNING true"
_REFER = """INSERT INTO media_object AS o (tenant, sha256, key, size, media) VALUES ($1, $2, $3, $4, 1)
  ON CONFLICT (tenant, sha256) DO UPDATE SET media = o.media + 1 RETURNING key"""
# A locked row stays where it is, so it is found again without looking: a sweep does so for millions.
_LOCK = """SELECT ctid, tenant, sha256, key, size, media FROM media_object o
  WHERE (o.tenant, o.sha256) IN (SELECT * FROM unnest($1::uuid[], $2::bytea[]))
  ORDER BY o.sha256, o.tenant FOR UPDATE"""
_FEWER = """UPDATE media_object o SET media = o.media - r.count
  FROM unnest($1::tid[], $2::int[]) AS r(at, count) WHERE o.ctid = r.at"""
_REMOVE = "DELETE FROM media_object WHERE ctid = ANY ($1::tid[])"
_DELETE_MEDIA = """DELETE FROM media WHERE id = ANY ($1) RETURNING tenant, sha256, thumbnail_sha256,
  CASE WHEN original_kept THEN original_sha256 END AS kept_sha256, stored_size"""
