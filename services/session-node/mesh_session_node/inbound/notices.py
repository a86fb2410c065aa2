"""What the network tells beside messages: taken one after another for each account, stored with its events,
and then acknowledged.

A notice that wants an acknowledgement is offered again after each login until it has one. So what cannot be
stored at the moment, or comes when too many wait, is let go, with all of its connection that comes behind it:
the newer must not be stored before the older. For what was let go for want of room the account connects anew
once there is some. A notice that wants no acknowledgement is only of the moment: the oldest of them give way.
What a taker fails to take costs that notice alone.
"""

from __future__ import annotations

import asyncio
from collections import Counter as Sums
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import structlog
from asyncpg.pgproto.pgproto import UUID

from mesh_core.database import UNAVAILABLE
from mesh_core.errors import Unavailable
from mesh_core.metrics import counters
from mesh_core.telemetry import tracing
from mesh_session_node.context.context import SessionContext
from mesh_session_node.context.events import in_trace
from mesh_session_node.drivers.interface.driver import Link
from mesh_session_node.drivers.interface.notices import Notice
from mesh_session_node.inbound.notice_takers import NoticeTaker, NoticeTakers
from mesh_session_node.journal import Committed, Duplicate, Poison, Row

logger = structlog.get_logger(__name__)

MAX_WAITING = 500
"""How many notices of one account may wait for their turn."""
MAX_WAITING_OF_ALL = 20_000
"""How many of all accounts may; a tenant's get more room while they have less than is free."""
TAKEN = counters(
    "mesh_notices_total",
    "What networks told beside messages, by what became of it.",
    answers="Is something lost of what networks tell?",
    outcome=["stored", "failed", "refused", "dropped", "missed"],
)


@dataclass(frozen=True, slots=True)
class _Told:
    notice: Notice
    sequence: int
    link: Link | None
    """The connection that told it; None: the one that was about to log in."""
    connects: int
    """How often the session had connected then."""


class _Queue:
    """What of one account waits. `missed` is the connection of which something was let go; `asking`: it is to
    end once there is room.
    """

    __slots__ = ("asking", "missed", "waiting")

    def __init__(self) -> None:
        self.waiting: deque[_Told] = deque()
        self.missed: _Told | None = None
        self.asking = False


class Notices:
    """Implements `ToldBeside`; one for all accounts. `takers` are by the kind of notice."""

    def __init__(self, takers: NoticeTakers) -> None:
        self._takers = takers
        self._queues: dict[SessionContext, _Queue] = {}
        self._of_tenants: Sums[UUID] = Sums()
        self._all = 0

    def receive(self, session: SessionContext, notice: Notice, sequence: int) -> None:
        """Take a notice after those before it. Returns at once."""
        if session.closed:
            return
        told = _Told(notice, sequence, session.bringing, session.counters.connects)
        queue = self._queues.get(session)
        if queue is None:
            queue = self._queues[session] = _Queue()
            session.host.spawn(f"notices of {session.id}", self._run(session, queue))
        if sequence and queue.missed is not None and _same_connection(queue.missed, told):
            TAKEN.labels("missed").inc()
            return
        free = MAX_WAITING_OF_ALL - self._all
        full = len(queue.waiting) >= MAX_WAITING or self._of_tenants[session.ref.tenant] >= free
        if full and not self._make_room(session, queue):
            self._let_go(session, queue, told)
            return
        queue.waiting.append(told)
        self._count(session, 1)

    def _count(self, session: SessionContext, more: int) -> None:
        tenant = session.ref.tenant
        self._all += more
        self._of_tenants[tenant] += more
        if not self._of_tenants[tenant]:
            del self._of_tenants[tenant]

    def _make_room(self, session: SessionContext, queue: _Queue) -> bool:
        """Let the account's oldest notice go that is only of the moment."""
        for at, told in enumerate(queue.waiting):
            if not told.sequence:
                del queue.waiting[at]
                self._count(session, -1)
                TAKEN.labels("dropped").inc()
                return True
        return False

    def _let_go(self, session: SessionContext, queue: _Queue, told: _Told) -> None:
        if not told.sequence:
            TAKEN.labels("dropped").inc()
            return
        TAKEN.labels("missed").inc()
        logger.warning("more was told beside messages than can wait", account_id=session.id)
        queue.missed, queue.asking = told, True

    def _let_go_behind(self, session: SessionContext, queue: _Queue, missed: _Told) -> None:
        queue.missed = missed
        kept = [told for told in queue.waiting if not (told.sequence and _same_connection(missed, told))]
        TAKEN.labels("missed").inc(1 + len(queue.waiting) - len(kept))
        self._count(session, len(kept) - len(queue.waiting))
        queue.waiting = deque(kept)

    async def _run(self, session: SessionContext, queue: _Queue) -> None:
        """Until nothing of the account waits. It yields once before, so that what comes in one read is
        queued.
        """
        try:
            while queue.waiting:
                told = queue.waiting.popleft()
                self._count(session, -1)
                if not await self._take(session, told) and told.sequence:
                    self._let_go_behind(session, queue, told)
                if queue.asking and not queue.waiting:
                    queue.asking = False
                    await asyncio.sleep(_ASK_SECONDS)
                    if queue.missed is not None and _is_of(session, queue.missed):
                        session.connect_anew("more was told beside messages than could wait")
        finally:
            self._count(session, -len(queue.waiting))
            del self._queues[session]

    async def _take(self, session: SessionContext, told: _Told) -> bool:
        """Take a notice, and acknowledge it. False: it is not stored, and comes again."""
        while not session.closed:
            try:
                stored = await self._taken(session, told)
            except _AWAY as error:
                logger.warning("a notice waits for Postgres", account_id=session.id, error=repr(error))
                if not told.sequence:
                    TAKEN.labels("dropped").inc()
                    return False
            else:
                if stored:
                    self._acknowledge(session, told)
                return stored
            await asyncio.sleep(_RETRY_SECONDS)
            if not _is_of(session, told):
                return False
        return False

    async def _taken(self, session: SessionContext, told: _Told) -> bool:
        """Have a notice taken and stored, with nothing in between that changes what it is about."""
        taker = self._takers.get(type(told.notice))
        if taker is None:
            return not session.closed
        about = {"mesh.account.id": session.id, "mesh.notice": type(told.notice).__name__}
        async with taker.turn(session, told.notice):
            with tracing.start_span(
                "mesh.driver.notice", kind="consumer", parent="", attributes=about
            ) as span:
                rows = await self._rows(taker, session, told)
                return await self._stored(session, [in_trace(row, span.traceparent) for row in rows])

    async def _rows(self, taker: NoticeTaker, session: SessionContext, told: _Told) -> Sequence[Row]:
        try:
            return await taker.take(session, told.notice)
        except _AWAY:
            raise
        except Exception:  # this notice's; it would fail again, so it is acknowledged
            TAKEN.labels("failed").inc()
            kind = type(told.notice).__name__
            logger.exception("a notice could not be taken", account_id=session.id, kind=kind)
            return ()

    async def _stored(self, session: SessionContext, rows: Sequence[Row]) -> bool:
        if not rows:
            return not session.closed
        if session.closed:
            return False
        stored = session.host.journal.write(session.ref, *rows, *session.people.news)
        session.people.stored()
        outcome = await asyncio.shield(stored)
        if isinstance(outcome, Poison):  # it would be refused again, so it is acknowledged
            TAKEN.labels("refused").inc()
            logger.error("the database refuses a notice", account_id=session.id, error=str(outcome.error))
            return True
        if isinstance(outcome, Committed | Duplicate):
            TAKEN.labels("stored").inc()
            return True
        return False

    def _acknowledge(self, session: SessionContext, told: _Told) -> None:
        present = session.bringing
        if told.sequence and present is not None and _is_of(session, told):
            present.acknowledge_notice(told.sequence)


def _is_of(session: SessionContext, told: _Told) -> bool:
    """Whether the connection that told it is the present one."""
    if told.link is not None:
        return session.bringing is told.link
    return session.counters.connects - (session.link is not None) == told.connects


def _same_connection(one: _Told, other: _Told) -> bool:
    """Whether two were told by one connection, also where the first came before it had logged in."""
    if one.link is None:
        return other.connects - (other.link is not None) == one.connects
    return one.link is other.link


_RETRY_SECONDS = 1.0
_ASK_SECONDS = 1.0
_AWAY: tuple[type[Exception], ...] = (Unavailable, *UNAVAILABLE)
"""The database cannot be asked, or takes nothing."""
