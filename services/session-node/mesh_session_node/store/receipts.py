"""How far members of groups are with a message, as stored: in parts, and in rows of earlier versions."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from asyncpg import Record
from asyncpg.pgproto.pgproto import UUID

from mesh_core.database.reads import Reads
from mesh_core.message_status import may_become
from sessionmesh.internal.v1.receipt_record_pb2 import ReceiptPart


@dataclass(frozen=True, slots=True)
class StoredReceipt:
    """How far one member is."""

    member: str
    status: int
    time: datetime


class ReceiptStore:
    """Reads receipts. Raises as the database does."""

    def __init__(self, pool: Reads) -> None:
        self._pool = pool

    async def of(self, message: UUID, after: str, limit: int) -> Sequence[StoredReceipt]:
        """At most `limit` receipts of members whose addresses are behind `after`, in the order of those."""
        parts = await self._pool.fetch(_PARTS, [message])
        rows = await self._pool.fetch(_ROWS, message, after, None if parts else limit)
        found = {row["member"]: StoredReceipt(row["member"], row["status"], row["time"]) for row in rows}
        for receipt in _of_parts(parts, after):
            before = found.get(receipt.member)
            if before is None or may_become(before.status, receipt.status):
                found[receipt.member] = receipt
        return [found[member] for member in sorted(found)[:limit]]

    async def heard(self, messages: Collection[UUID]) -> Mapping[UUID, Sequence[tuple[int, Sequence[str]]]]:
        """By message, statuses and the members who have them."""
        found: dict[UUID, list[tuple[int, Sequence[str]]]] = {}
        for row in await self._pool.fetch(_HEARD, [*messages]):
            found.setdefault(row["message"], []).append((row["status"], row["members"]))
        for row in await self._pool.fetch(_PARTS, [*messages]):
            part = ReceiptPart.FromString(row["receipts"])
            found.setdefault(row["message"], []).append((part.status, [*part.members]))
        return found


def _of_parts(parts: Iterable[Record], after: str) -> Iterable[StoredReceipt]:
    for row in parts:
        part = ReceiptPart.FromString(row["receipts"])
        for member, micros in zip(part.members, part.times, strict=False):
            if member > after:
                yield StoredReceipt(member, part.status, _EPOCH + timedelta(microseconds=micros))


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PARTS = "SELECT message, receipts FROM message_receipt_part WHERE message = ANY ($1::uuid[]) ORDER BY part"
_ROWS = """SELECT member, status, time FROM message_receipt WHERE message = $1 AND member > $2 COLLATE "C"
  ORDER BY member COLLATE "C" LIMIT $3"""
_HEARD = """SELECT message, status, array_agg(member) AS members FROM message_receipt
  WHERE message = ANY ($1::uuid[]) GROUP BY message, status"""
