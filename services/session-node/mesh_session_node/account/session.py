"""One account's session: its state, who may change it, and what is told of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol

from mesh_core.database.requests import RecordKind
from mesh_core.errors import FailedPrecondition
from mesh_session_node.account import views
from mesh_session_node.account.connector import Connector, Network
from mesh_session_node.account.reconnect import ConnectQueue
from mesh_session_node.account.state import LIVE, UNPAIRED, Cause, SessionEvent, State, transition
from mesh_session_node.context import metrics
from mesh_session_node.context.context import SessionContext
from mesh_session_node.context.driver_rows import seal_rows
from mesh_session_node.drivers.interface.content import Identity, Incoming, OutgoingMessage
from mesh_session_node.drivers.interface.driver import Link
from mesh_session_node.drivers.interface.notices import Notice
from mesh_session_node.drivers.interface.outcomes import End, Failure, MemberReceipts, Receipt
from mesh_session_node.drivers.interface.pairing import Paired
from mesh_session_node.drivers.interface.state import DriverState
from mesh_session_node.inbound import by_settings
from mesh_session_node.inbound.border import Border
from mesh_session_node.inbound.group_list import LISTED
from mesh_session_node.journal import AccountRecord, Credential, ForgetDriverRows, Row, SessionSnapshot
from mesh_session_node.outbound.limits import ActLimits
from mesh_session_node.outbound.sender import Sender
from mesh_session_node.store.accounts import AccountRow, SessionRow
from sessionmesh.v1 import message_pb2
from sessionmesh.v1 import session_pb2 as pb

BY_ACCOUNT = "the account is paused"
"""Detail of a session that is paused because its account is: it goes on when the account does."""


class Inbound(Protocol):
    """Takes what the network brings."""

    def receive(self, session: SessionContext, came: Incoming) -> None:
        """Store a message from the network."""


class ToldBeside(Protocol):
    """Takes what the network tells beside messages."""

    def receive(self, session: SessionContext, notice: Notice, sequence: int) -> None:
        """Take it in its turn, and have the network told once what comes of it is stored."""


class Session:
    """Implements `LinkEvents`. Lives from the moment its shard came here until the shard goes."""

    __slots__ = (
        "_inbound",
        "_notices",
        "account",
        "acts",
        "cause",
        "connector",
        "context",
        "detail",
        "hidden_id",
        "phone",
        "push_name",
        "restrictions",
        "sender",
        "state",
        "update_time",
        "user_id",
    )

    def __init__(
        self,
        context: SessionContext,
        account: AccountRow,
        row: SessionRow,
        sender: Sender,
        inbound: Inbound,
        notices: ToldBeside,
        connects: ConnectQueue,
        network: Network,
    ) -> None:
        self.context = context
        self.account = account
        self.state: State = row.state
        self.cause: Cause = row.cause
        self.detail = row.detail
        self.phone, self.user_id, self.hidden_id = row.phone, row.network_user_id, row.hidden_id
        self.push_name = row.push_name
        self.restrictions = row.restrictions
        """Also those that have ended since the network told of them."""
        self.update_time = time.time_ns() // 1000
        self.sender = sender
        self.connector = Connector(context, self, sender, Border(context.id, self), connects, network)
        context.connect_anew, context.say = self.connector.connect_anew, sender.acceptance.say
        self._inbound = inbound
        self._notices = notices
        self.acts: ActLimits | None = None  # most accounts do nothing but send
        metrics.SESSIONS.labels(metrics.STATE_NAMES[self.state]).inc()

    @property
    def id(self) -> str:
        """The account's id."""
        return self.context.id

    @property
    def paired(self) -> bool:
        """Paired and able to connect."""
        return self.context.driver_state is not None and self.state not in UNPAIRED

    # --- life of the session

    def begin(self, traceparent: str = "") -> None:
        """The account was brought here by what has that trace: go on in the stored state, and dial if that
        is to be online.
        """
        if self.account.deleted:
            return
        self.connector.trace.traceparent = traceparent
        if self.state == pb.SESSION_STATE_PAUSED and self.detail == BY_ACCOUNT and self.account.online:
            self.connect(asked=False)
            return
        if not self.account.online and self.state in LIVE:
            self.disconnect(BY_ACCOUNT)
            return
        self.go(SessionEvent.ACQUIRED)
        if self.state == pb.SESSION_STATE_CONNECTING:
            self.connector.dial_soon()

    def refresh(self, account: AccountRow) -> None:
        """The account's row may have changed. One that was read before the present one is ignored."""
        if account.version < self.account.version:
            return
        before, self.account = self.account, account
        self.context.events.labels = account.labels
        self.sender.set_limits(account.limits)
        if account.deleted or (not account.online and self.state in LIVE):
            self.disconnect(BY_ACCOUNT)
            self.context.notify()  # its streams end with the account, whatever state the session was in
        elif account.online and (not before.online or before.deleted) and self.detail == BY_ACCOUNT:
            self.connect()

    def connect(self, *, asked: bool = True) -> None:
        """Connect, and stay connected; first of all when somebody asked. Raises `FailedPrecondition`
        NOT_PAIRED.
        """
        if not self.paired or self.context.driver_state is None:
            raise FailedPrecondition("the account is not paired", "NOT_PAIRED")
        self.connector.failures.clear()
        if asked:
            self.connector.trace.follow_call()
        if self.go(SessionEvent.CONNECT_REQUESTED) or self.state == pb.SESSION_STATE_CONNECTING:
            self.connector.dial_soon(first=asked)

    def disconnect(self, detail: str = "") -> None:
        """Close the connection and keep it closed."""
        self.connector.trace.follow_call()
        self.connector.close_link(pb.SESSION_CAUSE_REQUESTED, detail)
        self.go(SessionEvent.DISCONNECT_REQUESTED, detail)

    def log_out(self) -> None:
        """End the pairing, here and on the network where connected. Raises `FailedPrecondition`."""
        if not self.paired:
            raise FailedPrecondition("the account is not paired", "NOT_PAIRED")
        context = self.context
        self.connector.trace.follow_call()
        link, context.link = context.link, None
        if link is not None:
            link.log_out()
            # The link is left to end by itself: closing it now would drop the request.
            self.connector.let_end(link, _LOG_OUT_SECONDS)
        self.unpaired(SessionEvent.LOGOUT_REQUESTED, "")

    def pairing_begun(self) -> None:
        """Somebody pairs the account. Raises `FailedPrecondition` ALREADY_PAIRED."""
        if self.paired:
            raise FailedPrecondition("the account is paired already", "ALREADY_PAIRED")
        self.connector.trace.follow_call()
        self.go(SessionEvent.PAIRING_BEGUN)

    def pairing_ended(self, event: SessionEvent, detail: str) -> None:
        """Without success."""
        self.go(event, detail)

    def pairing_rows(self, paired: Paired) -> tuple[SessionSnapshot, list[Row]]:
        """The session once it is paired, and all that must be stored of a new pairing, in one unit, before
        `pairing_done`: whoever owns the account next finds all of it or nothing. Nothing changes here yet.
        """
        context = self.context
        row, shown = views.with_pairing(self, paired.state, *self._once_paired())
        rows: list[Row] = [Credential(context.seal(context.driver.dump(paired.state)))]
        rows.append(AccountRecord(RecordKind.GROUPS_LISTED, LISTED, "", None, row.update_time))
        if paired.rows:  # nothing of an earlier pairing stays among them
            rows += [ForgetDriverRows(), *seal_rows(context.host, context.ref, paired.rows)]
        trace = self.connector.trace.traceparent
        return row, [*rows, row, context.events.session(shown, self.state, row.update_time, trace)]

    def pairing_done(self, state: DriverState, row: SessionSnapshot) -> None:
        """The account is paired, as `row` says, which is stored with the state."""
        context = self.context
        if context.closed:
            return
        context.driver_state = state
        context.groups_listed = False
        self.phone, self.user_id, self.hidden_id = state.phone, state.user_id, state.hidden_id
        self.push_name = state.push_name
        self.restrictions = ()
        context.settings = context.settings.paired_at(row.update_time)
        self.connector.failures.clear()
        self._enter(*self._once_paired(), row.detail, row.update_time)
        if self.state == pb.SESSION_STATE_CONNECTING:
            if self.account.online and not self.account.deleted:
                self.connector.dial_soon(first=True)
            else:
                self.disconnect(BY_ACCOUNT)

    def close(self) -> None:
        """Leave the network at once, and never act again: the shard goes to another node."""
        context = self.context
        self.sender.in_flight.close()
        context.closed = True
        self.connector.leave()
        link, context.link = context.link, None
        if link is not None:
            self.connector.abort(link)
        self.sender.drop()
        metrics.SESSIONS.labels(metrics.STATE_NAMES[self.state]).dec()
        context.notify()

    async def gone(self) -> None:
        """Return when nothing of the account can leave from here any more; after `close`."""
        await self.connector.gone()

    def keepalive(self, now: float, patience: float) -> None:
        """Ask for a sign of life, without which for `patience` seconds it is lost. `now` is the loop's."""
        context = self.context
        if context.link is not None:
            if now - context.link.heard > patience:
                self.connector.lost(SessionEvent.KEEPALIVE_TIMED_OUT, f"nothing heard for {patience:g} s")
            else:
                context.link.ping()
        self.sender.tick()
        self.store_counters()

    def store_counters(self, *, at_once: bool = False) -> None:
        """Store what the session has done and is not stored; what takes more not each time, or `at_once`."""
        context = self.context
        # The row of a session that is being paired may be on its way already, in its next state
        pairing = self.state == pb.SESSION_STATE_PAIRING
        if not pairing and context.counters.stored != context.counters.values():
            context.host.journal.post(context.ref, views.snapshot(self))
        now = time.time()
        if (row := context.risk.row(now, at_once=at_once)) is not None:
            context.host.journal.post(context.ref, row)
            settings = context.host.settings
            context.risk.judge(self.id, settings.risk_unknown_percent, settings.risk_least_recipients, now)

    # --- LinkEvents

    def permitted(self) -> bool:
        return not self.context.closed and self.context.host.may_act(self.context.ref)

    async def sent(self, network_id: str) -> OutgoingMessage | None:
        return await self.sender.sent(network_id)

    def on_ack(self, network_id: str, time: int, recipient: Identity | None = None) -> None:
        self.sender.in_flight.on_ack(network_id, time, recipient)

    def on_reject(
        self,
        network_id: str,
        failure: Failure,
        detail: str,
        retry_after: float,
        code: int | None = None,
    ) -> None:
        self.sender.in_flight.on_reject(network_id, failure, detail, retry_after, code)

    def on_receipt(self, network_id: str, receipt: Receipt, time: int, sequence: int) -> None:
        self.sender.in_flight.on_receipt(network_id, receipt, time, sequence)

    def on_member_receipts(self, told: MemberReceipts, sequence: int) -> None:
        self.sender.in_flight.on_member_receipts(told, sequence)

    def on_incoming(self, message: Incoming) -> None:
        self._inbound.receive(self.context, message)

    def on_notice(self, notice: Notice, sequence: int) -> None:
        self._notices.receive(self.context, notice, sequence)

    def on_opening(self, link: Link) -> None:
        self.context.opening = link

    def on_restrictions(self, restrictions: Sequence[pb.Restriction]) -> None:
        told = tuple(restrictions)
        if told == self.restrictions:
            return
        context = self.context
        if begun := {one.kind for one in told} - {one.kind for one in self.restrictions}:
            context.risk.restricted(len(begun), time.time())
        self.restrictions = told
        event = context.events.restrictions(views.view(self), time.time_ns() // 1000)
        context.host.journal.post(context.ref, views.snapshot(self), event)
        context.notify()

    def on_end(self, link: Link, end: End, detail: str) -> None:
        self.connector.on_end(link, end, detail)

    # --- StateMachine

    def go(self, event: SessionEvent, detail: str = "", *with_it: Row) -> bool:
        """Follow the table; False when the event means nothing now. Every change is stored, with an event and
        these rows.
        """
        context = self.context
        found = transition(self.state, event)
        if found is None or context.closed:
            return False
        previous = self.state
        self._enter(*found, detail, time.time_ns() // 1000)
        trace = self.connector.trace.traceparent
        changed = context.events.session(views.view(self), previous, self.update_time, trace)
        context.host.journal.post(context.ref, *with_it, views.snapshot(self), changed)
        return True

    def unpaired(self, event: SessionEvent, detail: str) -> None:
        """The pairing has ended: nothing can be sent any more."""
        self.connector.cancel()
        self.context.driver_state = None
        self.sender.fail_all(message_pb2.FAILURE_REASON_ACCOUNT_CLOSED, detail or "the pairing has ended")
        self.go(event, detail, ForgetDriverRows())

    # ---

    def _once_paired(self) -> tuple[State, Cause]:
        return transition(self.state, SessionEvent.PAIRED) or (self.state, self.cause)

    def _enter(self, state: State, cause: Cause, detail: str, update_time: int) -> None:
        metrics.SESSIONS.labels(metrics.STATE_NAMES[self.state]).dec()
        metrics.SESSIONS.labels(metrics.STATE_NAMES[state]).inc()
        self.state, self.cause, self.detail, self.update_time = state, cause, detail, update_time
        self.connector.entered(state)
        if state == pb.SESSION_STATE_CONNECTED:
            by_settings.logged_in(self.context)
        self.context.notify()


_LOG_OUT_SECONDS = 2.0
