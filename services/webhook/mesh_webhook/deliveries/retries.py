"""When a failed delivery is attempted again."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

MAX_RETRY_AFTER = 3600.0
"""An endpoint can postpone its deliveries by at most this many seconds."""

JITTER = 0.2
"""Up to this share of a wait is added at random, so that deliveries that failed together spread out."""


class RetrySchedule:
    """Seconds before each attempt; `schedule[0]`, before the first, is 0."""

    def __init__(self, schedule: Sequence[float]) -> None:
        self._schedule = tuple(schedule)

    def wait_after(self, tries: int, *, at_least: float = 0.0) -> float | None:
        """Seconds to wait after `tries` failed attempts, jitter included; None after the last attempt."""
        if tries >= len(self._schedule):
            return None
        wait = max(self._schedule[tries], at_least)
        return wait + random.uniform(0, JITTER * wait)  # noqa: S311 - spreading load needs no secrecy


def parse_retry_after(header: str | None, now: datetime) -> float | None:
    """The seconds in a Retry-After header, 0 to `MAX_RETRY_AFTER`; None without a valid header."""
    if header is None:
        return None
    if header.strip().isascii() and header.strip().isdigit():
        return min(float(header.strip()[:9]), MAX_RETRY_AFTER)
    try:
        moment = parsedate_to_datetime(header)
    except (ValueError, TypeError, OverflowError):  # whatever an endpoint may write there
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return min(max(0.0, (moment - now).total_seconds()), MAX_RETRY_AFTER)
