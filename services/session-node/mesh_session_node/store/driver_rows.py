"""Rows of drivers' states: sealed in Postgres, opened here."""

from __future__ import annotations

from collections.abc import Collection

from asyncpg import Pool
from asyncpg.pgproto.pgproto import UUID

from mesh_core.sealing import Sealer


class DriverRowStore:
    """Reads rows. Raises what `mesh_core.database.UNAVAILABLE` names, and `CannotUnseal`."""

    def __init__(self, pool: Pool, sealer: Sealer) -> None:
        self._pool = pool
        self._sealer = sealer

    async def read(
        self, tenant: UUID, account: UUID, keys: Collection[str], prefixes: Collection[str]
    ) -> dict[str, bytes]:
        """The rows of these keys that exist, and all whose keys begin with one of `prefixes`."""
        return {
            key: await self._sealer.open(tenant, value, binding(account, key))
            for key, value in await self._pool.fetch(_ROWS, account, [*keys], [*prefixes])
        }


def binding(account: UUID, key: str) -> bytes:
    """What a sealed row belongs to: one that was copied to another row does not open."""
    return account.bytes + key.encode()


# Keys are ordered by their bytes: those with a prefix follow it, up to it with the last character there is.
_ROWS = """
SELECT key, value FROM driver_row WHERE account = $1 AND key = ANY ($2)
UNION
SELECT rows.key, rows.value FROM unnest($3::text[]) AS begun(prefix)
  CROSS JOIN LATERAL (
    SELECT key, value FROM driver_row
      WHERE account = $1 AND key >= begun.prefix AND key < begun.prefix || chr(1114111)
  ) AS rows
"""
