"""How long each connection of an account lived, as the simulated network saw it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from mesh_simulator.ledger.records import Kind, Record, read_ledger

ENDS = (Kind.CLOSED, Kind.REPLACED)


class Logins:
    """Logins of each account, by its phone number's digits, until one moment.

    A session that stays has no new one: `later - earlier` counts the connections made anew in between.
    """

    def __init__(self, records: Iterable[Record]) -> None:
        self.counts: Counter[str] = Counter()
        self.live: dict[str, int] = {}
        self.ended: dict[int, Kind] = {}
        """How each connection ended: closed by its node, or replaced by a new login."""
        for record in records:
            if record.kind is Kind.LOGIN:
                self.counts[record.account] += 1
                self.live[record.account] = record.connection
            elif record.kind in ENDS:
                self.ended.setdefault(record.connection, record.kind)
                if self.live.get(record.account) == record.connection:
                    del self.live[record.account]

    def __sub__(self, earlier: Logins) -> dict[str, int]:
        return {
            account: count - earlier.counts[account]
            for account, count in self.counts.items()
            if count > earlier.counts[account]
        }


def read_logins(state: Path) -> Logins:
    """From the ledger of the simulator whose state folder is `state`."""
    with (state / "ledger.bin").open("rb") as file:
        return Logins(read_ledger(file))
