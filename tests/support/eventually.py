"""Waiting for a condition, with a deadline. Nothing in the tests waits in another way."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

Found = TypeVar("Found")

POLL_SECONDS = 0.02


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
        found = condition()
        if inspect.isawaitable(found):
            found = await found
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come about within {seconds:.0f} s")
        await asyncio.sleep(POLL_SECONDS)


def wait_until(
    condition: Callable[[], Found | None], seconds: float = 60.0, what: str = "the condition"
) -> Found:
    """`eventually` for tests without an event loop."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come about within {seconds:.0f} s")
        time.sleep(POLL_SECONDS)
    return found
