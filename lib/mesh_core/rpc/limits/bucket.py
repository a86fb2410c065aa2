"""What one process may grant of one limit without asking Redis.

A process that asked for every call would spend more on asking than on many a call. So a limit of many calls
is taken in parts, `1 / PARTS` of it:

- a process grants the first part of a window by itself, and tells when it asks for the first time. What is
  far below its limit never asks;
- after that, each time it asks it takes a part in advance, and grants from it.

So a limit is kept exactly while one process counts it, but for a part at the edge of its window; with
several, each may grant a part more, or hold one that the others lack. Limits below `PARTS` calls have no
parts: each call asks, and they are exact.

While Redis does not answer, a process counts what it grants beyond its part by itself: as a limit of this
process alone, beginning where Redis' last refusal stood. So nobody gets more than his limit in each process.
"""

from __future__ import annotations

import asyncio
from math import ceil

from mesh_core.settings import CallLimit

PARTS = 32


class Bucket:
    """One limit of one account, tenant or key. All times are of the monotonic clock."""

    __slots__ = (
        "_alone",
        "_each",
        "_free",
        "_full",
        "_lease_end",
        "_leased",
        "_untold",
        "_window_end",
        "asking",
        "calls",
        "name",
        "part",
        "redis_key",
        "refused_until",
        "seconds",
        "wanted",
    )

    def __init__(self, redis_key: str, name: str, limit: CallLimit, *, exact: bool) -> None:
        """`name` is for callers: whose limit it is. `exact`: Redis is asked for every call."""
        self.redis_key = redis_key
        self.name = name
        self.calls = limit.calls
        self.seconds = limit.seconds
        self.part = 0 if exact else limit.calls // PARTS
        self.refused_until = 0.0
        self.asking: asyncio.Future[None] | None = None
        self.wanted = 0
        """Calls that wait for the one that asks."""
        self._each = limit.seconds / limit.calls
        self._alone = 0
        self._full = 0.0
        """When all that was granted alone will have come back (GCRA)."""
        self._free = self.part
        self._untold = 0
        self._window_end = 0.0
        self._leased = 0
        self._lease_end = 0.0

    def has(self, calls: int, now: float) -> bool:
        """Whether `calls` can be granted without asking."""
        if now >= self._window_end:
            self._free, self._untold = self.part, 0
            self._window_end = now + self.seconds
        if now >= self._lease_end:
            self._leased = 0
        return self._leased + self._free >= calls

    def spend(self, calls: int) -> None:
        """Grant them; `has` said that they can be."""
        leased = min(calls, self._leased)
        self._leased -= leased
        self._free -= calls - leased
        self._untold += calls - leased

    def wait_alone(self, now: float) -> float:
        """Seconds until one more call can be granted without Redis; 0 when it can be."""
        wait = self._full_alone(now) - (self.calls - 1) * self._each - now
        return wait if wait > _INSTANT else 0.0

    def spend_alone(self, now: float) -> None:
        """Grant a call without Redis; `wait_alone` said that it can be."""
        self._full = self._full_alone(now) + self._each
        self._alone += 1

    def tell(self, now: float) -> int:
        """Calls granted that Redis does not know of and is told of now; none is free until a window later.

        Of those granted alone only what has not come back yet; they are told again until there is an answer.
        """
        untold, self._untold = self._untold, 0
        self._free = 0
        self._window_end = now + self.seconds
        return untold + min(self._alone, max(ceil((self._full - now) / self._each), 0))

    def lease(self, calls: int, now: float) -> None:
        """Redis has answered, and counted these in advance."""
        self._alone = 0
        self._leased += calls
        self._lease_end = now + self.seconds

    def idle(self, now: float) -> bool:
        """Whether a new bucket would grant no more than this one."""
        return now >= max(self._window_end, self._full) and self.asking is None

    def _full_alone(self, now: float) -> float:
        """`_full`, or now; or where Redis stood when it refused last."""
        refused = self.refused_until + (self.calls - 1) * self._each if self.refused_until else 0.0
        return max(self._full, now, refused)


_INSTANT = 1e-6
"""Seconds that sums of intervals may be off."""
