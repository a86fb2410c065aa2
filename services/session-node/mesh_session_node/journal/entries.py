"""What waits to be stored, and its callers: a future for each, as cancelling a shared one fails them all."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from mesh_core.errors import Unavailable
from mesh_session_node.journal.batch import Unit
from mesh_session_node.journal.outcomes import Outcome
from mesh_session_node.journal.rows import ContentUpdate, Event, InboundMessage, OutboundMessage


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
    """Bytes of a unit's contents and events, which is what may make it large."""
    what = unit[1]
    if isinstance(what, OutboundMessage):
        return len(what.content) + len(what.event.body)
    size = 0
    for row in what:
        if isinstance(row, InboundMessage):
            size += len(row.content) + len(row.event.body)
        elif isinstance(row, Event):
            size += len(row.body)
        elif isinstance(row, ContentUpdate):
            size += len(row.content)
    return size
