"""How benchmarks tell a ratio from pairs of turns."""

from __future__ import annotations

from random import Random

from bench.measuring.pairs import PAIRS, compared, median


def test_each_turn_is_compared_with_the_one_next_to_it() -> None:
    found = compared([2.0, 8.0, 30.0, 2.0, 2.0, 2.0], [1.0, 4.0, 15.0, 1.0, 1.0, 1.0])
    assert (found.value, found.low, found.high) == (2.0, 2.0, 2.0)


def test_of_twenty_values_the_interval_is_from_the_sixth_to_the_fifteenth() -> None:
    found = median([float(number) for number in range(1, PAIRS + 1)])
    assert (found.low, found.value, found.high) == (6.0, 10.5, 15.0)


def test_the_interval_holds_the_true_median_in_nineteen_of_twenty_cases() -> None:
    random = Random(20)
    held = 0
    for _ in range(2000):
        found = median([random.expovariate(1.0) for _ in range(PAIRS)])
        held += found.low <= 0.693147 <= found.high
    assert 0.94 <= held / 2000 <= 0.98
