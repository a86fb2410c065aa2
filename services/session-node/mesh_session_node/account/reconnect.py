"""When a session connects: in its turn, and again with exponential backoff, full jitter, and quarantine after
too many failures of its own.
"""

from __future__ import annotations

from typing import Protocol

from asyncpg.pgproto.pgproto import UUID

from mesh_core.backoff import Backoff

FIRST = 5.0
"""Upper end of the first delay, in seconds."""
LONGEST = 300.0
LONGEST_HELD = 30.0
"""While the network fails for most, each account waits at most so many seconds before it may try for all."""
WINDOW = 3600.0
"""Failures older than this, in seconds, no longer count."""


class Dialer(Protocol):
    """Who waits for a turn to dial."""

    @property
    def id(self) -> str: ...
    @property
    def tenant(self) -> UUID: ...
    async def dial(self) -> None:
        """Connect and log in."""


class ConnectQueue(Protocol):
    """Gives turns to dial."""

    def admit(self, dialer: Dialer, *, first: bool = False) -> None:
        """Call `dial` when its turn comes, in a task of its own; `first`: before those that nobody asked
        for.
        """


class Failures:
    """The failures of one session in the last hour. Times are monotonic seconds.

    Those that the account is not to blame for make it wait longer, but never bring it into quarantine.
    """

    __slots__ = ("_excused", "_limit", "_times")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._times: list[float] = []
        self._excused: list[float] = []

    def add(self, now: float, *, blamed: bool = True) -> None:
        """Count a failure."""
        if blamed:
            self._times = [*self.recent(now), now]
        else:
            self._excused = [*self._recently_excused(now), now]

    def recent(self, now: float) -> list[float]:
        """The failures that still count, oldest first."""
        return [time for time in self._times if now - time < WINDOW]

    def excuse(self, since: float) -> None:
        """The account is not to blame for its failures from then on."""
        self._excused += [time for time in self._times if time >= since]
        self._times = [time for time in self._times if time < since]

    def forget_excused(self) -> None:
        """What was to blame is over."""
        self._excused = []

    def clear(self) -> None:
        """Resets the failure count, after an operator or a caller has acted."""
        self._times, self._excused = [], []

    def quarantined(self, now: float) -> bool:
        """Whether there were more than the limit."""
        return len(self.recent(now)) > self._limit

    def delay(self, now: float) -> float:
        """Seconds until the next attempt: up to 5 s after the first failure, doubled each time, at most 5
        minutes. In quarantine until the oldest failure is forgotten.
        """
        recent = self.recent(now)
        if len(recent) > self._limit:
            return recent[-self._limit - 1] + WINDOW - now
        return backoff(len(recent) + len(self._recently_excused(now)))

    def _recently_excused(self, now: float) -> list[float]:
        return [time for time in self._excused if now - time < WINDOW]


def backoff(failures: int) -> float:
    """Seconds to wait after `failures` failures in a row: random, from 0 to an upper end that doubles."""
    return _BACKOFF.after(max(failures - 1, 0))


_BACKOFF = Backoff(FIRST, LONGEST, jitter=1.0)
