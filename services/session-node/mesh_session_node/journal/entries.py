"""What waits to be stored, and its callers: a future for each, as cancelling a shared one fails them all."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import msgspec
from msgspec.structs import astuple

from mesh_core.errors import Unavailable
from mesh_session_node.journal.batch import Unit
from mesh_session_node.journal.outcomes import Outcome
from mesh_session_node.journal.rows import OutboundMessage


@dataclass(slots=True, eq=False)
class Entry:
    """A unit and the future of who waits for it, if anybody does."""

    unit: Unit
    waiter: asyncio.Future[Outcome] | None = None

    def settle(self, outcome: Outcome) -> None:
        """Tells the caller, unless it has given up."""
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(outcome)

    def abandon(self) -> None:
        """The journal ends without knowing the outcome; nothing happens to one that was told already."""
        if self.waiter is not None:
            abandon(self.waiter)


@dataclass(slots=True)
class Flush:
    """Somebody waits until all is stored; `give_back` (shard -> epoch) is released with the last of it."""

    done: asyncio.Future[None]
    give_back: dict[int, int] = field(default_factory=dict)


def abandon(future: asyncio.Future[Any]) -> None:
    """Fails the future, unless it is done, with what a call on a stopped journal raises."""
    if not future.done():
        future.set_exception(stopped())
        future.exception()  # read once, so that a failure that nobody awaits is not reported


def stopped() -> Unavailable:
    return Unavailable("this node has stopped writing", "BACKEND_UNAVAILABLE", retry_after=1.0)


def size_of(unit: Unit) -> int:
    """Bytes that a unit brings to its batch: every text and every blob of its rows and of their events, with
    `_FIXED` for each field besides.
    """
    what = unit[1]
    if isinstance(what, OutboundMessage):
        return _bytes(what)
    return sum(map(_bytes, what))


def _bytes(row: object) -> int:
    if not isinstance(row, msgspec.Struct):
        return _FIXED
    size = 0
    for value in astuple(row):
        kind = value.__class__
        if kind is bytes or (kind is str and value.isascii()):
            size += len(value)
        elif kind is str:
            size += len(value.encode(errors="replace"))
        else:
            size += _bytes(value)
    return size


_FIXED = 16  # an id, a number, a time or nothing
