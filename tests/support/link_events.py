"""Who listens to a link in tests of drivers: it remembers what it was told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mesh_session_node.drivers.interface.content import Identity, Incoming, OutgoingMessage
from mesh_session_node.drivers.interface.driver import Link
from mesh_session_node.drivers.interface.notices import Notice
from mesh_session_node.drivers.interface.outcomes import End, Failure, MemberReceipts, Receipt
from mesh_session_node.drivers.interface.state import StateUnavailable
from sessionmesh.v1 import session_pb2


@dataclass(frozen=True, slots=True)
class Rejected:
    network_id: str
    failure: Failure
    retry_after: float
    code: int | None = None


@dataclass(frozen=True, slots=True)
class Receipted:
    network_id: str
    receipt: Receipt
    member: str
    sequence: int
    identity: Identity | None = None


class RecordedEvents:
    """Implements `LinkEvents`. `allowed` is what `permitted` answers; `asked` counts how often it did."""

    def __init__(self) -> None:
        self.allowed = True
        self.asked = 0
        self.acks: list[str] = []
        self.recipients: list[Identity | None] = []
        """Who the messages of `acks` went to, where the network said so."""
        self.rejects: list[Rejected] = []
        self.receipts: list[Receipted] = []
        self.incoming: list[Incoming] = []
        self.notices: list[Notice] = []
        self.sequences: list[int] = []
        """Of the notices."""
        self.ends: list[End] = []
        self.openings: list[Link] = []
        self.messages: dict[str, OutgoingMessage] = {}
        """What the account has sent before."""
        self.unavailable = False
        """While set, none of them can be read."""
        self.times: list[int] = []
        """Of acknowledgements and receipts, in microseconds since the epoch."""

    def permitted(self) -> bool:
        self.asked += 1
        return self.allowed

    async def sent(self, network_id: str) -> OutgoingMessage | None:
        if self.unavailable:
            raise StateUnavailable("no database")
        return self.messages.get(network_id)

    def on_opening(self, link: Link) -> None:
        self.openings.append(link)

    def on_ack(self, network_id: str, time: int, recipient: Identity | None = None) -> None:
        self.acks.append(network_id)
        self.recipients.append(recipient)
        self.times.append(time)

    def on_reject(
        self,
        network_id: str,
        failure: Failure,
        _detail: str,
        retry_after: float,
        code: int | None = None,
    ) -> None:
        self.rejects.append(Rejected(network_id, failure, retry_after, code))

    def on_receipt(self, network_id: str, receipt: Receipt, time: int, sequence: int) -> None:
        self.receipts.append(Receipted(network_id, receipt, "", sequence))
        self.times.append(time)

    def on_member_receipts(self, told: MemberReceipts, sequence: int) -> None:
        for member in told.members:
            identity = told.identities.get(member)
            self.receipts.append(Receipted(told.network_id, told.receipt, member, sequence, identity))
        self.times += told.times

    def on_restrictions(self, _restrictions: Sequence[session_pb2.Restriction]) -> None:
        """Nothing here is about them."""

    def on_notice(self, notice: Notice, sequence: int) -> None:
        self.notices.append(notice)
        self.sequences.append(sequence)

    def on_incoming(self, message: Incoming) -> None:
        self.incoming.append(message)

    def on_end(self, _link: Link, end: End, _detail: str) -> None:
        self.ends.append(end)
