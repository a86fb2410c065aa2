"""How long each account was without a connection, as the simulated network saw it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from bench.mesh.window import Window, monotonic_of
from sessionmesh.simulator.v1 import simulator_pb2

KINDS = {
    simulator_pb2.LEDGER_KIND_ACCOUNT,
    simulator_pb2.LEDGER_KIND_LOGIN,
    simulator_pb2.LEDGER_KIND_REPLACED,
    simulator_pb2.LEDGER_KIND_CLOSED,
}
"""What `Connections` looks at."""


@dataclass(frozen=True, slots=True)
class Connection:
    """One connection of an account from its login to its end, by CLOCK_MONOTONIC; `ended` 0: it lives."""

    login: float
    ended: float
    replaced: bool


@dataclass(frozen=True, slots=True)
class Gap:
    """An account without a connection: from the end of one, to the login of the next."""

    phone: str
    ended: float
    login: float

    @property
    def seconds(self) -> float:
        return max(0.0, self.login - self.ended)


class Connections:
    """Of every account, by its phone number, in the order of their logins."""

    def __init__(self, records: Iterable[simulator_pb2.LedgerRecord]) -> None:
        phones: dict[str, str] = {}
        self._logins: defaultdict[str, list[tuple[int, float]]] = defaultdict(list)
        self._ends: dict[int, tuple[float, bool]] = {}
        for record in records:
            time = monotonic_of(record.time.ToNanoseconds())
            if record.kind == simulator_pb2.LEDGER_KIND_ACCOUNT:
                phones[record.id] = record.peer
            elif record.kind == simulator_pb2.LEDGER_KIND_LOGIN:
                self._logins[phones[record.account]].append((record.connection, time))
            else:  # a connection that is replaced is closed a little later
                replaced = record.kind == simulator_pb2.LEDGER_KIND_REPLACED
                self._ends.setdefault(record.connection, (time, replaced))

    def of(self, phone: str) -> list[Connection]:
        """The account's."""
        return [
            Connection(login, *self._ends.get(number, (0.0, False))) for number, login in self._logins[phone]
        ]

    def first_login(self, phone: str, after: float) -> float | None:
        """When the account logged in next."""
        return next((login for _, login in self._logins[phone] if login >= after), None)

    def gaps(self, window: Window) -> list[Gap]:
        """Every gap that ended with a login in the window."""
        return [
            Gap(phone, before.ended, after.login)
            for phone in self._logins
            for before, after in pairwise(self.of(phone))
            if window.holds(after.login)
        ]

    def ended(self, window: Window) -> int:
        """How many connections ended then."""
        return sum(window.holds(time) for time, _ in self._ends.values())

    def logins(self, window: Window) -> int:
        """How many logins there were then."""
        return sum(window.holds(login) for logins in self._logins.values() for _, login in logins)
