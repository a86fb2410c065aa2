"""One account's session: its state, its connection, and who is told of what comes over it."""

from __future__ import annotations

import asyncio
import time

import structlog

from mesh_core.errors import FailedPrecondition
from mesh_core.ids import Prefix, encode, new_uuid
from mesh_session_node import metrics
from mesh_session_node.drivers.interface.content import Incoming
from mesh_session_node.drivers.interface.driver import Driver, DriverState, Link
from mesh_session_node.drivers.interface.outcomes import ConnectionEnded, End, Failure, Receipt
from mesh_session_node.events import EventMaker
from mesh_session_node.journal import AccountRef, Disconnect, Row
from mesh_session_node.session import receiver, views
from mesh_session_node.session.account import AccountRow, SessionRow
from mesh_session_node.session.counters import Counters
from mesh_session_node.session.host import Host
from mesh_session_node.session.reconnect import Failures
from mesh_session_node.session.sender import Sender
from mesh_session_node.session.state import LIVE, UNPAIRED, Cause, SessionEvent, State, transition
from sessionmesh.v1 import message_pb2
from sessionmesh.v1 import session_pb2 as pb

logger = structlog.get_logger(__name__)

BY_ACCOUNT = "the account is paused"
"""Detail of a session that is paused because its account is: it goes on when the account does."""


class Session:
    """Implements `LinkEvents`. Lives from the moment its shard came here until the shard goes."""

    __slots__ = (
        "_dialing",
        "_retry",
        "account",
        "cause",
        "closed",
        "connected_at",
        "counters",
        "detail",
        "driver",
        "driver_state",
        "events",
        "failures",
        "host",
        "id",
        "link",
        "next_connect",
        "phone",
        "push_name",
        "receipts_upto",
        "ref",
        "sender",
        "settings",
        "state",
        "update_time",
        "user_id",
        "watchers",
    )

    def __init__(
        self, host: Host, account: AccountRow, epoch: int, row: SessionRow, driver_state: DriverState | None
    ) -> None:
        self.host = host
        self.account = account
        self.id = encode(Prefix.ACCOUNT, account.uuid)
        self.ref = AccountRef(account.uuid, account.tenant, account.shard, epoch)
        self.driver: Driver = host.driver(account.driver)
        self.events = EventMaker(encode(Prefix.TENANT, account.tenant), self.id, account.labels)
        self.state: State = row.state
        self.cause: Cause = row.cause
        self.detail = row.detail
        self.settings = row.settings
        self.counters = Counters(row)
        self.driver_state = driver_state
        self.phone, self.user_id, self.push_name = row.phone, row.network_user_id, row.push_name
        self.sender = Sender(self, account.limits)
        self.link: Link | None = None
        self.closed = False
        self.watchers: set[asyncio.Event] | None = None
        self.receipts_upto = 0
        self.next_connect: int | None = None
        self.update_time = time.time_ns() // 1000
        self.connected_at: int | None = None
        self.failures = Failures(host.settings.failures_per_hour)
        self._dialing: asyncio.Task[None] | None = None
        self._retry: asyncio.TimerHandle | None = None
        metrics.SESSIONS.labels(metrics.STATE_NAMES[self.state]).inc()

    @property
    def paired(self) -> bool:
        """Paired and able to connect."""
        return self.driver_state is not None and self.state not in UNPAIRED

    # --- life of the session

    def begin(self) -> None:
        """The account runs here from now on: connect it, if it is to be connected."""
        if self.account.deleted:
            return
        if self.state == pb.SESSION_STATE_PAUSED and self.detail == BY_ACCOUNT and self.account.online:
            self.connect()
            return
        if not self.account.online and self.state in LIVE:
            self.disconnect(BY_ACCOUNT)
            return
        self._go(SessionEvent.ACQUIRED)
        if self.state == pb.SESSION_STATE_CONNECTING:
            self._dial_soon()

    def refresh(self, account: AccountRow) -> None:
        """The account's row may have changed. One that was read before the present one is ignored."""
        if account.version < self.account.version:
            return
        before, self.account = self.account, account
        self.events.labels = account.labels
        self.sender.set_limits(account.limits)
        if account.deleted or (not account.online and self.state in LIVE):
            self.disconnect(BY_ACCOUNT)
        elif account.online and (not before.online or before.deleted) and self.detail == BY_ACCOUNT:
            self.connect()

    def connect(self) -> None:
        """Connect, and stay connected. Raises `FailedPrecondition` NOT_PAIRED."""
        if not self.paired or self.driver_state is None:
            raise FailedPrecondition("the account is not paired", "NOT_PAIRED")
        self.failures.clear()
        if self._go(SessionEvent.CONNECT_REQUESTED):
            self._dial_soon()

    def disconnect(self, detail: str = "") -> None:
        """Close the connection and keep it closed."""
        self._close_link(pb.SESSION_CAUSE_REQUESTED, detail)
        self._go(SessionEvent.DISCONNECT_REQUESTED, detail)

    def log_out(self) -> None:
        """End the pairing, here and on the network where connected. Raises `FailedPrecondition`."""
        if not self.paired:
            raise FailedPrecondition("the account is not paired", "NOT_PAIRED")
        link, self.link = self.link, None
        if link is not None:
            link.log_out()
            # The link is left to end by itself: closing it now would drop the request.
            self.host.loop.call_later(2.0, link.abort)
        self._unpair(SessionEvent.LOGOUT_REQUESTED, "")

    def pairing_begun(self) -> None:
        """Somebody pairs the account. Raises `FailedPrecondition` ALREADY_PAIRED."""
        if self.paired:
            raise FailedPrecondition("the account is paired already", "ALREADY_PAIRED")
        self._go(SessionEvent.PAIRING_BEGUN)

    def pairing_ended(self, event: SessionEvent, detail: str) -> None:
        """Without success."""
        self._go(event, detail)

    def pairing_done(self, state: DriverState) -> None:
        """The account is paired. Call it when the state is stored."""
        self.driver_state = state
        self.phone, self.user_id, self.push_name = state.phone, state.user_id, state.push_name
        self.failures.clear()
        if self._go(SessionEvent.PAIRED):
            if self.account.online:
                self._dial_soon()
            else:
                self.disconnect(BY_ACCOUNT)

    def close(self) -> None:
        """Leave the network at once, and never act again: the shard goes to another node."""
        self.closed = True
        self._cancel()
        link, self.link = self.link, None
        if link is not None:
            link.abort()
        self.sender.drop()
        metrics.SESSIONS.labels(metrics.STATE_NAMES[self.state]).dec()
        self._wake_watchers()

    def keepalive(self, now: float, patience: float) -> None:
        """Ask for a sign of life; without one for `patience` seconds the session is not connected. `now` is
        the loop's.
        """
        link = self.link
        if link is not None:
            if now - link.heard > patience:
                self._lost(SessionEvent.KEEPALIVE_TIMED_OUT, f"nothing heard for {patience:g} s")
            else:
                link.ping()
        self.sender.forget_sent(time.monotonic())
        if self.sender.outbox:
            self.sender.expire(time.time())
            self.sender.pump()
        if self.counters.stored != self.counters.values():
            self.host.journal.post(self.ref, views.stored(self))

    async def connected(self) -> None:
        """Return when the session is connected, or closed for good."""
        if self.closed or self.link is not None:
            return
        news = asyncio.Event()
        self.watchers = self.watchers or set()
        self.watchers.add(news)
        try:
            while not self.closed and self.link is None:
                news.clear()
                await news.wait()
        finally:
            self.watchers.discard(news)

    # --- the connection

    async def dial(self) -> None:
        """Connect and log in; called when its turn has come."""
        state = self.driver_state
        if self.closed or self.state != pb.SESSION_STATE_CONNECTING or self.link is not None or state is None:
            return
        if not self.permitted():
            return
        self._dialing = asyncio.current_task()
        try:
            link = await self.driver.connect(state, self)
        except ConnectionEnded as error:
            if not self.closed and self.state == pb.SESSION_STATE_CONNECTING:
                self._ended(error.end, error.detail, connecting=True, retry_after=error.retry_after)
            return
        finally:
            self._dialing = None
        if self.closed or self.state != pb.SESSION_STATE_CONNECTING or not self.host.may_act(self):
            link.abort()
            return
        if link.ended is not None:
            self._ended(link.ended.end, link.ended.detail, connecting=True)
            return
        self.link = link
        self.counters.connects += 1
        self.connected_at = time.time_ns() // 1000
        self._go(SessionEvent.LOGGED_IN)
        self.sender.pump()

    def permitted(self) -> bool:
        return not self.closed and self.host.may_act(self)

    def on_ack(self, network_id: str, time: int) -> None:
        self.sender.on_ack(network_id, time)

    def on_reject(self, network_id: str, failure: Failure, detail: str, retry_after: float) -> None:
        self.sender.on_reject(network_id, failure, detail, retry_after)

    def on_receipt(self, network_id: str, receipt: Receipt, time: int, member: str, sequence: int) -> None:
        self.sender.on_receipt(network_id, receipt, time, member)
        if sequence > self.receipts_upto:
            self.receipts_upto = sequence
            self.host.receipts_heard(self, sequence)

    def on_incoming(self, message: Incoming) -> None:
        receiver.receive(self, message)

    def on_end(self, link: Link, end: End, detail: str) -> None:
        if link is self.link:
            self._ended(end, detail)

    def seal(self, plain: bytes) -> bytes:
        """A driver's state as it is stored."""
        return self.host.seal(self.account.tenant, plain, self.account.uuid.bytes)

    # --- changes of state

    def _go(self, event: SessionEvent, detail: str = "") -> bool:
        """Follow the table; False when the event means nothing now. Every change is stored, with an event."""
        found = transition(self.state, event)
        if found is None or self.closed:
            return False
        previous = self.state
        self.state, self.cause = found
        self.detail = detail
        self.update_time = time.time_ns() // 1000
        if self.state != pb.SESSION_STATE_BACKOFF:
            self.next_connect = None
            self._cancel()
        metrics.SESSIONS.labels(metrics.STATE_NAMES[previous]).dec()
        metrics.SESSIONS.labels(metrics.STATE_NAMES[self.state]).inc()
        self._publish(previous)
        return True

    def _publish(self, previous: State) -> None:
        event = self.events.session(views.view(self), previous, self.update_time)
        self.host.journal.post(self.ref, views.stored(self), event)
        self._wake_watchers()

    def _ended(self, end: End, detail: str, *, connecting: bool = False, retry_after: float = 0.0) -> None:
        if end is End.REPLACED:
            self._close_link(pb.SESSION_CAUSE_REPLACED, detail)
            self._go(SessionEvent.REPLACED, detail)
        elif end is End.LOGGED_OUT:
            self._close_link(pb.SESSION_CAUSE_LOGGED_OUT, detail)
            self._unpair(SessionEvent.LOGGED_OUT, detail)
        elif end is End.BANNED:
            self._close_link(pb.SESSION_CAUSE_BANNED, detail)
            self._unpair(SessionEvent.BANNED, detail)
        elif end is End.REFUSED:
            self._lost(SessionEvent.LOGIN_REFUSED, detail, retry_after)
        else:
            event = SessionEvent.CONNECT_FAILED if connecting else SessionEvent.CONNECTION_LOST
            self._lost(event, detail, retry_after)

    def _lost(self, event: SessionEvent, detail: str, retry_after: float = 0.0) -> None:
        """Connect again, later."""
        found = transition(self.state, event)
        self._close_link(found[1] if found is not None else pb.SESSION_CAUSE_UNSPECIFIED, detail)
        now = time.monotonic()
        self.failures.add(now)
        delay = max(self.failures.delay(now), retry_after)
        if self.failures.quarantined(now):
            metrics.QUARANTINED.inc()
            logger.warning("session quarantined", account_id=self.id, seconds=round(delay), detail=detail)
            event = SessionEvent.QUARANTINED
        self.next_connect = int((time.time() + delay) * 1e6)
        if self._go(event, detail):
            self._retry = self.host.loop.call_later(delay, self._retry_due)

    def _retry_due(self) -> None:
        self._retry = None
        if self._go(SessionEvent.RETRY_DUE):
            self._dial_soon()

    def _unpair(self, event: SessionEvent, detail: str) -> None:
        self._cancel()
        self.driver_state = None
        self.sender.fail_all(message_pb2.FAILURE_REASON_ACCOUNT_CLOSED, detail or "the pairing has ended")
        self._go(event, detail)

    def _dial_soon(self) -> None:
        self.host.admit(self)

    def _close_link(self, cause: Cause, detail: str) -> None:
        """Record the end of the connection, if there is one."""
        link, self.link = self.link, None
        if link is not None:
            link.abort()
            metrics.RECONNECTS.labels(metrics.CAUSE_NAMES[cause]).inc()
            now = time.time_ns() // 1000
            row: Row = Disconnect(new_uuid(), cause, detail, self.host.node_id, self.connected_at, now)
            self.host.journal.post(self.ref, row)
        self.connected_at = None
        self.sender.link_gone()

    def _cancel(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if self._dialing is not None and self.state != pb.SESSION_STATE_CONNECTED:
            self._dialing.cancel()

    def _wake_watchers(self) -> None:
        for watcher in self.watchers or ():
            watcher.set()
