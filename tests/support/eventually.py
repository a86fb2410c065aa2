"""Waiting for a condition, with a deadline. Nothing in the tests waits in another way."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

Found = TypeVar("Found")

POLL_SECONDS = 0.02
MOST_SECONDS = 0.5


def _pause(took: float) -> float:
    """Seconds until the next look, after one that took so long.

    A look that costs much is taken less often: else waiting would take the processor from what is waited for.
    """
    return min(max(POLL_SECONDS, 2 * took), MOST_SECONDS)


@overload
async def eventually(
    condition: Callable[[], Awaitable[Found | None]], seconds: float = 60.0, what: str = "the condition"
) -> Found: ...


@overload
async def eventually(
    condition: Callable[[], Found | None], seconds: float = 60.0, what: str = "the condition"
) -> Found: ...


async def eventually(condition: Callable[[], Any], seconds: float = 60.0, what: str = "the condition") -> Any:
    """The first answer of `condition` that is true; AssertionError when there is none in time."""
    deadline = time.monotonic() + seconds
    while True:
        began = time.monotonic()
        found = condition()
        if inspect.isawaitable(found):
            found = await found
        if found:
            return found
        now = time.monotonic()
        if now > deadline:
            raise AssertionError(f"{what} did not come about within {seconds:.0f} s")
        await asyncio.sleep(_pause(now - began))


def wait_until(
    condition: Callable[[], Found | None], seconds: float = 60.0, what: str = "the condition"
) -> Found:
    """`eventually` for tests without an event loop."""
    deadline = time.monotonic() + seconds
    while True:
        began = time.monotonic()
        if found := condition():
            return found
        now = time.monotonic()
        if now > deadline:
            raise AssertionError(f"{what} did not come about within {seconds:.0f} s")
        time.sleep(_pause(now - began))
