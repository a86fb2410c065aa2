"""One account's connection: dialling, its end, and when it is tried again."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

import structlog

from mesh_core.ids import new_uuid
from mesh_session_node.account.reconnect import Failures
from mesh_session_node.account.state import Cause, SessionEvent, State, transition
from mesh_session_node.context import metrics
from mesh_session_node.context.context import SessionContext
from mesh_session_node.drivers.interface.driver import Link, LinkEvents
from mesh_session_node.drivers.interface.outcomes import ConnectionEnded, End
from mesh_session_node.journal import Disconnect
from mesh_session_node.outbound.sender import Sender
from sessionmesh.v1 import session_pb2 as pb

logger = structlog.get_logger(__name__)


class Dialer(Protocol):
    """Who waits for a turn to dial."""

    @property
    def id(self) -> str: ...
    async def dial(self) -> None:
        """Connect and log in."""


class ConnectQueue(Protocol):
    """Gives turns to dial."""

    def admit(self, dialer: Dialer) -> None:
        """Call `dial` when its turn comes, in a task of its own."""


class StateMachine(Protocol):
    """The session's states, as its connection follows and moves them."""

    state: State

    def go(self, event: SessionEvent, detail: str = "") -> bool:
        """Follow the table; False when the event means nothing now."""

    def unpaired(self, event: SessionEvent, detail: str) -> None:
        """The network has ended the pairing."""


class Connector:
    """Dials, and connects again when the connection is lost. Times are microseconds since the epoch."""

    __slots__ = (
        "_context",
        "_dialing",
        "_events",
        "_queue",
        "_retry",
        "_sender",
        "_session",
        "connected_at",
        "failures",
        "next_connect",
    )

    def __init__(
        self,
        context: SessionContext,
        session: StateMachine,
        sender: Sender,
        events: LinkEvents,
        queue: ConnectQueue,
    ) -> None:
        self._context = context
        self._session = session
        self._sender = sender
        self._events = events
        self._queue = queue
        self.failures = Failures(context.host.settings.failures_per_hour)
        self.connected_at: int | None = None
        self.next_connect: int | None = None
        """When it dials again; None unless it waits for that."""
        self._dialing: asyncio.Task[None] | None = None
        self._retry: asyncio.TimerHandle | None = None

    @property
    def id(self) -> str:
        return self._context.id

    def dial_soon(self) -> None:
        """Dial when its turn comes."""
        self._queue.admit(self)

    async def dial(self) -> None:
        """Connect and log in; called when its turn has come."""
        context, session = self._context, self._session
        state = context.driver_state
        if not self._wanted() or context.link is not None or state is None:
            return
        if not context.host.may_act(context.ref):
            return
        self._dialing = asyncio.current_task()
        try:
            link = await context.driver.connect(state, self._events)
        except ConnectionEnded as error:
            if self._wanted():
                self._failed(error)
            return
        finally:
            self._dialing = None
        if not self._wanted() or not context.host.may_act(context.ref):
            link.abort()
            return
        if link.ended is not None:
            self._failed(link.ended)
            return
        context.link = link
        context.counters.connects += 1
        self.connected_at = time.time_ns() // 1000
        session.go(SessionEvent.LOGGED_IN)
        self._sender.pump()

    def on_end(self, link: Link, end: End, detail: str) -> None:
        """A connection has ended; nothing when it is not the present one."""
        if link is self._context.link:
            self._ended(end, detail, SessionEvent.CONNECTION_LOST)

    def lost(self, event: SessionEvent, detail: str, retry_after: float = 0.0) -> None:
        """Close what is left of the connection, and dial again later: after `retry_after` seconds or more."""
        found = transition(self._session.state, event)
        self.close_link(found[1] if found is not None else pb.SESSION_CAUSE_UNSPECIFIED, detail)
        now = time.monotonic()
        self.failures.add(now)
        delay = max(self.failures.delay(now), retry_after)
        if self.failures.quarantined(now):
            metrics.QUARANTINED.inc()
            logger.warning("session quarantined", account_id=self.id, seconds=round(delay), detail=detail)
            event = SessionEvent.QUARANTINED
        self.next_connect = int((time.time() + delay) * 1e6)
        if self._session.go(event, detail):
            self._retry = self._context.host.loop.call_later(delay, self._retry_due)

    def close_link(self, cause: Cause, detail: str) -> None:
        """Close the connection and record its end, if there is one."""
        context = self._context
        link, context.link = context.link, None
        if link is not None:
            link.abort()
            metrics.RECONNECTS.labels(metrics.CAUSE_NAMES[cause]).inc()
            now = time.time_ns() // 1000
            row = Disconnect(new_uuid(), cause, detail, context.host.node_id, self.connected_at, now)
            context.host.journal.post(context.ref, row)
        self.connected_at = None
        self._sender.link_gone()

    def cancel(self) -> None:
        """Neither dial again nor finish dialling, unless it has succeeded."""
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if self._dialing is not None and self._session.state != pb.SESSION_STATE_CONNECTED:
            self._dialing.cancel()

    def left_backoff(self) -> None:
        """The session does not wait for its next attempt any more."""
        self.next_connect = None
        self.cancel()

    def _wanted(self) -> bool:
        return not self._context.closed and self._session.state == pb.SESSION_STATE_CONNECTING

    def _failed(self, ended: ConnectionEnded) -> None:
        self._ended(ended.end, ended.detail, SessionEvent.CONNECT_FAILED, ended.retry_after)

    def _ended(self, end: End, detail: str, otherwise: SessionEvent, retry_after: float = 0.0) -> None:
        if end is End.REPLACED:
            self.close_link(pb.SESSION_CAUSE_REPLACED, detail)
            self._session.go(SessionEvent.REPLACED, detail)
        elif end is End.LOGGED_OUT:
            self.close_link(pb.SESSION_CAUSE_LOGGED_OUT, detail)
            self._session.unpaired(SessionEvent.LOGGED_OUT, detail)
        elif end is End.BANNED:
            self.close_link(pb.SESSION_CAUSE_BANNED, detail)
            self._session.unpaired(SessionEvent.BANNED, detail)
        elif end is End.REFUSED:
            self.lost(SessionEvent.LOGIN_REFUSED, detail, retry_after)
        else:
            self.lost(otherwise, detail, retry_after)

    def _retry_due(self) -> None:
        self._retry = None
        if self._session.go(SessionEvent.RETRY_DUE):
            self.dial_soon()
