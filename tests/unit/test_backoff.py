"""Pauses between attempts."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh_core.backoff import Backoff

FIRSTS = st.floats(0.001, 10.0)
MULTIPLES = st.floats(1.0, 10_000.0)
"""Of the first pause: the longest."""
FACTORS = st.floats(1.1, 10.0)
CHANCES = st.floats(0.0, 1.0, exclude_max=True)


def test_pauses_double_up_to_the_longest() -> None:
    backoff = Backoff(0.5, 3.0)
    assert [backoff.next() for _ in range(5)] == [0.5, 1.0, 2.0, 3.0, 3.0]


def test_a_success_begins_anew() -> None:
    backoff = Backoff(0.5, 3.0)
    assert [backoff.next(), backoff.next(), backoff.attempts] == [0.5, 1.0, 2]
    backoff.reset()
    assert [backoff.attempts, backoff.next()] == [0, 0.5]


@given(
    first=FIRSTS, multiple=MULTIPLES, factor=FACTORS, jitter=st.floats(0.0, 1.0), chance=CHANCES,
    attempts=st.integers(0, 10_000),
)  # fmt: skip
def test_a_pause_is_never_negative_nor_beyond_the_longest(
    first: float, multiple: float, factor: float, jitter: float, chance: float, attempts: int
) -> None:
    maximum = first * multiple
    backoff = Backoff(first, maximum, factor=factor, jitter=jitter, random=lambda: chance)
    assert 0.0 <= backoff.after(attempts) <= maximum


@given(first=FIRSTS, multiple=MULTIPLES, factor=FACTORS)
def test_pauses_grow_by_the_factor_until_they_are_longest(
    first: float, multiple: float, factor: float
) -> None:
    maximum = first * multiple
    backoff = Backoff(first, maximum, factor=factor)
    pauses = [backoff.next() for _ in range(120)]
    assert pauses[0] == first
    assert pauses[-1] == maximum
    for before, after in pairwise(pauses):
        assert after == pytest.approx(min(before * factor, maximum))


@given(jitter=st.floats(0.0, 1.0), chance=CHANCES, attempts=st.integers(0, 20))
def test_chance_takes_away_its_share_of_a_pause_at_most(jitter: float, chance: float, attempts: int) -> None:
    whole = Backoff(1.0, 60.0).after(attempts)
    pause = Backoff(1.0, 60.0, jitter=jitter, random=lambda: chance).after(attempts)
    assert whole * (1.0 - jitter) <= pause <= whole


def test_full_jitter_spreads_pauses_over_their_whole_range() -> None:
    pauses = [Backoff(10.0, 10.0, jitter=1.0).next() for _ in range(1000)]
    assert min(pauses) < 1.0
    assert max(pauses) > 9.0


def test_the_pause_after_so_many_attempts_is_the_one_that_counting_leads_to() -> None:
    counting, counted = Backoff(0.1, 5.0), Backoff(0.1, 5.0)
    assert [counting.next() for _ in range(10)] == [counted.after(attempts) for attempts in range(10)]
    assert counted.attempts == 0


@pytest.mark.parametrize(
    ("first", "maximum", "factor", "jitter"),
    [(0.0, 1.0, 2.0, 0.0), (2.0, 1.0, 2.0, 0.0), (1.0, 2.0, 1.0, 0.0), (1.0, 2.0, 2.0, 1.1)],
)
def test_what_makes_no_sense_is_refused(first: float, maximum: float, factor: float, jitter: float) -> None:
    with pytest.raises(ValueError, match="impossible backoff"):
        Backoff(first, maximum, factor=factor, jitter=jitter)
