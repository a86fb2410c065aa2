"""Whether a network fails for most sessions of this node, or only for some that have themselves to blame."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from asyncpg.pgproto.pgproto import UUID

from mesh_session_node.account.state import Cause
from mesh_session_node.node.latest_attempts import LatestAttempts, one_less
from sessionmesh.v1 import session_pb2 as pb

WINDOW = 60.0
"""Attempts older than this, in seconds, say nothing of the present."""
MOST, MANY = 0.8, 1 / 3
"""Shares of the accounts or tenants that tried: from the one on the network fails, from the other it may."""
FEW, LEAST = 0.05, 5
"""Share, and number, of all accounts, or tenants, that must have failed where the others did not try."""
SETTLED, LONGEST_SETTLED = 2.0, 30.0
"""Seconds that a connection must stand before the network counts as working again: twice as long each time
that it had not worked for long.
"""
RELAPSE = 600.0
"""A network that fails again within so many seconds had not worked for long."""


@dataclass(frozen=True, slots=True)
class Tally:
    """How many accounts of a tenant are to be online on this node, and how many of them wait after a
    failure. Those in quarantine are not counted.
    """

    wanted: int
    waiting: int


class NetworkHealth:
    """Judges one network by the latest attempt of each account. Times are monotonic seconds.

    A tenant's accounts fail alike when 80 % of those that are to be online failed within a minute; or when
    80 % of those that tried did, and these are 5 accounts, and 5 % of the tenant's, at least: the others may
    have connections from before. The network fails when the accounts of 80 % of the tenants fail alike; or
    when most attempts failed for 80 % of the tenants that tried, and these are 5 tenants, and 5 % of all, at
    least. So a tenant counts once: thousands of its accounts that are dead are no outage for the others. The
    network works again when an account that has logged in since keeps its connection for 2 s.
    """

    def __init__(self) -> None:
        self.failing = False
        self.since = 0.0
        """When it began to fail, or to work again; 0 when it never failed."""
        self._attempts = LatestAttempts()
        self._connected: dict[str, UUID] = {}
        self._connected_of: Counter[UUID] = Counter()
        self._proofs: dict[str, float] = {}
        """The accounts that are connected since the network fails, and since when."""
        self._settled = SETTLED
        self._tallies: Mapping[UUID, Tally] = {}
        self._wanted = self._waiting = 0
        """Of all tenants."""
        self._tenants_waiting: frozenset[UUID] = frozenset()
        """Those of which an account waits."""

    @property
    def in_question(self) -> bool:
        """It must be judged soon: it fails, or somebody failed lately."""
        return self.failing or self._attempts.failures > 0

    @property
    def cause(self) -> Cause:
        """What most of the latest failures were; UNSPECIFIED when there are none."""
        return self._attempts.cause

    def succeeded(self, account: str, tenant: UUID, now: float) -> None:
        """The account has logged in."""
        self._attempts.add(account, tenant, pb.SESSION_CAUSE_UNSPECIFIED, now)
        if account not in self._connected:
            self._connected[account] = tenant
            self._connected_of[tenant] += 1
        if self.failing:
            self._proofs[account] = now

    def failed(self, account: str, tenant: UUID, cause: Cause, now: float) -> bool:
        """The account could not connect or log in, or its connection was lost. Whether that is its own fault:
        the network works for more of the others, or of the other tenants, than it fails for, and not only for
        those who do not try.
        """
        self._attempts.discard(account)
        self._disconnected(account)
        own_fault = self._works_without(tenant) and not self._doubtful and not self.failing
        self._attempts.add(account, tenant, cause, now)
        return own_fault

    def forget(self, account: str) -> None:
        """The account is not to be online, or not here."""
        self._attempts.discard(account)
        self._disconnected(account)

    def judge(self, tallies: Mapping[UUID, Tally], now: float) -> bool:
        """Look at all accounts, by tenant; True when the network began to fail, or to work again."""
        self._tallies = tallies
        self._wanted = sum(tally.wanted for tally in tallies.values())
        self._waiting = sum(tally.waiting for tally in tallies.values())
        self._tenants_waiting = frozenset(tenant for tenant, tally in tallies.items() if tally.waiting)
        self._attempts.discard_until(now - WINDOW)
        if not (self._works_again(now) if self.failing else self._fails()):
            return False
        if self.failing:
            self._attempts.clear()
        else:
            relapse = self.since > 0.0 and now - self.since < RELAPSE
            self._settled = min(2 * self._settled, LONGEST_SETTLED) if relapse else SETTLED
        self._proofs.clear()
        self.failing, self.since = not self.failing, now
        return True

    def _works_without(self, tenant: UUID) -> bool:
        """Whether it works for more accounts than not, or for more tenants, this one left out."""
        bad = max(self._attempts.failures, self._waiting - 1)
        bad_tenants = max(_others(self._attempts.failed, tenant), _others(self._tenants_waiting, tenant))
        return len(self._connected) > bad or _others(self._connected_of, tenant) > bad_tenants

    @property
    def _doubtful(self) -> bool:
        """It fails for many of those that tried, accounts and tenants."""
        failures, failed, tried = self._attempts.failures, self._attempts.failed, self._attempts.tried
        enough = failures >= max(LEAST, FEW * self._wanted)
        return enough and failures >= MANY * len(self._attempts) and len(failed) >= MANY * len(tried)

    def _fails(self) -> bool:
        if self._attempts.failures == 0 or self._wanted == 0:
            return False
        tenants = [tenant for tenant, tally in self._tallies.items() if tally.wanted]
        tried, failed = self._attempts.tried, self._attempts.failed
        of_all = sum(self._fails_for(tenant) for tenant in tenants) >= MOST * len(tenants)
        bad = sum(failures >= MOST * tried[tenant] for tenant, failures in failed.items())
        return of_all or (bad >= max(LEAST, FEW * len(tenants)) and bad >= MOST * len(tried))

    def _fails_for(self, tenant: UUID) -> bool:
        """Whether the tenant's accounts fail alike."""
        failures, wanted = self._attempts.failed[tenant], self._tallies[tenant].wanted
        if not failures:
            return False
        of_tried = failures >= max(LEAST, FEW * wanted) and failures >= MOST * self._attempts.tried[tenant]
        return of_tried or failures >= MOST * wanted

    def _works_again(self, now: float) -> bool:
        if any(now - since >= self._settled for since in self._proofs.values()):
            return True
        return not self._proofs and len(self._connected) >= self._wanted  # nobody is left to try

    def _disconnected(self, account: str) -> None:
        if (tenant := self._connected.pop(account, None)) is not None:
            one_less(self._connected_of, tenant)
        self._proofs.pop(account, None)


def _others(tenants: Collection[UUID], tenant: UUID) -> int:
    """How many of them are not this one."""
    return len(tenants) - (tenant in tenants)
