"""Waiting for a value in this process to change, on one event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class Signal:
    """Wakes everybody who waits, each time that `notify` is called.

    Any number of tasks may wait, and each may be cancelled. Limit a wait with `asyncio.timeout`. A signal
    carries no value: look at what it stands for after each wake-up. Several notifications in one turn of the
    event loop wake once. Nothing here may be called from another thread.
    """

    __slots__ = ("_next", "version")

    def __init__(self) -> None:
        self.version = 0
        """The number of notifications so far."""
        self._next: asyncio.Event | None = None  # made by the first who waits: without one notifying is free

    def notify(self) -> None:
        """Wakes everybody who waits now."""
        self.version += 1
        if self._next is not None:
            self._next.set()
            self._next = None

    async def wait(self, since: int | None = None) -> int:
        """Returns `version` after the next notification, or at once when it is not `since` any more.

        Who looks and then awaits something else before it waits must take `version` before it looks, and
        give it as `since`: nothing that happens in between is missed then.
        """
        if since is None or since == self.version:
            if self._next is None:
                self._next = asyncio.Event()
            await self._next.wait()
        return self.version

    async def wait_until(self, predicate: Callable[[], T | None]) -> T:
        """Returns the first true value of `predicate`, which is called now and after notifications."""
        while not (found := predicate()):
            await self.wait()
        return found
