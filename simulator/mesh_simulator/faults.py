"""Faults: what the network does wrong on purpose, for one account or for all."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from mesh_simulator.account import Account


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


AT_ONCE = frozenset({FaultKind.DROP_CONNECTION, FaultKind.BAN, FaultKind.LOG_OUT})
"""Faults that happen and are over; the others last."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A lasting fault. `amount` is seconds for DELAY_ACKS and SLOW, bytes a second for BANDWIDTH."""

    fault_id: str
    kind: FaultKind
    user_id: str
    """Empty: every account, also those that come later."""
    amount: float = 0.0


@dataclass(frozen=True, slots=True)
class Effects:
    """What the present faults mean for one account."""

    refuse_logins: bool = False
    ack_delay: float = 0.0
    lose_acks: bool = False
    drop_inbound_acks: bool = False
    stalled: bool = False
    latency: float = 0.0
    """Seconds that everything sent to the client is late."""
    bandwidth: float = 0.0
    """Bytes a second, each way; 0: unlimited."""

    @property
    def shapes_traffic(self) -> bool:
        return self.stalled or self.latency > 0 or self.bandwidth > 0


class Faults:
    """The lasting faults of the moment."""

    def __init__(self) -> None:
        self._faults: dict[str, Fault] = {}

    def add(self, fault: Fault) -> None:
        self._faults[fault.fault_id] = fault

    def remove(self, fault_id: str) -> Fault | None:
        """Takes one away; None when it is gone already."""
        return self._faults.pop(fault_id, None)

    def matching(self, user_id: str) -> list[Fault]:
        """The faults injected for exactly this account; with an empty id all of all accounts."""
        return [fault for fault in self._faults.values() if not user_id or fault.user_id == user_id]

    def effects_on(self, account: Account) -> Effects | None:
        """None when nothing is wrong: the path of almost every message."""
        faults = [fault for fault in self._faults.values() if fault.user_id in ("", account.user_id)]
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
