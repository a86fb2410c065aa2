"""Labels as Postgres has them."""

from __future__ import annotations

from hashlib import blake2b

from asyncpg import Record
from asyncpg.pgproto.pgproto import UUID

from mesh_core.database.reads import Reads
from mesh_core.database.requests import RecordKind
from sessionmesh.v1 import chat_pb2 as pb


class LabelStore:
    """Reads labels, by their ids. Raises what `mesh_core.database.UNAVAILABLE` names."""

    def __init__(self, pool: Reads) -> None:
        self._pool = pool

    async def label(self, account: UUID, label_id: str) -> pb.Label | None:
        """One label."""
        row = await self._pool.fetchrow(_LABEL, account, RecordKind.LABEL, label_id)
        return None if row is None else label_of_row(row)

    async def page(self, account: UUID, after: str, limit: int) -> list[pb.Label]:
        """At most `limit` labels behind the one with this id, by their ids."""
        rows = await self._pool.fetch(_PAGE, account, RecordKind.LABEL, after, limit)
        return [label_of_row(row) for row in rows]

    async def labelled(self, account: UUID, label_id: str) -> list[str]:
        """Addresses of the chats that have a label."""
        rows = await self._pool.fetch(_LABELLED, account, RecordKind.CHAT_LABEL, label_id)
        return [row["key"] for row in rows]


def value_of(label: pb.Label) -> bytes:
    """What is stored of a label."""
    bare = pb.Label(name=label.name)
    if label.HasField("color"):
        bare.color = label.color
    return bare.SerializeToString(deterministic=True)


def etag_of(value: bytes) -> str:
    """The etag of a label that is stored so."""
    return f"v{blake2b(value, digest_size=8).hexdigest()}"


def label_of_row(row: Record) -> pb.Label:
    """A label as it is stored."""
    label = pb.Label.FromString(row["value"])
    label.id = row["key"]
    label.etag = etag_of(row["value"])
    return label


_LABEL = "SELECT key, value FROM account_record WHERE account = $1 AND kind = $2 AND key = $3"
_PAGE = """SELECT key, value FROM account_record WHERE account = $1 AND kind = $2 AND key > $3
  ORDER BY key LIMIT $4"""
_LABELLED = "SELECT key FROM account_record WHERE account = $1 AND kind = $2 AND member = $3"
