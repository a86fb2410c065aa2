"""What `mesh doctor` finds, and how long it asks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import urlsplit

SECONDS = 5.0
"""How long all that is asked of one server may take."""
ANSWER_SECONDS = 3.0
"""How long one answer may take."""


class Verdict(StrEnum):
    """WARNING: it works, and somebody should look at it; WRONG: it does not work, or harms."""

    GOOD = "good"
    WARNING = "warning"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: what was checked, the verdict, what was seen, and what to do unless it is good."""

    subject: str
    verdict: Verdict
    seen: str
    remedy: str = ""


def good(subject: str, seen: str) -> Finding:
    """Nothing is to be done."""
    return Finding(subject, Verdict.GOOD, seen)


def warning(subject: str, seen: str, remedy: str) -> Finding:
    """It works as yet."""
    return Finding(subject, Verdict.WARNING, seen, remedy)


def wrong(subject: str, seen: str, remedy: str) -> Finding:
    """It does not work, or harms."""
    return Finding(subject, Verdict.WRONG, seen, remedy)


def judged(subject: str, is_good: bool, seen: str, remedy: str) -> Finding:
    """Good or wrong."""
    return good(subject, seen) if is_good else wrong(subject, seen, remedy)


def measured(subject: str, value: float, limits: tuple[float, float], seen: str, remedy: str) -> Finding:
    """Of what should be small: a warning above the first limit, wrong above the second."""
    if value > limits[1]:
        return wrong(subject, seen, remedy)
    return warning(subject, seen, remedy) if value > limits[0] else good(subject, seen)


async def in_time(subject: str, check: Awaitable[list[Finding]]) -> list[Finding]:
    """What a check finds; that it did not end is a finding, too."""
    try:
        async with asyncio.timeout(SECONDS):
            return await check
    except TimeoutError:
        return [wrong(subject, f"no answer within {SECONDS:.0f} s", NO_ANSWER)]
    except Exception as error:
        seen = f"cannot be checked: {type(error).__name__}"  # no more: there may be a secret in it
        return [wrong(subject, seen, "Check that its address names such a server.")]


async def fastest(ask: Callable[[], Awaitable[object]]) -> float:
    """Seconds that an answer takes: the best of three, as this process does other things meanwhile."""
    took = []
    for _ in range(3):
        sent = time.monotonic()
        await ask()
        took.append(time.monotonic() - sent)
    return min(took)


def place_of(url: str) -> str:
    """Host and port of a URL, or several of them, without user and password."""
    return urlsplit(url).netloc.rpartition("@")[2]


def milliseconds(seconds: float) -> str:
    """Such as 1.2 ms."""
    return f"{1000 * seconds:.1f} ms"


def told(error: Exception) -> str:
    """What an error says; those of time-outs say nothing."""
    return str(error) or "no answer in time"


NO_ANSWER = "Does it run, is the address right, and does a firewall let this machine through?"
