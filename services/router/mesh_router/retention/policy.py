"""How long what is kept: the cluster's settings, and the times that are no setting."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Self

READER_GRACE = timedelta(days=7)
"""How much longer a day of events stands because the webhooks' reader has not read it, before it is dropped
unread, with an alarm.
"""
DEDUPLICATION = timedelta(days=30)
"""How long the network's ids are known: for as long a network may send again what it sent before."""
DISCONNECTS = timedelta(days=30)
PEOPLE = timedelta(days=90)
"""How long it is known who somebody is, after the network told it last."""
ENDED_KEYS = timedelta(days=30)
"""How long revoked and expired keys are still listed."""
CALLS = timedelta(days=7)
"""How long it is known that somebody called: for as long a network may say again what it said."""
AUDIT = timedelta(days=365)
"""How long it is known who did what."""
USAGE = timedelta(days=400)
"""How long it is known what tenants used."""
AUDIT_EVENTS = 1_000_000
"""Of each tenant; the oldest beyond them go before their time."""


@dataclass(frozen=True, slots=True)
class Policy:
    """`bodies` is how long a tenant without a wish of its own keeps contents and events; `longest` is how
    long the days of messages and events stand, and so the longest that a tenant can keep anything.
    """

    bodies: timedelta
    longest: timedelta

    @classmethod
    def of_days(cls, bodies: int, longest: int) -> Self:
        return cls(timedelta(days=bodies), timedelta(days=longest))

    def of(self, seconds: int | None) -> timedelta:
        """How long a tenant that asked for `seconds` (None: for nothing) keeps contents and events."""
        return min(self.bodies if seconds is None else timedelta(seconds=seconds), self.longest)

    def oldest_day(self, now: datetime) -> date:
        """The first day that is not wholly older than `longest` (UTC)."""
        return (now - self.longest).astimezone(UTC).date()
