"""Ids of pairing attempts: each says whose attempt it is.

An account's next owner knows nothing of the attempts of the one before. Who comes with the id of one goes on
under it there, so the id alone must tell that it is this account's, and no one else's that somebody has seen.
"""

from __future__ import annotations

from hashlib import blake2b

from asyncpg.pgproto.pgproto import UUID

from mesh_core.errors import NotFound
from mesh_core.ids import Prefix, decode, encode, new_uuid


def new_attempt_id(account: UUID) -> str:
    """The id of a new attempt of an account."""
    begin = new_uuid().bytes[:-_MARK_BYTES]
    return encode(Prefix.PAIRING, UUID(begin + _mark(begin, account)))


def check_attempt_id(attempt_id: str, account: UUID) -> None:
    """Raises `NotFound` when the id is of no attempt of this account, `InvalidField` when it is no id."""
    given = decode(Prefix.PAIRING, attempt_id, "attempt_id").bytes
    begin, mark = given[:-_MARK_BYTES], given[-_MARK_BYTES:]
    if mark != _mark(begin, account):
        raise NotFound("pairing attempt", attempt_id)


def _mark(begin: bytes, account: UUID) -> bytes:
    return blake2b(begin + account.bytes, digest_size=_MARK_BYTES).digest()


_MARK_BYTES = 6
