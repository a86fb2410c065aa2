"""Waiting for a condition, with a deadline. Nothing in the tests waits in another way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

Found = TypeVar("Found")

POLL_SECONDS = 0.05


async def eventually(
    condition: Callable[[], Awaitable[Found | None]], seconds: float = 30.0, what: str = "the condition"
) -> Found:
    """The first answer of `condition` that is true; AssertionError when there is none in time."""
    deadline = time.monotonic() + seconds
    while not (found := await condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come about within {seconds:.0f} s")
        await asyncio.sleep(POLL_SECONDS)
    return found


def wait_until(
    condition: Callable[[], Found | None], seconds: float = 30.0, what: str = "the condition"
) -> Found:
    """`eventually` for tests without an event loop."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come about within {seconds:.0f} s")
        time.sleep(POLL_SECONDS)
    return found
