"""The rows of stored objects: which ones nothing refers to, and whether a tenant has room for more.

An object's row in `media_loose_object` is written before its bytes are, and deleted in the transaction that
adds a media row for it. A crash in between leaves a row, and the sweeper deletes that row and the object.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

import orjson
from asyncpg.pgproto.pgproto import UUID

from mesh_core import ids
from mesh_core.database import Database
from mesh_core.errors import NotFound, ResourceExhausted
from mesh_core.ids import Prefix


class ObjectRepository:
    """Reserves objects for uploads, and lists those to delete."""

    def __init__(self, database: Database) -> None:
        self._pool = database.pool
        self._callers = database.callers

    async def reserve(
        self, tenant: UUID, account: UUID | None, key: str, size: int, lifetime: timedelta
    ) -> None:
        """Records an object that is about to be written. It counts against the quota from now on.

        Unless a media row refers to it within `lifetime`, it is deleted. Raises `NotFound` for an unknown
        tenant or account, and `ResourceExhausted` QUOTA_EXCEEDED.
        """
        # The lock on the tenant makes its uploads check the quota one after the other.
        async with self._callers.locking(tenant, tenant) as connection:
            settings = await connection.fetchval(
                "SELECT settings FROM tenant WHERE id = $1 FOR NO KEY UPDATE", tenant
            )
            if settings is None:
                raise NotFound("tenant", ids.encode(Prefix.TENANT, tenant))
            if account is not None and not await connection.fetchval(_IS_ACCOUNT, tenant, account):
                raise NotFound("account", ids.encode(Prefix.ACCOUNT, account))
            quota = quota_of(settings)
            if quota is not None and await connection.fetchval(_USED_BYTES, tenant) + size > quota:
                raise ResourceExhausted(
                    f"the tenant's {quota} bytes of media are used up",
                    "QUOTA_EXCEEDED",
                    quota="max_media_bytes",
                )
            await connection.execute(_ADD_UPLOADING, key, tenant, size, lifetime)

    async def settle(self, tenant: UUID, sizes: Mapping[str, int], lifetime: timedelta) -> None:
        """Has reserved objects count with the sizes that they have, by key; new ones are added."""
        await self._pool.execute(_SETTLE, tenant, [*sizes], [*sizes.values()], lifetime)

    async def give_back(self, key: str, *, written: bool) -> None:
        """Lets the reservation of an upload that failed count no more: it is none. What may have been written
        is deleted when its lifetime is over: until then the store may still be at it.
        """
        await self._pool.execute(_FORGET_SIZE if written else _FORGET, key)

    async def due_for_deletion(self, limit: int = 500) -> list[str]:
        """Keys of objects that nothing refers to and whose time is over, the longest due first. No upload may
        use them any more.
        """
        rows = await self._pool.fetch(_TAKE_DUE, limit)
        return [row["key"] for row in rows]

    async def remove(self, keys: list[str]) -> None:
        """Deletes the rows of objects that were deleted from the store."""
        await self._pool.execute("DELETE FROM media_loose_object WHERE key = ANY ($1)", keys)

    async def postpone(self, keys: list[str], delay: timedelta) -> None:
        """Has objects that could not be deleted be due again after `delay`."""
        await self._pool.execute(
            "UPDATE media_loose_object SET due_time = now() + $2 WHERE key = ANY ($1)", keys, delay
        )

    async def fuller_than(self, share: float) -> dict[UUID, tuple[int, int]]:
        """Tenants that use more than this share of their quota: their bytes, and the quota."""
        rows = await self._pool.fetch(_FULLER, share)
        return {row["tenant"]: (row["used"], row["quota"]) for row in rows}


ADD_UNREFERENCED = """INSERT INTO media_loose_object (key, tenant, size, due_time)
  SELECT key, tenant, size, now() + $4 FROM unnest($1::text[], $2::uuid[], $3::bigint[])
    AS gone(key, tenant, size)"""
"""Records objects that nothing refers to: keys, tenants, sizes, and the time until they are deleted."""


def quota_of(settings: str) -> int | None:
    """The quota in bytes; None for none."""
    quota: int | None = orjson.loads(settings).get("max_media_bytes")
    return quota


_ADD_UPLOADING = """INSERT INTO media_loose_object (key, tenant, size, due_time, uploading)
  VALUES ($1, $2, $3, now() + $4, true)"""
_SETTLE = """INSERT INTO media_loose_object (key, tenant, size, due_time, uploading)
  SELECT key, $1, size, now() + $4, true FROM unnest($2::text[], $3::bigint[]) AS given(key, size)
  ON CONFLICT (key) DO UPDATE SET size = excluded.size, due_time = excluded.due_time
    WHERE media_loose_object.uploading"""
_TAKE_DUE = """WITH due AS (
    SELECT key, uploading FROM media_loose_object WHERE due_time <= now() ORDER BY due_time LIMIT $1),
  taken AS (
    UPDATE media_loose_object l SET uploading = false FROM due
    WHERE l.key = due.key AND due.uploading AND l.due_time <= now() RETURNING l.key)
  SELECT key FROM due WHERE NOT uploading UNION ALL SELECT key FROM taken"""
_FORGET = "DELETE FROM media_loose_object WHERE key = $1 AND uploading"
_FORGET_SIZE = "UPDATE media_loose_object SET size = 0, uploading = false WHERE key = $1 AND uploading"
_IS_ACCOUNT = "SELECT true FROM account WHERE tenant = $1 AND id = $2"
_USED_BYTES = """SELECT (SELECT coalesce(sum(bytes), 0) FROM media_total WHERE tenant = $1)
  + (SELECT coalesce(sum(size), 0) FROM media_loose_object WHERE tenant = $1 AND due_time > now())"""
_FULLER = """SELECT tenant, used, quota FROM (
    SELECT t.id AS tenant, (t.settings ->> 'max_media_bytes')::bigint AS quota,
      (SELECT coalesce(sum(bytes), 0) FROM media_total WHERE tenant = t.id)::bigint AS used
    FROM tenant t WHERE t.settings ? 'max_media_bytes') AS quotas
  WHERE used > quota * $1::float8"""
