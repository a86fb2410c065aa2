"""One account's way out: accepted, committed, handed to the network, acknowledged, receipted.

Everything here is synchronous: decided in the callback that brought the news.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from functools import partial
from random import uniform
from typing import TYPE_CHECKING

import structlog

from mesh_core.errors import FailedPrecondition, ResourceExhausted, Unavailable
from mesh_core.telemetry import tracing
from mesh_session_node import metrics
from mesh_session_node.drivers.interface.content import Context, OutgoingMessage
from mesh_session_node.drivers.interface.driver import Reservation
from mesh_session_node.drivers.interface.outcomes import Failure, Receipt
from mesh_session_node.journal import (
    Committed,
    Credential,
    Duplicate,
    MemberReceipt,
    Mismatch,
    Outcome,
    StatusChange,
)
from mesh_session_node.session.limits import Limiter, SendLimits
from mesh_session_node.session.outbox import Outbox
from mesh_session_node.session.outgoing import AcceptedRow, Outgoing
from mesh_session_node.session.waiters import Waiters
from sessionmesh.v1 import message_pb2 as pb

if TYPE_CHECKING:
    from mesh_session_node.session.session import Session

logger = structlog.get_logger(__name__)

WINDOW = 512
"""Messages of one account that the network may have without having acknowledged them."""
REMEMBERED = 20.0
"""Seconds for which an acknowledged message waits in memory for its receipts; later ones cost a query."""
REMEMBERED_AT_ONCE = 32
"""Delivered messages of one account that wait so for being read."""
MOST_ATTEMPTS = 50

STATUS_OF = {
    Receipt.DELIVERED: pb.MESSAGE_STATUS_DELIVERED,
    Receipt.READ: pb.MESSAGE_STATUS_READ,
    Receipt.PLAYED: pb.MESSAGE_STATUS_PLAYED,
}
_FAILED_FOR = {
    Failure.UNKNOWN_RECIPIENT: pb.FAILURE_REASON_UNKNOWN_RECIPIENT,
    Failure.NOT_A_MEMBER: pb.FAILURE_REASON_NOT_A_MEMBER,
    Failure.CONTENT: pb.FAILURE_REASON_CONTENT_REFUSED,
    Failure.RATE_LIMITED: pb.FAILURE_REASON_RATE_LIMITED,
    Failure.BLOB_GONE: pb.FAILURE_REASON_MEDIA_UNAVAILABLE,
}
_WORTH_ANOTHER = frozenset({Failure.RATE_LIMITED, Failure.RATCHET, Failure.BLOB_GONE})
_SIMPLE = frozenset({"text", "location", "contacts", "poll", "buttons", "list", "template"})


class Sender:
    """The outbox of one account, and what of it is with the network."""

    __slots__ = (
        "_limiter",
        "_reserving",
        "_resume_at",
        "_sent",
        "_session",
        "_timer",
        "accepting",
        "inflight",
        "outbox",
        "waiters",
    )

    def __init__(self, session: Session, limits: SendLimits) -> None:
        self._session = session
        self._limiter = Limiter(limits)
        self.outbox = Outbox()
        self.accepting = 0
        """Messages that wait for their commit."""
        self.inflight: dict[str, Outgoing] = {}
        """With the network, not acknowledged, by network id, in the order of sending."""
        self._sent: dict[str, tuple[float, Outgoing]] | None = None
        self.waiters = Waiters()
        self._timer: asyncio.TimerHandle | None = None
        self._resume_at = 0.0
        self._reserving = False

    @property
    def queued(self) -> int:
        """Messages that wait."""
        return len(self.outbox) + len(self.inflight)

    def set_limits(self, limits: SendLimits) -> None:
        """From now on."""
        self._limiter.limits = limits

    def recall(self, count: int, age: float) -> None:
        """Count messages that another node sent `age` seconds ago."""
        self._limiter.recall(time.monotonic(), count, age)

    def check_room(self) -> None:
        """Raise `ResourceExhausted` when the outbox is full."""
        if self.queued + self.accepting >= self._limiter.limits.outbox:
            wait = max(1.0, self._limiter.wait(time.monotonic()))
            raise ResourceExhausted(
                "the account's outbox is full", "OUTBOX_FULL", quota="outbox", retry_after=wait
            )

    def accept(
        self, out: Outgoing, method: int, request_id: str, digest: bytes, content: bytes, now: float
    ) -> asyncio.Future[Outcome]:
        """Put the message into the open batch. The driver's state that it needs rides along, so that sending
        it never waits for a commit of its own.
        """
        session = self._session
        state = session.driver_state
        if state is None:
            raise FailedPrecondition("the account is not paired", "NOT_PAIRED")
        reservation = out.reservation = state.plan()
        row = AcceptedRow(
            id=out.uuid,
            request_id=request_id,
            digest=digest,
            chat=out.chat,
            content=content,
            event=session.events.status(out, pb.MESSAGE_STATUS_QUEUED, int(now * 1e6)),
            method=method,
            network_id=out.network_id,
            traceparent=out.traceparent,
            priority=out.order,
            due_at=None if out.due is None else int(out.due * 1e6),
            state=None if reservation is None else session.seal(reservation.state),
            out=out,
        )
        try:
            done = session.host.journal.accept(session.ref, row)
        except Unavailable:
            if reservation is not None:
                state.drop(reservation)
            raise
        self.accepting += 1
        done.add_done_callback(self._settled)
        if reservation is not None:
            done.add_done_callback(partial(self._reserved, reservation))
        return done

    def committed(self, out: Outgoing) -> None:
        """It is stored: send it, now when nothing stands before it."""
        metrics.ACCEPTED.inc()
        if out.reservation is not None and (state := self._session.driver_state) is not None:
            state.confirm(out.reservation)
        if self._session.driver_state is None:
            self._end(
                out, pb.MESSAGE_STATUS_FAILED, pb.FAILURE_REASON_ACCOUNT_CLOSED, "the pairing has ended"
            )
            return
        if (
            not self.outbox
            and not self.outbox.holding
            and out.due is None
            and self._may_send()
            and self._simple(out)
            and self._limiter.take(time.monotonic())
        ):
            self._hand_over(out)
            return
        self.outbox.push(out, time.time())
        self.pump()

    def restore(self, messages: Sequence[Outgoing]) -> None:
        """Take over what another node, or an earlier process, left in the outbox."""
        now = time.time()
        for message in messages:
            self.outbox.push(message, now)

    def pump(self) -> None:
        """Send what may be sent, and see to it that the rest is looked at in time."""
        if self._session.closed:
            return
        now = time.time()
        while self._may_send():
            out = self.outbox.pop(now)
            if out is None:
                break
            if out.expire is not None and out.expire <= now:
                self._end(out, pb.MESSAGE_STATUS_EXPIRED)
            elif out.prepared is None and not self._simple(out):
                self._prepare(out)
            elif not self._limiter.take(time.monotonic()):
                self.outbox.push(out, now)
                break
            else:
                self._hand_over(out)
                if jitter := self._session.host.settings.jitter_seconds:
                    self._resume_at = time.monotonic() + uniform(0.0, jitter)  # noqa: S311 - looks less like a machine
        self._set_timer(now)

    def link_gone(self) -> None:
        """What the network has not acknowledged is sent again after the next login, under the same ids."""
        now = time.time()
        for out in self.inflight.values():
            self._end_span(out, "connection lost")
            self.outbox.push(out, now)
        self.inflight.clear()
        self._cancel_timer()

    def drop(self) -> None:
        """The account is not this node's any more: forget everything."""
        self._cancel_timer()
        self.inflight.clear()
        self.outbox.clear()
        self.waiters.drop(self._session.ref.shard)

    def fail_all(self, reason: pb.FailureReason.ValueType, detail: str) -> None:
        """The pairing has ended: nothing will be sent."""
        for out in [*self.inflight.values(), *self.outbox.clear()]:
            self._end(out, pb.MESSAGE_STATUS_FAILED, reason, detail)
        self.inflight.clear()

    def expire(self, now: float) -> None:
        """End what may no longer be sent."""
        for out in self.outbox.take_expired(now):
            self._end(out, pb.MESSAGE_STATUS_EXPIRED)

    def forget_sent(self, now: float) -> None:
        """Make room: receipts that come later are looked up."""
        sent = self._sent
        while sent:
            network_id = next(iter(sent))
            if now - sent[network_id][0] < REMEMBERED:
                return
            del sent[network_id]
        self._sent = None

    def on_ack(self, network_id: str, micros: int) -> None:
        """The network has it."""
        out = self.inflight.pop(network_id, None)
        if out is None:
            return
        session = self._session
        session.counters.sent += 1
        metrics.SENT.inc()
        self._end_span(out)
        event = session.events.status(out, pb.MESSAGE_STATUS_SENT, micros)
        out.spend()
        session.host.journal.post(session.ref, StatusChange(out.uuid, pb.MESSAGE_STATUS_SENT, micros, event))
        if self._sent is None:
            self._sent = {}
        self._sent[network_id] = (time.monotonic(), out)
        self.waiters.tell(out.uuid, None)
        if self.outbox:
            self.pump()

    def on_reject(self, network_id: str, failure: Failure, detail: str, retry_after: float) -> None:
        """The network does not take it, or not now."""
        out = self.inflight.pop(network_id, None)
        if out is None:
            return
        self._end_span(out, detail)
        out.attempts += 1
        if failure not in _WORTH_ANOTHER or out.attempts >= MOST_ATTEMPTS:
            reason = _FAILED_FOR.get(failure, pb.FAILURE_REASON_REFUSED)
            self._end(out, pb.MESSAGE_STATUS_FAILED, reason, detail)
        else:
            if failure is Failure.RATCHET and (state := self._session.driver_state) is not None:
                state.skip()
            elif failure is Failure.BLOB_GONE:
                out.prepared = None
            else:
                self._resume_at = max(self._resume_at, time.monotonic() + max(retry_after, 0.5))
            self.outbox.push(out, time.time())
        self.pump()

    def on_receipt(self, network_id: str, receipt: Receipt, micros: int, member: str) -> None:
        """What became of it."""
        found = self._sent.get(network_id) if self._sent is not None else None
        if found is None:
            if network_id in self.inflight:  # its acknowledgement is lost
                self.on_ack(network_id, micros)
                found = self._sent.get(network_id) if self._sent is not None else None
            if found is None:
                self._session.host.late_receipt(self._session, network_id, receipt, micros, member)
                return
        done = receipt is not Receipt.DELIVERED or len(self._sent or ()) > REMEMBERED_AT_ONCE
        if done and not member and self._sent is not None:
            del self._sent[network_id]
        self.receipted(found[1], receipt, micros, member)

    def receipted(self, out: Outgoing, receipt: Receipt, micros: int, member: str) -> None:
        """Store a receipt of a known message."""
        session, status = self._session, STATUS_OF[receipt]
        if receipt is Receipt.DELIVERED:
            metrics.DELIVERED.inc()
        if tracing.is_sampled(out.traceparent):
            attributes = {"messaging.message.id": out.id, "mesh.receipt": receipt.name}
            tracing.start_span(
                "mesh.driver.receipt", kind="consumer", parent=out.traceparent, attributes=attributes
            ).end()
        event = session.events.status(out, status, micros, member=member)
        if not member:
            session.host.journal.post(session.ref, StatusChange(out.uuid, status, micros, event))
            return
        session.host.journal.post(
            session.ref,
            MemberReceipt(out.uuid, member, status, micros),
            StatusChange(out.uuid, status, micros),
            event,
        )

    def _may_send(self) -> bool:
        session = self._session
        state = session.driver_state
        if session.link is None or state is None or len(self.inflight) >= WINDOW:
            return False
        if self._resume_at and time.monotonic() < self._resume_at:
            return False
        if state.left <= 0:
            self._reserve()
            return False
        return session.host.may_act(session)

    def _hand_over(self, out: Outgoing) -> None:
        session = self._session
        if session.link is None:
            raise RuntimeError("there is no connection to send on")
        if tracing.is_sampled(out.traceparent):
            attributes: dict[str, str | int] = {
                "messaging.message.id": out.id,
                "mesh.account.id": session.id,
                "mesh.attempt": out.attempts,
            }
            out.span = tracing.start_span(
                "mesh.driver.send", kind="producer", parent=out.traceparent, attributes=attributes
            )
        payload, blobs = out.prepared, out.blobs
        if payload is None:
            payload, blobs = session.driver.encode(out.request, _NO_CONTEXT, None)
        if out.attempts:
            metrics.RESENT.inc()
        out.attempts += 1
        self.inflight[out.network_id] = out
        session.link.send(OutgoingMessage(out.network_id, out.chat, payload, blobs))

    def _simple(self, out: Outgoing) -> bool:
        """Whether the request says all that the driver needs."""
        request = out.request
        options = request.options
        return request.content.WhichOneof("kind") in _SIMPLE and not options.reply_to_message_id

    def _prepare(self, out: Outgoing) -> None:
        self.outbox.hold(out.chat)
        self._session.host.spawn(f"prepare {out.id}", self._prepared(out))

    async def _prepared(self, out: Outgoing) -> None:
        """Its chat waits until the message is ready, the account's other chats go on."""
        session = self._session
        self.accepting += 1  # it is in neither place meanwhile, and still counts
        failure: tuple[pb.FailureReason.ValueType, str] | None = None
        try:
            done = await session.host.prepare(session, out)
            out.prepared, out.blobs = done.payload, done.blobs
        except CannotPrepare as error:
            if error.final:
                failure = (error.reason, str(error))
            else:
                await asyncio.sleep(_PREPARE_AGAIN)
        finally:
            if not session.closed:
                now = time.time()
                self.accepting -= 1
                if failure is not None:
                    self._end(out, pb.MESSAGE_STATUS_FAILED, *failure)
                elif session.driver_state is not None:
                    self.outbox.push(out, now)
                self.outbox.unhold(out.chat, now)
                self.pump()

    def _end(
        self,
        out: Outgoing,
        status: pb.MessageStatus.ValueType,
        failure: pb.FailureReason.ValueType = pb.FAILURE_REASON_UNSPECIFIED,
        detail: str = "",
    ) -> None:
        session, micros = self._session, time.time_ns() // 1000
        if status == pb.MESSAGE_STATUS_FAILED:
            session.counters.failed += 1
        metrics.FAILED.labels(
            pb.FailureReason.Name(failure).removeprefix("FAILURE_REASON_") if failure else "EXPIRED"
        ).inc()
        event = session.events.status(out, status, micros, failure=failure, detail=detail)
        change = StatusChange(out.uuid, status, micros, event, failure or None, detail or None)
        session.host.journal.post(session.ref, change)
        self.waiters.tell(out.uuid, out)

    def _reserve(self) -> None:
        """Everything stored of the driver's state is used up: store more, then go on."""
        session = self._session
        if self._reserving or session.driver_state is None or not (self.outbox or self.accepting):
            return
        self._reserving = True
        reservation = session.driver_state.reserve(len(self.outbox))
        try:
            done = session.host.journal.write(session.ref, Credential(session.seal(reservation.state)))
        except Unavailable:  # too much waits for the database: the next tick pumps again
            self._reserving = False
            session.driver_state.drop(reservation)
            return
        done.add_done_callback(partial(self._reserved_more, reservation))

    def _reserved_more(self, reservation: Reservation, done: asyncio.Future[Outcome]) -> None:
        self._reserving = False
        self._reserved(reservation, done)
        if isinstance(_outcome(done), Committed):
            self.pump()

    def _reserved(self, reservation: Reservation, done: asyncio.Future[Outcome]) -> None:
        state = self._session.driver_state
        if state is None:
            return
        # A repeated request stores no message, but the state that came with it
        if isinstance(_outcome(done), Committed | Duplicate | Mismatch):
            state.confirm(reservation)
        else:
            state.drop(reservation)

    def _settled(self, _done: asyncio.Future[Outcome]) -> None:
        self.accepting -= 1

    def _set_timer(self, now: float) -> None:
        """Look again when a scheduled message is due, or the limits allow more."""
        if not self.outbox or self._session.link is None:
            self._cancel_timer()
            return
        monotonic = time.monotonic()
        wait = max(self._resume_at - monotonic, self._limiter.wait(monotonic))
        if wait <= 0:
            due = self.outbox.next_due()
            if due is None:
                self._cancel_timer()  # an acknowledgement or a commit will look
                return
            wait = due - now
        self._cancel_timer()
        self._timer = self._session.host.loop.call_later(max(wait, 0.005), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self.pump()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @staticmethod
    def _end_span(out: Outgoing, problem: str = "") -> None:
        if out.span is not None:
            if problem:
                out.span.fail(problem)
            out.span.end()
            out.span = None


class CannotPrepare(Exception):
    """What a message needs cannot be had; `final` says that trying again does not help."""

    def __init__(
        self,
        detail: str,
        reason: pb.FailureReason.ValueType = pb.FAILURE_REASON_MEDIA_UNAVAILABLE,
        *,
        final: bool = True,
    ) -> None:
        super().__init__(detail)
        self.reason = reason
        self.final = final


def _outcome(done: asyncio.Future[Outcome]) -> Outcome | None:
    """None when nobody knows."""
    if done.cancelled() or done.exception() is not None:
        return None
    return done.result()


_NO_CONTEXT = Context()
_PREPARE_AGAIN = 1.0
