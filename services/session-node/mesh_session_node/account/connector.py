"""One account's connection: dialling, its end, and when it is tried again."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

import structlog
from asyncpg.pgproto.pgproto import UUID

from mesh_core.ids import new_uuid
from mesh_core.telemetry.tracing import Span
from mesh_session_node.account.reconnect import LONGEST_HELD, ConnectQueue, Failures
from mesh_session_node.account.session_trace import SessionTrace, told
from mesh_session_node.account.state import LIVE, Cause, SessionEvent, State, StateMachine, transition
from mesh_session_node.context import metrics
from mesh_session_node.context.context import SessionContext
from mesh_session_node.context.driver_rows import DriverRows
from mesh_session_node.drivers.interface.driver import Link, LinkEvents
from mesh_session_node.drivers.interface.outcomes import ConnectionEnded, End
from mesh_session_node.drivers.interface.state import DriverState
from mesh_session_node.journal import Disconnect
from mesh_session_node.outbound.sender import Sender
from sessionmesh.v1 import session_pb2 as pb

logger = structlog.get_logger(__name__)


class Network(Protocol):
    """What all accounts of a network have in common: whether it fails for most of them."""

    @property
    def failing(self) -> bool: ...
    def logged_in(self, connector: Connector) -> None:
        """The account is connected."""

    def failed(self, connector: Connector, cause: Cause) -> bool:
        """The account could not connect, or lost its connection; whether that is its own fault."""

    def hold(self, connector: Connector) -> None:
        """The account waits: for its turn to `probe`, or until all `resume`."""

    def let_go(self, connector: Connector) -> None:
        """The account does not wait any more."""

    def leave(self, connector: Connector) -> None:
        """The account is not to be online, or not here."""


class Connector:
    """Dials, and connects again when the connection is lost. Times are microseconds since the epoch."""

    __slots__ = (
        "_context",
        "_dialing",
        "_events",
        "_named_time",
        "_network",
        "_own_time",
        "_past",
        "_queue",
        "_retry",
        "_sender",
        "_session",
        "_unasked",
        "connected_at",
        "failures",
        "may_try_at",
        "next_connect",
        "trace",
    )

    def __init__(
        self,
        context: SessionContext,
        session: StateMachine,
        sender: Sender,
        events: LinkEvents,
        queue: ConnectQueue,
        network: Network,
    ) -> None:
        self._context = context
        self._network = network
        self._session = session
        self._sender = sender
        self._events = events
        self._queue = queue
        self.failures = Failures(context.host.settings.failures_per_hour)
        self.connected_at: int | None = None
        self.next_connect: int | None = None
        """When it dials again; None unless it waits for that."""
        self.may_try_at = 0.0
        """While the network fails: when this account may try it, in monotonic seconds."""
        self._own_time = 0.0
        """When its latest failure was to be followed by another attempt, in monotonic seconds."""
        self._named_time = 0.0
        """Not before when the network wants to hear of it, in monotonic seconds."""
        self._unasked = True
        """Nobody waits for its next dial: it is put off while the network fails."""
        self._dialing: asyncio.Task[None] | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._past: Link | None = None
        """The connection before, of which something may leave yet."""
        self.trace = SessionTrace(context.id, context.driver.name)

    @property
    def id(self) -> str:
        return self._context.id

    @property
    def tenant(self) -> UUID:
        return self._context.ref.tenant

    def dial_soon(self, *, first: bool = False) -> None:
        """Dial when its turn comes; `first` when somebody waits for it."""
        self._unasked = not first
        self._queue.admit(self, first=first)

    async def dial(self) -> None:
        """Connect and log in; called when its turn has come."""
        context, state = self._context, self._context.driver_state
        if not self._wanted() or context.link is not None or self._dialing is not None or state is None:
            return
        if not context.host.may_act(context.ref):
            return
        if self._unasked and self._network.failing:
            self.hold("the network fails for most accounts")
            return
        self._dialing = asyncio.current_task()
        with self.trace.dialling() as span:
            await self._connect(state, span)

    async def _connect(self, state: DriverState, span: Span) -> None:
        context, session = self._context, self._session
        rows = DriverRows(context.id, context.ref, context.host, self._rows_failed)
        link = None
        try:
            if self._past is not None:
                await self._past.closed()
                self._past = None
            context.rows = rows
            proxy_url = context.settings.proxy_url
            proxy = await context.host.proxies.found(proxy_url)
            began = time.monotonic()
            link = await context.driver.connect(state, rows, self._events, proxy)
            metrics.CONNECT_DURATION.observe(time.monotonic() - began)
        except ConnectionEnded as error:
            span.fail(told(error))
            if self._wanted():
                self._failed(error)
            return
        except Exception as error:
            # Nobody else would ever dial for it again
            logger.exception("a driver failed to connect", account_id=self.id)
            span.fail(error)
            if self._wanted():
                self._failed(ConnectionEnded(End.LOST, f"the driver failed: {type(error).__name__}"))
            return
        finally:
            self._dialing = context.opening = None
            if link is None:
                self._end_rows(rows)
        if not self._wanted() or not context.host.may_act(context.ref):
            self._end_rows(rows)
            self.abort(link)
            return
        if proxy_url != context.settings.proxy_url:
            self._end_rows(rows)
            self.abort(link)
            self.dial_soon()
            return
        if link.ended is not None or rows.over:
            self._end_rows(rows)
            self.abort(link)
            ended = link.ended or ConnectionEnded(End.LOST, _NOT_STORED)
            span.fail(told(ended))
            self._failed(ended)
            return
        context.link = link
        context.counters.connects += 1
        self.connected_at = time.time_ns() // 1000
        self._network.logged_in(self)
        session.go(SessionEvent.LOGGED_IN)
        self.trace.connected()
        self._sender.pump()
        context.host.connected(context)

    def on_end(self, link: Link, end: End, detail: str) -> None:
        """A connection has ended; nothing when it is not the present one."""
        if link is self._context.link:
            self._ended(end, detail, SessionEvent.CONNECTION_LOST)

    def lost(self, event: SessionEvent, detail: str, retry_after: float = 0.0) -> None:
        """Close what is left of the connection, and dial again later: after `retry_after` seconds or more."""
        found = transition(self._session.state, event)
        cause = found[1] if found is not None else pb.SESSION_CAUSE_UNSPECIFIED
        connected = self._context.link is not None
        self.close_link(cause, detail)
        now = time.monotonic()
        if found is not None:
            self.trace.lost(cause, detail, connected=connected)
            self.failures.add(now, blamed=self._network.failed(self, cause))
        delay = max(self.failures.delay(now), retry_after)
        self._own_time, self._named_time = now + delay, now + retry_after
        if self._network.failing:
            self.hold(detail)
            return
        if self.failures.quarantined(now):
            metrics.QUARANTINED.inc()
            logger.warning("session quarantined", account_id=self.id, seconds=round(delay), detail=detail)
            event = SessionEvent.QUARANTINED
        self.next_connect = int((time.time() + delay) * 1e6)
        if self._session.go(event, detail):
            metrics.RECONNECT_DELAY.observe(delay)
            self._retry = self._context.host.loop.call_later(delay, self._retry_due)

    def connect_anew(self, detail: str) -> None:
        """End the connection and dial again when its turn comes; that is nobody's failure."""
        self.close_link(pb.SESSION_CAUSE_CONNECTION_LOST, detail)
        self.trace.traceparent = ""
        if self._session.go(SessionEvent.CONNECTION_LOST, detail):
            self._retry_due()

    def hold(self, detail: str = "") -> None:
        """The network fails for most: dial when it works again, or to try whether it does."""
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        self.next_connect = None
        self.may_try_at = max(min(self._own_time, time.monotonic() + LONGEST_HELD), self._named_time)
        if self._session.go(SessionEvent.NETWORK_FAILED, detail or self._session.detail):
            self._network.hold(self)

    def probe(self) -> None:
        """Try whether the network works again."""
        if self._session.go(SessionEvent.RETRY_DUE):
            self.dial_soon(first=True)

    def resume(self) -> None:
        """The network works again."""
        self._retry_due()

    def close_link(self, cause: Cause, detail: str) -> None:
        """Close the connection and record its end, if there is one."""
        context = self._context
        link, context.link = context.link, None
        if link is not None:
            self.abort(link)
            metrics.ENDS.labels(metrics.CAUSE_NAMES[cause]).inc()
            now = time.time_ns() // 1000
            row = Disconnect(new_uuid(), cause, detail, context.host.node_id, self.connected_at, now)
            context.host.journal.post(context.ref, row)
        self.connected_at = None
        self._sender.link_gone()

    def abort(self, link: Link) -> None:
        """Close a connection that was this account's; the next one waits until nothing of it leaves."""
        self._past = link
        if self._context.rows is not None and self._context.link is None:
            self._end_rows(self._context.rows)
        link.abort()

    def let_end(self, link: Link, seconds: float) -> None:
        """Let a connection end by itself; close it after `seconds`, if it has not."""
        self._past = link
        if self._context.rows is not None:
            self._end_rows(self._context.rows)
        self._context.host.loop.call_later(seconds, link.abort)

    async def gone(self) -> None:
        """Return when nothing of the account's connections can leave any more; after `leave`."""
        if self._dialing is not None:
            await asyncio.wait([self._dialing])
        if self._past is not None:
            await self._past.closed()

    def cancel(self) -> None:
        """Neither dial again nor finish dialling, unless it has succeeded."""
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if self._dialing is not None and self._session.state != pb.SESSION_STATE_CONNECTED:
            self._dialing.cancel()

    def entered(self, state: State) -> None:
        """The session has another state: what was begun for the one before ends."""
        if state != pb.SESSION_STATE_BACKOFF:
            self.next_connect = None
            self.cancel()
            self._network.let_go(self)
        if state not in LIVE:
            self._network.leave(self)
            self.trace.over()

    def leave(self) -> None:
        """The account is not this node's any more."""
        self.cancel()
        self._network.leave(self)
        self.trace.over()

    def _end_rows(self, rows: DriverRows) -> None:
        rows.end()
        if self._context.rows is rows:
            self._context.rows = None

    def _rows_failed(self) -> None:
        if self._context.link is not None and (rows := self._context.rows) is not None and rows.over:
            self.lost(SessionEvent.CONNECTION_LOST, _NOT_STORED)

    def _wanted(self) -> bool:
        return not self._context.closed and self._session.state == pb.SESSION_STATE_CONNECTING

    def _failed(self, ended: ConnectionEnded) -> None:
        self._ended(ended.end, ended.detail, SessionEvent.CONNECT_FAILED, ended.retry_after)

    def _ended(self, end: End, detail: str, otherwise: SessionEvent, retry_after: float = 0.0) -> None:
        if end in _FOR_GOOD:
            cause, event = _FOR_GOOD[end]
            self.trace.ended(cause, detail, connected=self._context.link is not None)
            self.close_link(cause, detail)
            (self._session.go if end is End.REPLACED else self._session.unpaired)(event, detail)
        elif end in _REFUSED:
            if end is not End.REFUSED:
                network = self._context.driver.name
                metrics.UNUSABLE.labels(network, end.name).inc()
                logger.error(_UNUSABLE[end], account_id=self.id, network=network, detail=detail)
            self.lost(SessionEvent.LOGIN_REFUSED, detail, retry_after)
        elif end is End.CARRIER_GONE and otherwise is SessionEvent.CONNECTION_LOST:
            self.connect_anew(detail)
        else:
            self.lost(otherwise, detail, retry_after)

    def _retry_due(self) -> None:
        self._retry = None
        if self._session.go(SessionEvent.RETRY_DUE):
            self.dial_soon()


_UNUSABLE = {
    End.CLIENT_EXPIRED: "the network takes this version of its client no more: update it",
    End.STATE_UNUSABLE: "what is stored of an account cannot be used: pair it again",
}
_FOR_GOOD = {
    End.REPLACED: (pb.SESSION_CAUSE_REPLACED, SessionEvent.REPLACED),
    End.LOGGED_OUT: (pb.SESSION_CAUSE_LOGGED_OUT, SessionEvent.LOGGED_OUT),
    End.BANNED: (pb.SESSION_CAUSE_BANNED, SessionEvent.BANNED),
}
_REFUSED = frozenset({End.REFUSED, *_UNUSABLE})
_NOT_STORED = "the driver's state cannot be stored"
