"""Objects that move from one store to another.

A copy's row in `media_loose_object` is written before its bytes are. In one transaction the copy becomes the
object, and the former one loose. So whatever crashes, each media has its bytes, and no store keeps what
nothing refers to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

import asyncpg
from asyncpg.pgproto.pgproto import UUID

from mesh_core.jobs import Total, store


@dataclass(frozen=True, slots=True)
class Moving:
    """An object that is in another store than it should be."""

    tenant: UUID
    sha256: bytes
    key: str
    size: int


async def set_current(connection: asyncpg.Connection, name: str) -> None:
    """Has new objects go to the store `name`."""
    await connection.execute("UPDATE media_storage SET store = $1", name)


async def outside(connection: asyncpg.Connection, name: str, after: str, limit: int) -> Sequence[Moving]:
    """Objects that are in other stores than `name`, behind the key `after`, in the order of their keys."""
    return [Moving(**row) for row in await connection.fetch(_OUTSIDE, name, after, limit)]


async def count_outside(connection: store.Connection | asyncpg.Connection, name: str) -> Total:
    """How many objects are in other stores than `name`."""
    row = await connection.fetchrow(_COUNT_OUTSIDE, name)
    assert row is not None  # noqa: S101 - an aggregate has a row
    return Total(row["objects"], row["bytes"])


async def still_comes_elsewhere(connection: asyncpg.Connection, name: str) -> bool:
    """Whether uploads are under way to other stores than `name`."""
    return bool(await connection.fetchval(_COMING, name))


async def announce_copies(
    connection: asyncpg.Connection, copies: Mapping[str, Moving], lifetime: timedelta
) -> None:
    """Records copies that are about to be written, by their keys; they are deleted after `lifetime`. They
    count against nobody's quota.
    """
    await connection.execute(_ANNOUNCE, [*copies], [one.tenant for one in copies.values()], lifetime)


async def switch(
    connection: asyncpg.Connection,
    job: UUID,
    copies: Mapping[str, Moving],
    written: Sequence[str],
    grace: timedelta,
) -> None:
    """Has those of the announced copies that are `written` be the objects, and counts them as the job's.

    The former ones are deleted after `grace`, for who reads them now. The other copies are deleted soon,
    those too whose objects were deleted meanwhile, or that were written too late.
    """
    former = [copies[key].key for key in written]
    async with connection.transaction():
        await connection.execute(_LOCK, former)  # in the order in which others lock them
        moved = await connection.fetch(_SWITCH, former, written)
        tenants = [row["tenant"] for row in moved]
        await connection.execute(_LOOSE, [row["former"] for row in moved], tenants, grace)
        await connection.execute(_USED, [row["key"] for row in moved])
        await connection.execute(_UNUSED, [*copies])
        await connection.execute(_COUNTED, job, len(moved), sum(row["size"] for row in moved))


async def is_at(connection: asyncpg.Connection, key: str) -> bool:
    """Whether there is still an object with this key."""
    return bool(await connection.fetchval("SELECT true FROM media_object WHERE key = $1", key))


_OUTSIDE = """SELECT tenant, sha256, key, size FROM media_object WHERE store <> $1 AND key > $2
  ORDER BY key LIMIT $3"""
_COUNT_OUTSIDE = """SELECT count(*) AS objects, coalesce(sum(size), 0)::bigint AS bytes
  FROM media_object WHERE store <> $1"""
_COMING = """SELECT EXISTS (SELECT FROM media_loose_object
  WHERE uploading AND due_time > now()
    AND CASE WHEN strpos(key, ':') = 0 THEN 'main' ELSE split_part(key, ':', 1) END <> $1)"""
_ANNOUNCE = """INSERT INTO media_loose_object (key, tenant, size, due_time)
  SELECT key, tenant, 0, now() + $3 FROM unnest($1::text[], $2::uuid[]) AS c(key, tenant)"""
_LOCK = "SELECT FROM media_object WHERE key = ANY ($1) ORDER BY sha256, tenant FOR UPDATE"
# A copy that is about to be due may be about to be deleted.
_SWITCH = """UPDATE media_object o SET key = c.key
  FROM unnest($1::text[], $2::text[]) AS c(former, key) JOIN media_loose_object l ON l.key = c.key
  WHERE o.key = c.former AND l.due_time > now() + interval '1 minute'
  RETURNING c.former, o.key, o.tenant, o.size"""
_USED = "DELETE FROM media_loose_object WHERE key = ANY ($1)"
_UNUSED = "UPDATE media_loose_object SET due_time = now() WHERE key = ANY ($1)"
_LOOSE = """INSERT INTO media_loose_object (key, tenant, size, due_time)
  SELECT key, tenant, 0, now() + $3 FROM unnest($1::text[], $2::uuid[]) AS c(key, tenant)"""
_COUNTED = """UPDATE job SET done = done + $2, done_bytes = done_bytes + $3, update_time = now()
  WHERE id = $1"""
