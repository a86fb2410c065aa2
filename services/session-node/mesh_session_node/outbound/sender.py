"""One account's way out: messages are accepted, stored, and sent as soon as the limits and the network allow.

Everything but preparation is synchronous: it runs in the callback of the link or of the journal.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from itertools import chain
from math import inf
from random import uniform

import structlog
from asyncpg.pgproto.pgproto import UUID

from mesh_session_node.context import metrics
from mesh_session_node.context.context import SessionContext
from mesh_session_node.drivers.interface.content import OutgoingMessage
from mesh_session_node.outbound.acceptance import Acceptance
from mesh_session_node.outbound.in_flight import MessagesInFlight
from mesh_session_node.outbound.limits import Limiter
from mesh_session_node.outbound.outbox import Outbox
from mesh_session_node.outbound.outgoing import Outgoing
from mesh_session_node.outbound.pacing import begin_typing, pacing_of, warmed_up
from mesh_session_node.outbound.preparation import Preparation, needs_preparation
from mesh_session_node.outbound.preparing import Failure, Preparing
from mesh_session_node.outbound.receipts import LateReceipts, ReceiptAcks
from mesh_session_node.outbound.reservations import Reservations
from mesh_session_node.outbound.room import AccountRoom
from mesh_session_node.outbound.statuses import count_status, end_unsent
from mesh_session_node.outbound.waiters import Waiters
from mesh_session_node.store.accounts import SendLimits
from sessionmesh.v1 import message_pb2 as pb

logger = structlog.get_logger(__name__)


class Sender:
    """The outbox of one account, and when what of it is sent."""

    __slots__ = (
        "_asked_to_wait_until",
        "_context",
        "_limiter",
        "_limits",
        "_paced_until",
        "_pacing",
        "_preparation",
        "_preparing",
        "_reservations",
        "_resume_at",
        "_room",
        "_timer",
        "acceptance",
        "in_flight",
        "outbox",
        "waiters",
    )

    def __init__(
        self,
        context: SessionContext,
        limits: SendLimits,
        preparation: Preparation,
        late: LateReceipts,
        acks: ReceiptAcks,
        room: AccountRoom,
    ) -> None:
        self._context = context
        self._room = room
        self._limits = limits
        """The account's own; the limiter's are lower while it warms up."""
        self._limiter = Limiter(warmed_up(limits, context.settings, time.time()))
        self._pacing = pacing_of(context.settings)
        self._paced_until = 0.0
        self._preparation = preparation
        self._preparing = Preparing(context, preparation, self)
        self._reservations = Reservations(context)
        self.outbox = Outbox()
        self.waiters = Waiters()
        self.in_flight = MessagesInFlight(context, self, self.waiters, late, acks)
        self.acceptance = Acceptance(context, self, self._limiter, room, self._reservations)
        self._timer: asyncio.TimerHandle | None = None
        self._resume_at = 0.0
        self._asked_to_wait_until = 0.0

    @property
    def queued(self) -> int:
        """Stored messages that the network has not acknowledged."""
        return len(self.outbox) + len(self._preparing.messages) + len(self.in_flight.messages)

    def oldest(self) -> float:
        """When the message that waits longest was accepted, or due, in seconds since the epoch; infinity when
        none waits. For any thread.
        """
        waiting = chain(
            self.outbox.waiting(), [*self._preparing.messages.values()], [*self.in_flight.messages.values()]
        )
        return min((out.wanted for out in waiting), default=inf)

    def set_limits(self, limits: SendLimits) -> None:
        """From now on."""
        self._limits = limits
        self.settings_changed()

    def settings_changed(self) -> None:
        """Send as the account's settings say from now on."""
        settings = self._context.settings
        self._limiter.limits = warmed_up(self._limits, settings, time.time())
        self._pacing = pacing_of(settings)
        if self._pacing is None:
            self._paced_until = 0.0
        self._resume_at = max(self._asked_to_wait_until, self._paced_until)
        self.pump()

    def recall(self, count: int, age: float) -> None:
        """Count messages that another node sent `age` seconds ago."""
        self._limiter.recall(time.monotonic(), count, age)

    def committed(self, out: Outgoing) -> None:
        """It is stored: send it, now when nothing stands before it."""
        context = self._context
        if context.closed:
            out.leave_room()
            return
        self._room.take(out)
        count_status(out, pb.MESSAGE_STATUS_QUEUED)
        metrics.ACCEPT_DURATION.observe(time.time() - out.accepted, out.traceparent)
        state = context.driver_state
        if state is None:
            self._fail(out, pb.FAILURE_REASON_ACCOUNT_CLOSED, "the pairing has ended")
            return
        if out.reservation is not None and state.ratchet is not None:
            state.ratchet.confirm(out.reservation)
        if (
            not self.outbox
            and not self.outbox.holding
            and out.due is None
            and self._pacing is None
            and self._may_send()
            and not needs_preparation(context.driver, out.request)
            and self._limiter.take(time.monotonic())
        ):
            self.in_flight.send(out)
            return
        self.outbox.push(out, time.time())
        self.pump()

    async def sent(self, network_id: str) -> OutgoingMessage | None:
        """A message that was sent before, by any node; see `Preparation.sent`."""
        return await self._preparation.sent(self._context, network_id)

    def wait_reason(self, message: UUID) -> pb.WaitReason.ValueType:
        """Why a message is still QUEUED; UNSPECIFIED for one that the network has, or that is not here."""
        if message in self._preparing.messages:
            return pb.WAIT_REASON_MEDIA
        out = self.outbox.find(message)
        if out is None:
            return pb.WAIT_REASON_UNSPECIFIED
        if out.due is not None and out.due > time.time():
            return pb.WAIT_REASON_SCHEDULED
        if self._context.driver_state is None:
            return pb.WAIT_REASON_NOT_PAIRED
        if self._context.link is None:
            return pb.WAIT_REASON_NOT_CONNECTED
        now = time.monotonic()
        if self._asked_to_wait_until > now:
            return pb.WAIT_REASON_NETWORK
        if self._limiter.wait(now) > 0:
            return pb.WAIT_REASON_SEND_LIMITS
        return pb.WAIT_REASON_PACING if self._paced_until > now else pb.WAIT_REASON_ORDER

    def restore(self, messages: Sequence[Outgoing]) -> None:
        """Take over what another node, or an earlier process, left in the outbox."""
        for message in messages:
            self.put_back(message)
        if self._pacing is not None:  # whoever had the account may have sent just now
            self._wait(self._pacing.gap())

    def leave_in_doubt(self, messages: Sequence[Outgoing]) -> None:
        """End what a restored backup had to send: whether it was sent since, nobody here knows."""
        for message in messages:
            end_unsent(self._context, self.waiters, message, pb.MESSAGE_STATUS_IN_DOUBT)

    def cancel(self, message: UUID) -> Outgoing | None:
        """Take a message back that the network cannot have; None when it may have it, or it is not here."""
        out = self._preparing.messages.get(message)
        if out is not None:
            if out.attempts:
                return None
            del self._preparing.messages[message]
            self.outbox.unhold(out.chat, time.time())
            self.pump()
        else:
            out = self.outbox.remove(message)
            if out is not None and out.attempts:
                self.put_back(out)
                return None
        if out is not None:
            out.leave_room()
        return out

    def keep(self, out: Outgoing) -> None:
        """A message that was taken back by `cancel` is to be sent after all."""
        if not self._context.closed:
            self.put_back(out)
            self.pump()

    def pump(self) -> None:
        """Send what may be sent, and see to it that the rest is looked at in time."""
        if self._context.closed:
            return
        now, at = time.time(), time.monotonic()
        while self._may_send():
            out = self.outbox.pop(now)
            if out is None:
                break
            prepares = out.prepared is None and needs_preparation(self._context.driver, out.request)
            if out.expire is not None and out.expire <= now:
                end_unsent(self._context, self.waiters, out, pb.MESSAGE_STATUS_EXPIRED)
            elif not self._may_leave(out, now, at, prepares=prepares):
                self.outbox.push(out, now)
                break
            elif prepares:
                self.outbox.hold(out.chat)  # until it is ready, or has failed; other chats go on
                self._preparing.begin(out)
            else:
                self.in_flight.send(out)
                if self._pacing is not None:
                    self._wait(self._pacing.gap())
                elif jitter := self._context.host.settings.jitter_seconds:
                    self._resume_at = time.monotonic() + uniform(0.0, jitter)  # noqa: S311 - looks less like a machine
        self._set_timer(now)

    def tick(self) -> None:
        """Called now and then: expire what may no longer be sent, forget what was sent long ago."""
        self.in_flight.sent.forget(time.monotonic())
        if self._context.settings.given.HasField("warm_up"):
            self._limiter.limits = warmed_up(self._limits, self._context.settings, time.time())
        if self.outbox:
            for out in self.outbox.take_expired(time.time()):
                end_unsent(self._context, self.waiters, out, pb.MESSAGE_STATUS_EXPIRED)
            self.pump()

    def link_gone(self) -> None:
        """What the network has not acknowledged is sent again after the next login."""
        self.in_flight.link_gone()
        self._cancel_timer()

    def fail_all(self, reason: pb.FailureReason.ValueType, detail: str) -> None:
        """The pairing has ended: nothing will be sent."""
        for out in self._take_all():
            self._fail(out, reason, detail)

    def drop(self) -> None:
        """The account is no longer this node's: forget everything."""
        self._cancel_timer()
        for out in self._take_all():
            out.leave_room()
        self.waiters.drop(self._context.ref.shard)

    # --- Queue

    def prepared(self, out: Outgoing, failure: Failure | None) -> None:
        now = time.time()
        if failure is not None:
            self._fail(out, *failure)
        else:
            self.outbox.push(out, now)
        self.outbox.unhold(out.chat, now)
        self.pump()

    def put_back(self, out: Outgoing) -> None:
        self._room.take(out)
        self.outbox.push(out, time.time())

    def pause(self, seconds: float) -> None:
        self._asked_to_wait_until = time.monotonic() + seconds
        self._resume_at = max(self._resume_at, self._asked_to_wait_until)

    def resume(self) -> None:
        if self.outbox:
            self.pump()

    def _may_send(self) -> bool:
        context = self._context
        state = context.driver_state
        if context.link is None or state is None or self.in_flight.full:
            return False
        if self._resume_at and time.monotonic() < self._resume_at:
            return False
        if (ratchet := state.ratchet) is not None and ratchet.left <= 0:
            if self.outbox or self._preparing.messages or self.acceptance.waiting:
                self._reservations.request(len(self.outbox), self.pump)
            return False
        return context.host.may_act(context.ref)

    def _wait(self, seconds: float) -> None:
        """Send nothing for so long."""
        self._paced_until = time.monotonic() + seconds
        self._resume_at = max(self._asked_to_wait_until, self._paced_until)

    def _may_leave(self, out: Outgoing, now: float, at: float, *, prepares: bool) -> bool:
        """Whether it may be prepared or sent now; what is sent then counts."""
        if prepares:  # nothing is fetched for what the limits would not let out
            return self._limiter.left(at) > len(self._preparing.messages)
        if self._pacing is not None and not out.typed and self._limiter.left(at) > 0:
            out.typed = True
            if seconds := begin_typing(self._context, out, self._pacing, now):
                self._wait(seconds)
                return False
        return self._limiter.take(at)

    def _fail(self, out: Outgoing, reason: pb.FailureReason.ValueType, detail: str) -> None:
        end_unsent(self._context, self.waiters, out, pb.MESSAGE_STATUS_FAILED, reason, detail)

    def _take_all(self) -> list[Outgoing]:
        preparing = self._preparing.messages
        messages = [*self.in_flight.clear(), *preparing.values(), *self.outbox.clear()]
        preparing.clear()
        return messages

    def _set_timer(self, now: float) -> None:
        """Look again when a scheduled message is due, or the limits allow more."""
        self._cancel_timer()
        if not self.outbox or self._context.link is None:
            return
        monotonic = time.monotonic()
        wait = max(self._resume_at - monotonic, self._limiter.wait(monotonic))
        if wait <= 0:
            due = self.outbox.next_due()
            if due is None:
                return  # an acknowledgement or a commit will look
            wait = due - now
        self._timer = self._context.host.loop.call_later(max(wait, _MIN_TIMER_SECONDS), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self.pump()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


_MIN_TIMER_SECONDS = 0.005
