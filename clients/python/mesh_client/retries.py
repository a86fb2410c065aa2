"""Whether, and when, a failed call is tried again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import random
from time import monotonic

from grpc import StatusCode

from mesh_client.errors import MeshCallError, Unavailable

MAX_RETRIES = 8
"""The retries of one call."""


class Unreachable(Unavailable):
    """No router could be connected to: the call was never sent."""


class RetryBudget:
    """Limits a client's retries to a fifth of its calls in the long run, so that a mesh in trouble recovers.

    A client that was quiet may retry a few times more.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._tokens = _INITIAL_TOKENS
        self._seen = clock()

    def earn(self) -> None:
        """A call succeeded."""
        self._tokens = min(_MAX_TOKENS, self._tokens + _TOKENS_PER_SUCCESS)

    def spend(self) -> bool:
        """Whether one more retry is allowed."""
        now = self._clock()
        if self._tokens < _INITIAL_TOKENS:
            self._tokens = min(_INITIAL_TOKENS, self._tokens + (now - self._seen) * _TOKENS_PER_SECOND)
        self._seen = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class Attempts:
    """The attempts of one call. `deadline` is on the loop's clock."""

    def __init__(self, budget: RetryBudget, deadline: float, *, repeatable: bool) -> None:
        self.number = 0
        self.budget = budget
        self._deadline = deadline
        self._repeatable = repeatable

    def remaining(self) -> float:
        """Seconds until the deadline; may be negative."""
        return self._deadline - asyncio.get_running_loop().time()

    async def pause(self, failure: MeshCallError) -> bool:
        """Waits for the next attempt and returns True; returns False at once when `failure` is final."""
        unreachable = isinstance(failure, Unreachable)
        if not (self._repeatable or unreachable):
            return False
        seconds = pause_before(self.number, failure)
        if seconds is None or seconds >= self.remaining():
            return False
        # The first retry after a connection broke or an account moved, and a retry of a call that was never
        # sent, are no burden for the mesh.
        free = unreachable or (failure.reason in _MOVED_REASONS and self.number == 0)
        if not free and not self.budget.spend():
            return False
        self.number += 1
        await asyncio.sleep(seconds)
        return True


def is_broken(error: MeshCallError) -> bool:
    """Whether the connection failed, and not the server of the call."""
    return error.code is StatusCode.UNAVAILABLE and not error.reason


def pause_before(attempt: int, error: MeshCallError, jitter: Callable[[], float] = random) -> float | None:
    """Seconds to wait before trying again after failure number `attempt` (from 0); None when it is final.

    Only UNAVAILABLE is retried: where the mesh says when, or where the call was not processed at all.
    """
    if error.code is not StatusCode.UNAVAILABLE or attempt >= MAX_RETRIES:
        return None
    if error.reason not in _CONNECTION_REASONS and error.retry_after is None:
        return None
    if attempt == 0 and error.retry_after is None and not isinstance(error, Unreachable):
        return _FIRST_RETRY_SECONDS * jitter()
    return max(backoff(attempt, jitter), error.retry_after or 0.0)


def backoff(attempt: int, jitter: Callable[[], float] = random) -> float:
    """Seconds to wait after failure number `attempt` (from 0): 0.1 to 3, half of it at random."""
    return min(_FIRST_BACKOFF_SECONDS * 2.0 ** min(attempt, 16), _MAX_BACKOFF_SECONDS) * (0.5 + jitter() / 2)


_CONNECTION_REASONS = frozenset({"", "GOING_AWAY"})
"""Reasons of failures of the connection or of one server, which say nothing about load."""
_MOVED_REASONS = _CONNECTION_REASONS | {"NOT_OWNER"}
"""Reasons after which another server answers the call, now or soon."""
_MAX_TOKENS = 500.0
_INITIAL_TOKENS = 20.0
_TOKENS_PER_SUCCESS = 0.2
_TOKENS_PER_SECOND = 1.0
_FIRST_RETRY_SECONDS = 0.05
_FIRST_BACKOFF_SECONDS = 0.1
_MAX_BACKOFF_SECONDS = 3.0
