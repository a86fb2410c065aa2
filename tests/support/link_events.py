"""Who listens to a link in tests of drivers: it remembers what it was told."""

from __future__ import annotations

from dataclasses import dataclass

from mesh_session_node.drivers.interface.content import Incoming
from mesh_session_node.drivers.interface.driver import Link
from mesh_session_node.drivers.interface.outcomes import End, Failure, Receipt


@dataclass(frozen=True, slots=True)
class Rejected:
    network_id: str
    failure: Failure
    retry_after: float


@dataclass(frozen=True, slots=True)
class Receipted:
    network_id: str
    receipt: Receipt
    member: str
    sequence: int


class RecordedEvents:
    """Implements `LinkEvents`. `allowed` is what `permitted` answers; `asked` counts how often it did."""

    def __init__(self) -> None:
        self.allowed = True
        self.asked = 0
        self.acks: list[str] = []
        self.rejects: list[Rejected] = []
        self.receipts: list[Receipted] = []
        self.incoming: list[Incoming] = []
        self.ends: list[End] = []
        self.times: list[int] = []
        """Of acknowledgements and receipts, in microseconds since the epoch."""

    def permitted(self) -> bool:
        self.asked += 1
        return self.allowed

    def on_ack(self, network_id: str, time: int) -> None:
        self.acks.append(network_id)
        self.times.append(time)

    def on_reject(self, network_id: str, failure: Failure, _detail: str, retry_after: float) -> None:
        self.rejects.append(Rejected(network_id, failure, retry_after))

    def on_receipt(self, network_id: str, receipt: Receipt, time: int, member: str, sequence: int) -> None:
        self.receipts.append(Receipted(network_id, receipt, member, sequence))
        self.times.append(time)

    def on_incoming(self, message: Incoming) -> None:
        self.incoming.append(message)

    def on_end(self, _link: Link, end: End, _detail: str) -> None:
        self.ends.append(end)
