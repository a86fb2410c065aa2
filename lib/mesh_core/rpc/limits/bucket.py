"""What one process may grant of one limit without asking Redis.

A process that asked for every call would spend more on asking than on many a call. So a limit of many calls
is taken in parts, `1 / PARTS` of it:

- a process grants the first part of a window by itself, and tells when it asks for the first time. What is
  far below its limit never asks;
- after that, each time it asks it takes a part in advance, and grants from it.

So a limit is kept exactly while one process counts it, but for a part at the edge of its window; with
several, each may grant a part more, or hold one that the others lack. Limits below `PARTS` calls have no
parts: each call asks, and they are exact.
"""

from __future__ import annotations

import asyncio

from mesh_core.settings import CallLimit

PARTS = 32


class Bucket:
    """One limit of one account, tenant or key. All times are of the monotonic clock."""

    __slots__ = (
        "_free",
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

    def tell(self, now: float) -> int:
        """Calls granted that Redis does not know of and is told of now; none is free until a window later."""
        untold, self._untold = self._untold, 0
        self._free = 0
        self._window_end = now + self.seconds
        return untold

    def lease(self, calls: int, now: float) -> None:
        """Redis has counted these in advance."""
        self._leased += calls
        self._lease_end = now + self.seconds

    def idle(self, now: float) -> bool:
        """Whether a new bucket would grant no more than this one."""
        return now >= self._window_end and self.asking is None
