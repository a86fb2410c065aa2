"""Whether, and when, a failed call is tried again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import random
from time import monotonic

from grpc import StatusCode

from mesh_client.errors import MeshCallError, Unavailable

MAX_RETRIES = 8
"""Of one call."""


class Unreachable(Unavailable):
    """No router could be connected to: the call was never sent."""


class RetryBudget:
    """Retries of one client that the mesh has to bear: in the long run a fifth of its calls.

    A mesh in trouble gets no more than that; a client that was quiet has some saved.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._tokens = _SAVED
        self._seen = clock()

    def earn(self) -> None:
        """A call succeeded."""
        self._tokens = min(_MOST, self._tokens + _EARNED)

    def spend(self) -> bool:
        """Whether one more retry is allowed."""
        now = self._clock()
        if self._tokens < _SAVED:
            self._tokens = min(_SAVED, self._tokens + (now - self._seen) * _EACH_SECOND)
        self._seen = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class Attempts:
    """The attempts of one call. `deadline` is of the loop's clock."""

    def __init__(self, budget: RetryBudget, deadline: float, *, repeatable: bool) -> None:
        self.number = 0
        self.budget = budget
        self._deadline = deadline
        self._repeatable = repeatable

    def remaining(self) -> float:
        """Seconds until the deadline; may be negative."""
        return self._deadline - asyncio.get_running_loop().time()

    async def pause(self, failure: MeshCallError) -> bool:
        """Whether to try again after `failure`, once that makes sense; False when it is final."""
        unreachable = isinstance(failure, Unreachable)
        if not (self._repeatable or unreachable):
            return False
        seconds = pause_before(self.number, failure)
        if seconds is None or seconds >= self.remaining():
            return False
        # The first call after a connection broke or an account moved, and one that was never sent, is no
        # burden for the mesh.
        free = unreachable or (failure.reason in _ELSEWHERE and self.number == 0)
        if not free and not self.budget.spend():
            return False
        self.number += 1
        await asyncio.sleep(seconds)
        return True


def is_broken(error: MeshCallError) -> bool:
    """Whether the connection failed, rather than whoever serves the call."""
    return error.code is StatusCode.UNAVAILABLE and not error.reason


def pause_before(attempt: int, error: MeshCallError, jitter: Callable[[], float] = random) -> float | None:
    """Seconds to wait before trying again after failure number `attempt` (from 0); None when it is final.

    Only UNAVAILABLE is worth it, where the mesh says when, or where the call did not come through at all.
    """
    if error.code is not StatusCode.UNAVAILABLE or attempt >= MAX_RETRIES:
        return None
    if error.reason not in _AT_ONCE and error.retry_after is None:
        return None
    if attempt == 0 and error.retry_after is None and not isinstance(error, Unreachable):
        return _AGAIN * jitter()
    return max(backoff(attempt, jitter), error.retry_after or 0.0)


def backoff(attempt: int, jitter: Callable[[], float] = random) -> float:
    """Seconds to wait after failure number `attempt` (from 0): 0.1 to 3, half of it at random."""
    return min(_FIRST * 2.0 ** min(attempt, 16), _LONGEST) * (0.5 + jitter() / 2)


_AT_ONCE = frozenset({"", "GOING_AWAY"})
"""Reasons that say where the call was, not that the mesh is busy."""
_ELSEWHERE = _AT_ONCE | {"NOT_OWNER"}
"""Reasons for which somebody else serves the call, or soon will."""
_MOST = 500.0
_SAVED = 20.0
_EARNED = 0.2
_EACH_SECOND = 1.0
_AGAIN = 0.05
_FIRST = 0.1
_LONGEST = 3.0
