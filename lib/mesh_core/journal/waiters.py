"""Who waits for what: a future for each caller, never one for several, since cancelling it would fail them
all.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from mesh_core.errors import Unavailable
from mesh_core.journal.batch import Unit
from mesh_core.journal.outcomes import COMMITTED, Outcome


class Frame:
    """The outcomes of a frame's messages, which may come from several batches."""

    __slots__ = ("_left", "_outcomes", "done")

    def __init__(self, done: asyncio.Future[list[Outcome]], size: int) -> None:
        self.done = done
        self._outcomes: list[Outcome] = [COMMITTED] * size
        self._left = size

    def settle(self, at: int, outcome: Outcome) -> None:
        """The frame's message `at` has this outcome; the last one answers the caller."""
        self._outcomes[at] = outcome
        self._left -= 1
        if self._left == 0 and not self.done.done():
            self.done.set_result(self._outcomes)


@dataclass(slots=True, eq=False)
class Entry:
    """A unit, who waits for it (a future, a frame or nobody), and which of a frame's messages it is."""

    unit: Unit
    waiter: asyncio.Future[Outcome] | Frame | None = None
    at: int = 0

    def settle(self, outcome: Outcome) -> None:
        """Tells the caller, unless it has given up."""
        waiter = self.waiter
        if isinstance(waiter, Frame):
            waiter.settle(self.at, outcome)
        elif waiter is not None and not waiter.done():
            waiter.set_result(outcome)

    def abandon(self) -> None:
        """The journal ends without knowing the outcome; nothing happens to one that was told already."""
        if isinstance(self.waiter, Frame):
            abandon(self.waiter.done)
        elif self.waiter is not None:
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
