"""Requests that were answered before, as Postgres has them; the journal writes them."""

from __future__ import annotations

from dataclasses import dataclass

from asyncpg import Pool
from asyncpg.pgproto.pgproto import UUID


@dataclass(frozen=True, slots=True)
class AnsweredRequest:
    """`digest` is of its payload, `answer` the serialised response."""

    digest: bytes
    answer: bytes


class RequestStore:
    """Reads requests. Raises what `mesh_core.database.UNAVAILABLE` names."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def answered(self, account: UUID, method: int, request_id: str) -> AnsweredRequest | None:
        """The request with this id, of the last 24 hours; None when it is new."""
        row = await self._pool.fetchrow(_ANSWERED, account, method, request_id)
        return None if row is None else AnsweredRequest(row["digest"], row["answer"] or b"")


_ANSWERED = "SELECT digest, answer FROM request WHERE scope = $1 AND method = $2 AND request_id = $3"
