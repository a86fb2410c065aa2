"""How fast an account may send."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh_session_node.outbound.limits import DAY, HOUR, MINUTE, Limiter, Window
from mesh_session_node.store.accounts import SendLimits

START = 1_000_000.0


def test_a_minutes_worth_is_let_through_at_once_and_the_next_waits() -> None:
    limiter = Limiter(SendLimits(60, 1000, 10_000, 10_000))
    assert all(limiter.take(START) for _ in range(60))
    assert not limiter.take(START)
    assert MINUTE <= limiter.wait(START) <= MINUTE * 13 / 12
    assert limiter.take(START + limiter.wait(START))


@given(st.lists(st.floats(min_value=0.0, max_value=30.0), min_size=1, max_size=300))
def test_no_minute_ever_has_more_than_the_limit(gaps: list[float]) -> None:
    limiter = Limiter(SendLimits(10, 100_000, 100_000, 10))
    now, sent = START, []
    for gap in gaps:
        now += gap
        if limiter.take(now):
            sent.append(now)
    for first in sent:
        assert sum(first <= time < first + MINUTE for time in sent) <= 10


@given(st.lists(st.floats(min_value=0.0, max_value=400.0), min_size=1, max_size=100))
def test_a_wait_that_was_told_is_long_enough(gaps: list[float]) -> None:
    limiter = Limiter(SendLimits(3, 20, 40, 10))
    now = START
    for gap in gaps:
        now += gap
        if not limiter.take(now):
            assert limiter.take(now + limiter.wait(now) + 1e-6)


@pytest.mark.parametrize("span", ["per_minute", "per_hour", "per_day"])
def test_a_limit_of_zero_lets_nothing_out_and_is_not_asked_again_soon(span: str) -> None:
    limiter = Limiter(replace(SendLimits(60, 1000, 10_000, 10_000), **{span: 0}))
    assert not limiter.take(START)
    assert limiter.wait(START) == DAY


def test_what_another_node_sent_counts_by_its_age() -> None:
    limiter = Limiter(SendLimits(10, 20, 30, 10))
    limiter.recall(START, 20, HOUR / 2)
    assert not limiter.take(START)
    assert limiter.take(START + HOUR)

    other = Limiter(SendLimits(10, 20, 30, 10))
    other.recall(START, 25, 2 * HOUR)
    assert [other.take(START) for _ in range(6)] == [True] * 5 + [False]


def test_a_window_forgets_after_its_span() -> None:
    window = Window(DAY)
    window.add(START, 5)
    window.advance(START + DAY * 0.99)
    assert window.total == 5
    window.advance(START + DAY * 1.09)
    assert window.total == 0
