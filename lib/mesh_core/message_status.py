"""Which status of an outbound message may follow which: the one table.

The journal asks it here; `message_may_become` in the database and the comment on MessageStatus in the API are
made from it (`sql_function`, `comment`), which tests hold them to. Numbers below 100 are on the way and rise;
those from 100 on have ended and have no order, so nothing compares them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sessionmesh.v1 import message_pb2 as pb

_QUEUED, _SENDING, _SENT = pb.MESSAGE_STATUS_QUEUED, pb.MESSAGE_STATUS_SENDING, pb.MESSAGE_STATUS_SENT
_DELIVERED, _READ, _PLAYED = (
    pb.MESSAGE_STATUS_DELIVERED,
    pb.MESSAGE_STATUS_READ,
    pb.MESSAGE_STATUS_PLAYED,
)
_CANCELLED, _EXPIRED = pb.MESSAGE_STATUS_CANCELLED, pb.MESSAGE_STATUS_EXPIRED
_FAILED, _IN_DOUBT = pb.MESSAGE_STATUS_FAILED, pb.MESSAGE_STATUS_IN_DOUBT

FOLLOWING: Final[Mapping[int, tuple[int, ...]]] = {
    _QUEUED: (
        _SENDING,
        _SENT,
        _DELIVERED,
        _READ,
        _PLAYED,
        _CANCELLED,
        _EXPIRED,
        _FAILED,
        _IN_DOUBT,
    ),
    _SENDING: (_SENT, _DELIVERED, _READ, _PLAYED, _FAILED, _IN_DOUBT),
    # Some networks take a message, and say later why they did not deliver it
    _SENT: (_DELIVERED, _READ, _PLAYED, _FAILED),
    _DELIVERED: (_READ, _PLAYED),
    _READ: (_PLAYED,),
    _IN_DOUBT: (_SENT, _DELIVERED, _READ, _PLAYED, _FAILED),
}
"""What may follow each status; nothing follows those that are left out."""

WAITING: Final = (_QUEUED, _SENDING)
"""With these a message is still to be sent: it stands in the outbox."""


def may_become(old: int, new: int) -> bool:
    """Whether a message's status may change so."""
    return new in FOLLOWING.get(old, ())


def same_for_all(kept: int, after: int) -> bool:
    """Whether `after` means nothing behind a change to `kept`, whatever stood before both: neither where
    `kept` was legal, nor where it was not.
    """
    if may_become(kept, after):
        return False
    return all(may_become(old, kept) or not may_become(old, after) for old in pb.MessageStatus.values())


def sql_function() -> str:
    """The body of `message_may_become(old, new)` in the database."""
    lines = [f"    WHEN {old} THEN new IN ({_listed(new)})" for old, new in FOLLOWING.items()]
    return "\n".join(["  SELECT CASE old", *lines, "    ELSE false END"])


def comment() -> list[str]:
    """The lines of the table in the comment on MessageStatus, without comment signs and indentation."""
    return [f"{_name(old):11}{', '.join(map(_name, new))}" for old, new in FOLLOWING.items()]


def _name(status: int) -> str:
    return pb.MessageStatus.Name(status).removeprefix("MESSAGE_STATUS_")  # type: ignore[arg-type]  # a number


def _listed(statuses: tuple[int, ...]) -> str:
    return ", ".join(map(str, statuses))
