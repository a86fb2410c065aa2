"""Rows of drivers' states as Postgres has them, sealed."""

from __future__ import annotations

from collections.abc import Collection

from asyncpg import Pool
from asyncpg.pgproto.pgproto import UUID


class DriverRowStore:
    """Reads rows. Raises what `mesh_core.database.UNAVAILABLE` names."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def read(self, account: UUID, keys: Collection[str], prefix: str | None) -> list[tuple[str, bytes]]:
        """The rows of these keys that exist, and all whose keys begin with `prefix`; "": all there are."""
        return [(row[0], row[1]) for row in await self._pool.fetch(_ROWS, account, [*keys], prefix)]


# Keys are ordered by their bytes: those with a prefix follow it, up to it with the last character there is.
_ROWS = """
SELECT key, value FROM driver_row WHERE account = $1 AND key = ANY ($2)
UNION
SELECT key, value FROM driver_row
  WHERE account = $1 AND key >= $3::text AND key < $3::text || chr(1114111)
"""
