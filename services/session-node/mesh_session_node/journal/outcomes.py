"""What a caller of the journal is told."""

from __future__ import annotations

from dataclasses import dataclass

from asyncpg.pgproto.pgproto import UUID

from mesh_core.errors import AlreadyExists, InvalidArgument, NotOwner


@dataclass(frozen=True, slots=True)
class Committed:
    """It is stored."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The shard is not this node's under that epoch; nothing was stored. Verify the ownership before
    answering.
    """


@dataclass(frozen=True, slots=True)
class Duplicate:
    """It was stored before, as `first`; nothing was stored now."""

    first: UUID


@dataclass(frozen=True, slots=True)
class Mismatch:
    """The request id was used before with another payload, for `first`; nothing was stored."""

    first: UUID


@dataclass(frozen=True, slots=True)
class Poison:
    """The database refuses the data itself and always will; nothing was stored."""

    error: Exception


Outcome = Committed | Refused | Duplicate | Mismatch | Poison

COMMITTED = Committed()
REFUSED = Refused()


class IncarnationExpired(Exception):
    """Another node has judged this one dead. It can never write again: the process must start anew."""


def unwrap(outcome: Outcome, result: UUID) -> UUID:
    """The id to answer with: `result` when it was stored now, else the first one.

    Raises `NotOwner`, `AlreadyExists` REQUEST_ID_REUSED or `InvalidArgument` for what was not stored.
    """
    match outcome:
        case Committed():
            return result
        case Duplicate(first):
            return first
        case Mismatch():
            raise AlreadyExists("the request_id was used before with another payload", "REQUEST_ID_REUSED")
        case Refused():
            raise NotOwner
        case Poison():  # what the database says of it is in the log, and is not a caller's to know
            raise InvalidArgument("the database cannot store what the request says", "INVALID_FIELD")
