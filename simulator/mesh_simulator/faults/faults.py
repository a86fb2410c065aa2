"""The kinds of faults, those active now, and what they do to an account."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from mesh_simulator.accounts.account import Effects


class FaultKind(IntEnum):
    """The numbers are those of `FaultKind` in the API."""

    DROP_CONNECTION = 1
    REFUSE_LOGINS = 2
    DELAY_ACKS = 3
    LOSE_ACKS = 4
    STALL = 5
    BAN = 6
    LOG_OUT = 7
    SLOW = 8
    DROP_INBOUND_ACKS = 9
    BANDWIDTH = 10


INSTANT = frozenset({FaultKind.DROP_CONNECTION, FaultKind.BAN, FaultKind.LOG_OUT})
"""Faults that are over as soon as they have happened; the others last."""
ALL_ACCOUNTS = ""
"""The user id of a fault that affects every account, also those made later."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A lasting fault. `amount` is seconds for DELAY_ACKS and SLOW, bytes a second for BANDWIDTH."""

    fault_id: str
    kind: FaultKind
    user_id: str
    """Or ALL_ACCOUNTS."""
    amount: float = 0.0


class ActiveFaults:
    """The lasting faults that were injected and not cleared."""

    def __init__(self) -> None:
        self._faults: dict[str, Fault] = {}

    def add(self, fault: Fault) -> None:
        self._faults[fault.fault_id] = fault

    def remove(self, fault_id: str) -> Fault | None:
        """Remove a fault and return it; None when it has been removed before."""
        return self._faults.pop(fault_id, None)

    def of(self, user_id: str) -> list[Fault]:
        """The faults injected for exactly this account."""
        return [fault for fault in self._faults.values() if fault.user_id == user_id]

    def all(self) -> list[Fault]:
        return list(self._faults.values())

    def effects_on(self, user_id: str) -> Effects | None:
        """What the faults of this account and of all accounts do to it; None when there are none."""
        faults = [fault for fault in self._faults.values() if fault.user_id in (ALL_ACCOUNTS, user_id)]
        if not faults:
            return None
        kinds = {fault.kind for fault in faults}
        bandwidths = [fault.amount for fault in faults if fault.kind is FaultKind.BANDWIDTH]
        return Effects(
            refuse_logins=FaultKind.REFUSE_LOGINS in kinds,
            ack_delay=max((f.amount for f in faults if f.kind is FaultKind.DELAY_ACKS), default=0.0),
            lose_acks=FaultKind.LOSE_ACKS in kinds,
            drop_inbound_acks=FaultKind.DROP_INBOUND_ACKS in kinds,
            stalled=FaultKind.STALL in kinds,
            latency=max((f.amount for f in faults if f.kind is FaultKind.SLOW), default=0.0),
            bandwidth=min(bandwidths, default=0.0),
        )
