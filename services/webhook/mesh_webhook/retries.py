"""When a failed delivery is tried again."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

LONGEST_RETRY_AFTER = 3600.0
"""No endpoint can postpone its deliveries for longer, in seconds."""

JITTER = 0.2
"""At most this part of a wait is added to it, so that what failed together does not come back together."""


class RetrySchedule:
    """Seconds before each attempt; `schedule[0]`, before the first, is 0."""

    def __init__(self, schedule: Sequence[float]) -> None:
        self._schedule = tuple(schedule)

    def wait_after(self, tries: int, *, at_least: float = 0.0) -> float | None:
        """Seconds to wait after `tries` failed attempts, jitter included; None: that was the last."""
        if tries >= len(self._schedule):
            return None
        wait = max(self._schedule[tries], at_least)
        return wait + random.uniform(0, JITTER * wait)  # noqa: S311 - spreading load needs no secrecy


def retry_after(header: str | None, now: datetime) -> float | None:
    """Seconds that a Retry-After header asks for, 0 to `LONGEST_RETRY_AFTER`; None without a readable one."""
    if header is None:
        return None
    if header.strip().isascii() and header.strip().isdigit():
        return min(float(header.strip()[:9]), LONGEST_RETRY_AFTER)
    try:
        moment = parsedate_to_datetime(header)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return min(max(0.0, (moment - now).total_seconds()), LONGEST_RETRY_AFTER)
