"""Ratios from interleaved pairs: their median, and the interval that holds it with a probability of 95 %."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import comb

PAIRS = 20
"""The least number of pairs that a ratio rests on."""


@dataclass(frozen=True, slots=True)
class Median:
    """A median and its 95 % interval, which supposes nothing about how the values are distributed."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def median(values: Sequence[float]) -> Median:
    """Of six values or more: with fewer even the extremes hold it less often than that."""
    ordered = sorted(values)
    outside = _outside(len(ordered))
    return Median(statistics.median(ordered), ordered[outside], ordered[-1 - outside])


def compared(
    ones: Sequence[float], others: Sequence[float], how: Callable[[float, float], float] = lambda a, b: a / b
) -> Median:
    """The median of each of `ones` compared with the one of `others` that was measured next to it."""
    return median([how(one, other) for one, other in zip(ones, others, strict=True)])


def _outside(number: int) -> int:
    """How many values at either end the interval leaves out."""
    outside, beyond = 0, 2 / 2**number
    while (beyond := beyond + 2 * comb(number, outside + 1) / 2**number) <= 0.05:
        outside += 1
    return outside
