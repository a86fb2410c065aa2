"""The latest attempt of each account to be online, and how many of each tenant's failed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from asyncpg.pgproto.pgproto import UUID

from mesh_session_node.account.state import Cause
from sessionmesh.v1 import session_pb2 as pb


@dataclass(frozen=True, slots=True)
class _Attempt:
    tenant: UUID
    time: float
    cause: Cause
    """UNSPECIFIED: it succeeded."""


class LatestAttempts:
    """One attempt of each account, the earliest first. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._of: dict[str, _Attempt] = {}
        self.tried: Counter[UUID] = Counter()
        """How many accounts of each tenant tried; tenants of which none did are not in it."""
        self.failed: Counter[UUID] = Counter()
        """How many of these failed; tenants of which none did are not in it."""
        self.failures = 0
        """How many of all failed."""

    def __len__(self) -> int:
        return len(self._of)

    @property
    def cause(self) -> Cause:
        """What most failures were; UNSPECIFIED when there are none."""
        causes = Counter(attempt.cause for attempt in self._of.values() if attempt.cause)
        return causes.most_common(1)[0][0] if causes else pb.SESSION_CAUSE_UNSPECIFIED

    def add(self, account: str, tenant: UUID, cause: Cause, now: float) -> None:
        """The account's latest attempt; `cause` UNSPECIFIED: it succeeded."""
        self.discard(account)
        self._of[account] = _Attempt(tenant, now, cause)
        self.tried[tenant] += 1
        if cause:
            self.failed[tenant] += 1
            self.failures += 1

    def discard(self, account: str) -> None:
        """The account's attempt says nothing any more."""
        if (attempt := self._of.pop(account, None)) is None:
            return
        one_less(self.tried, attempt.tenant)
        if attempt.cause:
            one_less(self.failed, attempt.tenant)
            self.failures -= 1

    def discard_until(self, time: float) -> None:
        """Attempts at this time and before say nothing any more."""
        for account, attempt in [*self._of.items()]:
            if attempt.time > time:
                break
            self.discard(account)

    def clear(self) -> None:
        self.discard_until(float("inf"))


def one_less(counts: Counter[UUID], tenant: UUID) -> None:
    """A tenant with none left is not counted any more."""
    counts[tenant] -= 1
    if not counts[tenant]:
        del counts[tenant]
