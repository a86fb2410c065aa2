"""How often failed calls are tried again."""

from __future__ import annotations

from collections.abc import Callable
from random import random

from grpc import StatusCode

from mesh_client.errors import MeshCallError


class RetryBudget:
    """Retries of one client: in the long run a tenth of its calls, so that a mesh in trouble gets no more."""

    def __init__(self) -> None:
        self._tokens = _MOST

    def earn(self) -> None:
        """A call succeeded."""
        self._tokens = min(_MOST, self._tokens + _EARNED)

    def spend(self) -> bool:
        """Whether one more retry is allowed."""
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


def pause_before(attempt: int, error: MeshCallError, jitter: Callable[[], float] = random) -> float | None:
    """Seconds to wait before trying again after failure number `attempt` (from 0); None when it is final.

    Only UNAVAILABLE is worth it, where the mesh says when, or where the call did not come through at all.
    """
    if error.code is not StatusCode.UNAVAILABLE or attempt >= MAX_RETRIES:
        return None
    if error.reason and error.retry_after is None:
        return None
    pause = min(_FIRST * 2.0**attempt, _LONGEST) * (0.5 + jitter() / 2)
    return max(pause, error.retry_after or 0.0)


MAX_RETRIES = 8
_MOST = 20.0
_EARNED = 0.1
_FIRST = 0.1
_LONGEST = 3.0
