"""Whether a network fails for most sessions of this node, or only for some that have themselves to blame."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from mesh_session_node.account.state import Cause
from sessionmesh.v1 import session_pb2 as pb

WINDOW = 60.0
"""Attempts older than this, in seconds, say nothing of the present."""
MOST, MANY = 0.8, 1 / 3
"""Shares of the accounts that tried: from the one on the network fails, from the other on it may."""
FEW, LEAST = 0.05, 5
"""Share, and number, of all accounts that must have failed where the others did not try."""
SETTLED, LONGEST_SETTLED = 2.0, 30.0
"""Seconds that a connection must stand before the network counts as working again: twice as long each time
that it had not worked for long.
"""
RELAPSE = 600.0
"""A network that fails again within so many seconds had not worked for long."""


@dataclass(frozen=True, slots=True)
class Tally:
    """How many accounts of a network are to be online on this node, and how many of them wait after a
    failure. Those in quarantine are not counted.
    """

    wanted: int
    waiting: int


@dataclass(frozen=True, slots=True)
class _Attempt:
    time: float
    cause: Cause
    """UNSPECIFIED: it succeeded."""


class NetworkHealth:
    """Judges one network by the latest attempt of each account. Times are monotonic seconds.

    The network fails when 80 % of all accounts that are to be online failed within a minute; or when 80 % of
    those that tried did, and these are 5 accounts, and 5 % of all, at least: the others may have connections
    from before. It works again when an account that has logged in since keeps its connection for 2 s.
    """

    def __init__(self) -> None:
        self.failing = False
        self.since = 0.0
        """When it began to fail, or to work again; 0 when it never failed."""
        self._attempts: dict[str, _Attempt] = {}  # the earliest first
        self._failures = 0
        """How many of them failed."""
        self._connected: set[str] = set()
        self._proofs: dict[str, float] = {}
        """The accounts that are connected since the network fails, and since when."""
        self._settled = SETTLED
        self._tally = Tally(0, 0)

    @property
    def in_question(self) -> bool:
        """It must be judged soon: it fails, or somebody failed lately."""
        return self.failing or self._failures > 0

    @property
    def cause(self) -> Cause:
        """What most of the latest failures were; UNSPECIFIED when there are none."""
        causes = Counter(attempt.cause for attempt in self._attempts.values() if attempt.cause)
        return causes.most_common(1)[0][0] if causes else pb.SESSION_CAUSE_UNSPECIFIED

    def succeeded(self, account: str, now: float) -> None:
        """The account has logged in."""
        self._forget_attempt(account)
        self._attempts[account] = _Attempt(now, pb.SESSION_CAUSE_UNSPECIFIED)
        self._connected.add(account)
        if self.failing:
            self._proofs[account] = now

    def failed(self, account: str, cause: Cause, now: float) -> bool:
        """The account could not connect or log in, or its connection was lost. Whether that is its own fault:
        the network works for more of the others than it fails for, and not only for those who do not try.
        """
        self._forget_attempt(account)
        self._disconnected(account)
        tried, failed = len(self._attempts), self._failures
        self._attempts[account] = _Attempt(now, cause)
        self._failures += 1
        doubtful = failed >= self._enough and failed >= MANY * tried
        works = len(self._connected) > max(failed, self._tally.waiting - 1)
        return works and not doubtful and not self.failing

    def forget(self, account: str) -> None:
        """The account is not to be online, or not here."""
        self._forget_attempt(account)
        self._disconnected(account)

    def judge(self, tally: Tally, now: float) -> bool:
        """Look at all accounts; True when the network began to fail, or to work again."""
        self._tally = tally
        for account, attempt in [*self._attempts.items()]:
            if now - attempt.time < WINDOW:
                break
            self._forget_attempt(account)
        if not (self._works_again(now) if self.failing else self._fails()):
            return False
        if self.failing:
            self._attempts.clear()
            self._failures = 0
        else:
            relapse = self.since > 0.0 and now - self.since < RELAPSE
            self._settled = min(2 * self._settled, LONGEST_SETTLED) if relapse else SETTLED
        self._proofs.clear()
        self.failing, self.since = not self.failing, now
        return True

    @property
    def _enough(self) -> float:
        return max(LEAST, FEW * self._tally.wanted)

    def _fails(self) -> bool:
        if self._failures == 0 or self._tally.wanted == 0:
            return False
        of_all = self._failures >= MOST * self._tally.wanted
        of_tried = self._failures >= self._enough and self._failures >= MOST * len(self._attempts)
        return of_all or of_tried

    def _works_again(self, now: float) -> bool:
        if any(now - since >= self._settled for since in self._proofs.values()):
            return True
        return not self._proofs and len(self._connected) >= self._tally.wanted  # nobody is left to try

    def _forget_attempt(self, account: str) -> None:
        attempt = self._attempts.pop(account, None)
        self._failures -= attempt is not None and bool(attempt.cause)

    def _disconnected(self, account: str) -> None:
        self._connected.discard(account)
        self._proofs.pop(account, None)
