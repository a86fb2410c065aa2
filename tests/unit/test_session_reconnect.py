"""When a session connects again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mesh_session_node.account.reconnect import FIRST, LONGEST, WINDOW, Failures, backoff


@given(st.integers(min_value=1, max_value=10_000))
def test_a_delay_is_between_nought_and_its_bound(failures: int) -> None:
    assert 0.0 <= backoff(failures) <= min(LONGEST, FIRST * 2.0 ** min(failures - 1, 16))


def test_delays_are_spread_over_their_whole_range() -> None:
    delays = [backoff(1) for _ in range(1000)]
    assert min(delays) < 0.2 * FIRST
    assert max(delays) > 0.8 * FIRST


@given(st.lists(st.floats(min_value=0.0, max_value=10 * WINDOW), min_size=1).map(sorted))
def test_only_the_failures_of_the_last_hour_count(times: list[float]) -> None:
    failures = Failures(5)
    for time in times:
        failures.add(time)
    assert failures.recent(times[-1]) == [time for time in times if times[-1] - time < WINDOW]


def test_one_failure_more_than_the_limit_is_quarantine_until_the_oldest_is_forgotten() -> None:
    failures = Failures(5)
    for time in range(5):
        failures.add(float(time))
    assert not failures.quarantined(4.0)

    failures.add(5.0)

    assert failures.quarantined(5.0)
    assert failures.delay(5.0) == WINDOW - 5.0
    assert not failures.quarantined(5.0 + failures.delay(5.0))


def test_a_session_that_somebody_looked_after_begins_anew() -> None:
    failures = Failures(1)
    failures.add(0.0)
    failures.add(1.0)
    failures.clear()
    assert not failures.quarantined(1.0)
