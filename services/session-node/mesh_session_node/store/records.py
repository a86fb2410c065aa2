"""What the owner of an account has kept of it beside messages: records, and requests that were answered; the
journal writes them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import cast

from asyncpg import Record
from asyncpg.pgproto.pgproto import UUID

from mesh_core.database.reads import Reads
from mesh_core.database.requests import RecordKind


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """`time` is microseconds since the epoch."""

    member: str
    value: bytes
    time: int
    key: str = ""


class RecordStore:
    """Reads records. Raises what `mesh_core.database.UNAVAILABLE` names."""

    def __init__(self, pool: Reads) -> None:
        self._pool = pool

    async def of_key(self, account: UUID, kind: RecordKind, key: str) -> list[StoredRecord]:
        """All records of one kind and key, by their members."""
        rows = await self._pool.fetch(_OF_KEY, account, kind, key)
        return [_stored(row) for row in rows]

    async def of_keys(self, account: UUID, kind: RecordKind, keys: Sequence[str]) -> list[StoredRecord]:
        """The records of one kind with one of these keys, and no member, by their keys."""
        rows = await self._pool.fetch(_OF_KEYS, account, kind, keys)
        return [StoredRecord("", row["value"], row["micros"], row["key"]) for row in rows]

    async def page(self, account: UUID, kind: RecordKind, after: str, limit: int) -> list[StoredRecord]:
        """At most `limit` records of one kind, and without a member, whose keys are behind `after`."""
        rows = await self._pool.fetch(_PAGE, account, kind, after, limit)
        return [StoredRecord("", row["value"], row["micros"], row["key"]) for row in rows]

    async def one(self, account: UUID, kind: RecordKind, key: str, member: str = "") -> StoredRecord | None:
        """One record; None where there is none."""
        row = await self._pool.fetchrow(_ONE, account, kind, key, member)
        return None if row is None else _stored(row)

    async def of_any_kind(self, account: UUID, kinds: Collection[RecordKind], key: str) -> bytes | None:
        """The value of the record of one key and no member that is of one of these kinds."""
        return cast("bytes | None", await self._pool.fetchval(_OF_ANY_KIND, account, [*kinds], key))

    async def of_members(
        self, account: UUID, kind: RecordKind, key: str, members: Collection[str]
    ) -> list[StoredRecord]:
        """The records of one kind and key with one of these members."""
        rows = await self._pool.fetch(_OF_MEMBERS, account, kind, key, [*members])
        return [_stored(row) for row in rows]

    async def members_behind(
        self, account: UUID, kind: RecordKind, key: str, after: str, limit: int
    ) -> list[StoredRecord]:
        """At most `limit` records of one kind and key whose members are behind `after`."""
        rows = await self._pool.fetch(_MEMBERS_BEHIND, account, kind, key, after, limit)
        return [_stored(row) for row in rows]

    async def groups_of(
        self, account: UUID, members: Collection[str], after: str, limit: int
    ) -> list[StoredRecord]:
        """At most `limit` groups of an account behind `after` that have a member with one of these addresses,
        by their addresses.
        """
        rows = await self._pool.fetch(_GROUPS_OF, account, [*members], after, limit)
        return [_stored(row) for row in rows]


def _stored(row: Record) -> StoredRecord:
    return StoredRecord(row["member"], row["value"], row["micros"], row["key"])


@dataclass(frozen=True, slots=True)
class AnsweredRequest:
    """`digest` is of its payload, `answer` the serialised response."""

    digest: bytes
    answer: bytes


class RequestStore:
    """Reads requests. Raises what `mesh_core.database.UNAVAILABLE` names."""

    def __init__(self, pool: Reads) -> None:
        self._pool = pool

    async def answered(self, account: UUID, method: int, request_id: str) -> AnsweredRequest | None:
        """The request with this id, of the last 24 hours; None when it is new."""
        row = await self._pool.fetchrow(_ANSWERED, account, method, request_id)
        return None if row is None else AnsweredRequest(row["digest"], row["answer"] or b"")


_SELECT = (
    "SELECT key, member, value, (extract(epoch FROM time) * 1000000)::bigint AS micros FROM account_record"
)
_OF_KEY = f"{_SELECT} WHERE account = $1 AND kind = $2 AND key = $3 ORDER BY member"
_OF_KEYS = f"""{_SELECT} WHERE account = $1 AND kind = $2 AND key = ANY ($3::text[]) AND member = ''
  ORDER BY key"""
_PAGE = f"""{_SELECT} WHERE account = $1 AND kind = $2 AND key > $3 AND member = ''
  ORDER BY key LIMIT $4"""
_ONE = f"{_SELECT} WHERE account = $1 AND kind = $2 AND key = $3 AND member = $4"
_OF_ANY_KIND = """SELECT value FROM account_record
  WHERE account = $1 AND kind = ANY ($2::smallint[]) AND key = $3 AND member = '' LIMIT 1"""
_OF_MEMBERS = f"{_SELECT} WHERE account = $1 AND kind = $2 AND key = $3 AND member = ANY ($4::text[])"
_MEMBERS_BEHIND = f"""{_SELECT} WHERE account = $1 AND kind = $2 AND key = $3 AND member > $4
  ORDER BY member LIMIT $5"""
_GROUPS_OF = f"""{_SELECT} WHERE account = $1 AND kind = 10 AND member = '' AND key > $3 AND key IN (
    SELECT key FROM account_record WHERE account = $1 AND kind = 11 AND member = ANY ($2::text[]))
  ORDER BY key LIMIT $4"""  # noqa: S608 - constants
_ANSWERED = "SELECT digest, answer FROM request WHERE scope = $1 AND method = $2 AND request_id = $3"
