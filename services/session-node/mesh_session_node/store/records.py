"""Records of accounts as Postgres has them; the journal writes them."""

from __future__ import annotations

from dataclasses import dataclass

from asyncpg import Pool
from asyncpg.pgproto.pgproto import UUID

from mesh_core.database.records import RecordKind


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """`time` is microseconds since the epoch."""

    member: str
    value: bytes
    time: int


class RecordStore:
    """Reads records. Raises what `mesh_core.database.UNAVAILABLE` names."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def of_key(self, account: UUID, kind: RecordKind, key: str) -> list[StoredRecord]:
        """All records of one kind and key, by their members."""
        rows = await self._pool.fetch(_OF_KEY, account, kind, key)
        return [StoredRecord(row["member"], row["value"], row["micros"]) for row in rows]


_OF_KEY = """SELECT member, value, (extract(epoch FROM time) * 1000000)::bigint AS micros FROM account_record
  WHERE account = $1 AND kind = $2 AND key = $3 ORDER BY member"""
