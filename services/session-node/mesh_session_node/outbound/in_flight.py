"""What the network has of one account's messages: acknowledged, refused, receipted, or lost with the link.

Everything here is synchronous: it runs in the callback of the link or of the journal.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Protocol

import structlog

from mesh_core.errors import MeshError
from mesh_core.telemetry import tracing
from mesh_session_node.context import metrics
from mesh_session_node.context.context import SessionContext
from mesh_session_node.drivers.interface.content import (
    STATUS,
    Identity,
    OutgoingMessage,
    References,
    audience_of,
)
from mesh_session_node.drivers.interface.outcomes import Failure, MemberReceipts, Receipt
from mesh_session_node.journal import StatusChange
from mesh_session_node.outbound.confirmations import Confirmations
from mesh_session_node.outbound.member_receipts import STATUS_OF
from mesh_session_node.outbound.outgoing import Outgoing
from mesh_session_node.outbound.receipts import LateReceipts, ReceiptAcks
from mesh_session_node.outbound.sent import MAX_DELIVERED, SentCache
from mesh_session_node.outbound.statuses import (
    count_receipt,
    count_status,
    end_unsent,
    status_event,
    trace_receipt,
)
from mesh_session_node.outbound.waiters import Waiters
from sessionmesh.v1 import message_pb2 as pb

logger = structlog.get_logger(__name__)

MAX_IN_FLIGHT = 512
"""Messages of one account that the network may have without having acknowledged them."""
MAX_IN_FLIGHT_BYTES = 2 * 1024 * 1024
"""What is stored of those, in bytes: one more message goes as long as there are fewer."""
MAX_ATTEMPTS = 50
_FAILED_FOR = {
    Failure.UNKNOWN_RECIPIENT: pb.FAILURE_REASON_UNKNOWN_RECIPIENT,
    Failure.NOT_A_MEMBER: pb.FAILURE_REASON_NOT_A_MEMBER,
    Failure.BLOCKED: pb.FAILURE_REASON_BLOCKED,
    Failure.CONTENT: pb.FAILURE_REASON_CONTENT_REFUSED,
    Failure.RATE_LIMITED: pb.FAILURE_REASON_RATE_LIMITED,
    Failure.BLOB_GONE: pb.FAILURE_REASON_MEDIA_UNAVAILABLE,
    Failure.RESTRICTED: pb.FAILURE_REASON_RESTRICTED,
    Failure.WINDOW_CLOSED: pb.FAILURE_REASON_WINDOW_CLOSED,
    Failure.TEMPLATE: pb.FAILURE_REASON_TEMPLATE,
    Failure.FREQUENCY_CAPPED: pb.FAILURE_REASON_FREQUENCY_CAPPED,
    Failure.PAYMENT: pb.FAILURE_REASON_PAYMENT,
    Failure.RECIPIENT_INCAPABLE: pb.FAILURE_REASON_RECIPIENT_INCAPABLE,
}
_RETRYABLE = frozenset({Failure.RATE_LIMITED, Failure.RATCHET, Failure.BLOB_GONE, Failure.NOT_SENT})
_LEAST_PAUSE_SECONDS = 0.5


class Queue(Protocol):
    """Where messages wait that the network does not have."""

    def put_back(self, out: Outgoing) -> None:
        """A message must be sent again; it takes its old place."""

    def pause(self, seconds: float) -> None:
        """Send nothing for `seconds`."""

    def resume(self) -> None:
        """The network has room: send what waits, if anything does."""


class MessagesInFlight:
    """The messages of one account that are with the network, and those that were lately.

    `messages` are those without an acknowledgement, by network id, in the order of sending.
    """

    __slots__ = (
        "_acks",
        "_bytes",
        "_gathering",
        "_late",
        "_members",
        "_queue",
        "_receipts_upto",
        "_waiters",
        "context",
        "messages",
        "sent",
    )

    def __init__(
        self,
        context: SessionContext,
        queue: Queue,
        waiters: Waiters,
        late: LateReceipts,
        acks: ReceiptAcks,
    ) -> None:
        self.context = context
        self.messages: dict[str, Outgoing] = {}
        self.sent = SentCache()
        self._bytes = 0
        self._queue = queue
        self._waiters = waiters
        self._late = late
        self._acks = acks
        self._gathering = acks.gathering
        self._members = Confirmations(context)
        self._receipts_upto = 0

    @property
    def full(self) -> bool:
        """Whether the network has as much without an acknowledgement as it may."""
        return len(self.messages) >= MAX_IN_FLIGHT or self._bytes >= MAX_IN_FLIGHT_BYTES

    def clear(self) -> list[Outgoing]:
        """Take everything out."""
        messages = [*self.messages.values()]
        self.messages.clear()
        self._bytes = 0
        return messages

    def _take(self, network_id: str) -> Outgoing | None:
        out = self.messages.pop(network_id, None)
        if out is not None:
            self._bytes -= out.size
        return out

    def send(self, out: Outgoing) -> None:
        """Hand a message to the network. There must be a link."""
        context = self.context
        if context.link is None:
            raise RuntimeError("there is no connection to send on")
        if tracing.is_sampled(out.traceparent):
            attributes: dict[str, str | int] = {
                "messaging.system": context.driver.name,
                "messaging.operation.type": "send",
                "messaging.message.id": out.id,
                "mesh.account.id": context.id,
                "mesh.attempt": out.attempts + 1,
            }
            out.span = tracing.start_span(
                "mesh.driver.send", kind="producer", parent=out.traceparent, attributes=attributes
            )
        out.handed = time.time()
        if out.attempts:
            metrics.RESENT.inc()
        else:
            metrics.SEND_DELAY.observe(out.handed - out.wanted, out.traceparent)
        try:
            payload, blobs = out.prepared, out.blobs
            if payload is None:
                payload, blobs = context.driver.encode(out.request, _NO_REFERENCES, None)
            out.attempts += 1
            self.messages[out.network_id] = out
            self._bytes += out.size
            traceparent = out.span.traceparent if out.span is not None and out.span.recorded else ""
            audience = audience_of(out.request) if out.chat == STATUS else None
            context.link.send(
                OutgoingMessage(out.network_id, out.chat, payload, blobs, traceparent, audience)
            )
        except Exception as error:  # it was not handed over, and would not be the next time
            self._take(out.network_id)
            _end_span(out, error)
            self._cannot_send(out, error)

    def _cannot_send(self, out: Outgoing, error: Exception) -> None:
        detail = error.message if isinstance(error, MeshError) else "the driver cannot send it"
        logger.error("a message cannot be sent", message_id=out.id, exc_info=error)
        reason = pb.FAILURE_REASON_CONTENT_REFUSED
        end_unsent(self.context, self._waiters, out, pb.MESSAGE_STATUS_FAILED, reason, detail)

    def on_ack(self, network_id: str, micros: int, recipient: Identity | None = None) -> None:
        """The network has it, since microseconds since the epoch; `recipient` is who it went to."""
        out = self._take(network_id)
        if out is None:
            return
        context = self.context
        if recipient is not None:
            context.people.learn(out.chat, recipient)
            out.event_base = None  # which lacks what was just learnt
        context.counters.sent += 1
        context.used.messages_sent += 1
        context.risk.sent(out.chat, time.time())
        count_status(out, pb.MESSAGE_STATUS_SENT)
        metrics.ACK_DURATION.observe(time.time() - out.handed, out.traceparent)
        _end_span(out)
        event = status_event(context, out, pb.MESSAGE_STATUS_SENT, micros)
        if out.poll is not None:
            context.host.voted(context, out.poll, [*out.request.content.poll_vote.answers], micros)
        out.release_payload()
        change = StatusChange(out.uuid, pb.MESSAGE_STATUS_SENT, micros, event)
        context.host.journal.post(context.ref, change, *context.people.news)
        context.people.stored()
        self.sent.add(out, time.monotonic())
        self._waiters.tell(out.uuid, None)
        self._queue.resume()

    def on_reject(
        self,
        network_id: str,
        failure: Failure,
        detail: str,
        retry_after: float,
        code: int | None = None,
    ) -> None:
        """The network does not take it, or not now; `retry_after` is in seconds, `code` the network's."""
        out = self._take(network_id)
        if out is None:
            return
        _end_span(out, detail)
        out.attempts += 1
        if failure not in _RETRYABLE or out.attempts >= MAX_ATTEMPTS:
            reason = _FAILED_FOR.get(failure, pb.FAILURE_REASON_REFUSED)
            end_unsent(self.context, self._waiters, out, pb.MESSAGE_STATUS_FAILED, reason, detail, code)
        else:
            if failure is Failure.RATCHET:
                self._skip()
            elif failure is Failure.BLOB_GONE:
                out.prepared = None
            else:
                self._queue.pause(max(retry_after, _LEAST_PAUSE_SECONDS))
            self._queue.put_back(out)
        self._queue.resume()

    def _skip(self) -> None:
        state = self.context.driver_state
        if state is not None and state.ratchet is not None:
            state.ratchet.skip()

    def on_receipt(self, network_id: str, receipt: Receipt, micros: int, sequence: int) -> None:
        """What became of it in a chat of two. `sequence` counts the receipts that the network wants to be
        acknowledged.
        """
        if self.context.closed:  # whoever has the account now is told again
            return
        out = self._sent(network_id, micros)
        if out is None:
            self._late.add(self, network_id, receipt, micros)
        else:
            sent = self.sent
            if receipt is not Receipt.DELIVERED or len(sent) > MAX_DELIVERED:
                sent.remove(network_id)
            self.receipted(out, receipt, micros)
        self._numbered(sequence)

    def on_member_receipts(self, told: MemberReceipts, sequence: int) -> None:
        """What became of it at members of a group, or at those who see a post; `sequence` as above."""
        if self.context.closed or not told.members:
            return
        self._members.learn(told.identities)
        heard = self._gathering.find(self, told.network_id)
        if heard is None:
            out = self._sent(told.network_id, told.times[0])
            if out is not None and not out.heard:
                out.heard = True
                heard = self._gathering.begin(self, out)
        if heard is None:
            self._late.add(self, told.network_id, told.receipt, told.times[0], told)
        else:
            self._gathering.take(self, heard, STATUS_OF[told.receipt], told.members, told.times)
        self._numbered(sequence)

    def _sent(self, network_id: str, micros: int) -> Outgoing | None:
        """A message that was sent lately."""
        out = self.sent.find(network_id)
        if out is None and network_id in self.messages:  # its acknowledgement is lost
            self.on_ack(network_id, micros)
            out = self.sent.find(network_id)
        return out

    def _numbered(self, sequence: int) -> None:
        if sequence > self._receipts_upto:
            self._receipts_upto = sequence
            self._acks.posted(self.context, sequence)

    def receipted(self, out: Outgoing, receipt: Receipt, micros: int, *, late: bool = False) -> None:
        """Store a receipt of a known message. A `late` one may have been stored before."""
        context, status = self.context, STATUS_OF[receipt]
        if status <= out.receipted:
            return  # it was offered again
        out.receipted = status
        count_receipt(out, status)
        trace_receipt(out, receipt.name)
        event = status_event(context, out, status, micros)
        change = StatusChange(out.uuid, status, micros, event, again=late)
        context.host.journal.post(context.ref, change)

    def receipted_by(
        self, out: Outgoing, told: MemberReceipts, stored: Sequence[tuple[int, Sequence[str]]]
    ) -> None:
        """The same for members of a group; `stored` says who of them is known to have which status."""
        heard = self._gathering.find(self, out.network_id)
        if heard is None:
            heard = self._gathering.begin(self, out)
            for status, members in stored:
                heard.stored(status, members)
            self._gathering.counted(heard)
        self._gathering.take(self, heard, STATUS_OF[told.receipt], told.members, told.times)

    def confirmed(self, out: Outgoing, held: Mapping[int, Mapping[str, int]]) -> None:
        """Store and tell, by status and member, since when each has a message."""
        self._members.store(out, held)

    def close(self) -> None:
        """Post what is held of receipts: somebody else has the account from now on."""
        self._gathering.close(self)

    def link_gone(self) -> None:
        """What the network has not acknowledged is sent again after the next login, under the same ids."""
        for out in self.clear():
            _end_span(out, "connection lost")
            self._queue.put_back(out)


def _end_span(out: Outgoing, problem: Exception | str = "") -> None:
    if out.span is not None:
        if problem:
            out.span.fail(problem)
        out.span.end()
        out.span = None


_NO_REFERENCES = References()
