"""When a failed delivery is tried again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh_webhook.deliveries.retries import JITTER, MAX_RETRY_AFTER, RetrySchedule, parse_retry_after

SCHEDULES = st.lists(st.floats(0, 1e6), min_size=1, max_size=12)
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@given(schedule=SCHEDULES, tries=st.integers(1, 20), at_least=st.floats(0, 1e5))
def test_a_wait_is_never_shorter_than_asked_and_jitter_only_adds(
    schedule: list[float], tries: int, at_least: float
) -> None:
    wait = RetrySchedule(schedule).wait_after(tries, at_least=at_least)
    if tries >= len(schedule):
        assert wait is None
    else:
        base = max(schedule[tries], at_least)
        assert wait is not None
        assert base <= wait <= base * (1 + JITTER) * (1 + 1e-12)


def test_as_many_attempts_are_made_as_the_schedule_has_entries() -> None:
    schedule = RetrySchedule([0, 1, 2])
    waits = [schedule.wait_after(tries) for tries in (1, 2, 3)]
    assert [wait is None for wait in waits] == [False, False, True]


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("0", 0),
        (" 120 ", 120),
        ("99999999999999999999", MAX_RETRY_AFTER),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90),
        (format_datetime(NOW - timedelta(seconds=90), usegmt=True), 0),
        (format_datetime(NOW + timedelta(days=9), usegmt=True), MAX_RETRY_AFTER),
        ("²", None),
    ],
)
def test_retry_after_is_seconds_or_a_date_within_bounds(header: str | None, seconds: float | None) -> None:
    assert parse_retry_after(header, NOW) == seconds


@given(st.text())
def test_no_header_breaks_the_parser(header: str) -> None:
    wait = parse_retry_after(header, NOW)
    assert wait is None or 0 <= wait <= MAX_RETRY_AFTER
