"""Stretches of time, in which callers and the network saw what they saw."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Window:
    """By CLOCK_MONOTONIC, as callers log; the end is not part of it."""

    began: float
    ended: float

    @property
    def seconds(self) -> float:
        return self.ended - self.began

    def holds(self, moment: float) -> bool:
        """Whether it happened then."""
        return self.began <= moment < self.ended

    def slices(self, number: int) -> list[Window]:
        """So many equal parts of it."""
        each = self.seconds / number
        return [Window(self.began + i * each, self.began + (i + 1) * each) for i in range(number)]


async def stretch(seconds: float) -> Window:
    """Let so much time pass."""
    began = time.monotonic()
    await asyncio.sleep(seconds)
    return Window(began, time.monotonic())


def since(began: float) -> Window:
    """From then until now."""
    return Window(began, time.monotonic())


def monotonic_of(nanoseconds: int) -> float:
    """The moment of CLOCK_MONOTONIC that a clock time (since 1970) was."""
    return nanoseconds / 1e9 - _OFFSET


_OFFSET = time.time() - time.monotonic()
