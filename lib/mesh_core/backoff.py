"""Pauses between attempts that grow with each failure."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, log
from random import random


class Backoff:
    """Pauses in seconds: `first`, then `factor` times as long after each attempt, `maximum` at most.

    `jitter` is the share of each pause that is left to chance: 0 for none, 0.5 for between half of the pause
    and all of it, 1 for anything from 0 on ("full jitter"), which spreads many who failed at once best.
    """

    __slots__ = ("_factor", "_first", "_jitter", "_maximum", "_random", "_steps", "attempts")

    def __init__(
        self,
        first: float,
        maximum: float,
        *,
        factor: float = 2.0,
        jitter: float = 0.0,
        random: Callable[[], float] = random,
    ) -> None:
        if not (0.0 < first <= maximum and factor > 1.0 and 0.0 <= jitter <= 1.0):
            raise ValueError(f"impossible backoff: {first=} {maximum=} {factor=} {jitter=}")
        self.attempts = 0
        """How many pauses there were since the last `reset`."""
        self._first = first
        self._maximum = maximum
        self._factor = factor
        self._jitter = jitter
        self._random = random
        self._steps = ceil(log(maximum / first, factor))  # so many later `maximum` is reached

    def next(self) -> float:
        """The pause before the next attempt."""
        pause = self.after(self.attempts)
        self.attempts += 1
        return pause

    def reset(self) -> None:
        """Begins anew with the first pause: an attempt succeeded."""
        self.attempts = 0

    def after(self, attempts: int) -> float:
        """The pause after `attempts` pauses (0: the first one), for callers that count themselves."""
        pause = self._maximum
        if attempts < self._steps:
            pause = min(self._first * self._factor**attempts, pause)
        return pause * (1.0 - self._jitter * self._random())
