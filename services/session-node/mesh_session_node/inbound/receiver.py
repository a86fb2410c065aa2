"""One account's way in: a message is stored, with its event and the mark to fetch its media, before the
network is told.

What is not stored is not acknowledged, so the network offers it again after the next login, wherever that is.
That holds for what the fence refuses. What comes while the database takes nothing waits here, as far as there
is room; for the rest the account connects anew once most of that is done. What the database refuses because
of its data is logged as an error, and a placeholder is stored for it, so that it does not come for ever; were
that refused, too, it is not acknowledged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import structlog
from asyncpg import Record
from asyncpg.pgproto.pgproto import UUID

from mesh_core.database import UNAVAILABLE
from mesh_core.errors import Unavailable
from mesh_core.ids import new_uuid
from mesh_core.telemetry import tracing
from mesh_session_node.context import metrics
from mesh_session_node.context.context import SessionContext
from mesh_session_node.context.driver_rows import ArrivedRows
from mesh_session_node.drivers.interface.content import Incoming, may_be_own
from mesh_session_node.drivers.interface.driver import Link
from mesh_session_node.inbound.arrivals import Arrival, told_by_account, turn_of
from mesh_session_node.inbound.by_settings import AutoRead, is_ignored
from mesh_session_node.inbound.changes import ContentChanges, is_place, writer_of
from mesh_session_node.inbound.fitting import placeholder
from mesh_session_node.inbound.in_order import InOrder
from mesh_session_node.inbound.media import MediaFetcher
from mesh_session_node.inbound.received import as_message, event_of
from mesh_session_node.inbound.votes import Counted, Votes
from mesh_session_node.journal import InboundMessage, Outcome
from mesh_session_node.outbound.references import ReferenceLookup
from sessionmesh.v1 import message_pb2 as pb

logger = structlog.get_logger(__name__)


class Receiver:
    """Stores what the network brings; one for all accounts."""

    def __init__(
        self, lookup: ReferenceLookup, changes: ContentChanges, votes: Votes, media: MediaFetcher
    ) -> None:
        self._lookup = lookup
        self._changes = changes
        self._votes = votes
        self._media = media
        self._auto_read = AutoRead()
        self._in_order = InOrder()
        self._missed: dict[SessionContext, Link | None] = {}
        self._storing: dict[tuple[UUID, str], asyncio.Future[Any]] = {}

    def receive(self, session: SessionContext, came: Incoming) -> None:
        """Store a message from the network, after what came before it in its chat."""
        came = told_by_account(session, came)
        link, turn, uuid = session.bringing, turn_of(session, came), new_uuid()
        changes = None
        if came.changes:
            if session.rows is None:
                return  # of a connection that has ended: it is offered again
            changes = session.rows.arrived(came.changes)
        instead = partial(self._store_placeholder, session, link, came, changes)
        arrival = Arrival(session, link, came, instead, changes)
        if changes is None and is_ignored(session, came.chat):
            arrival.acknowledge()
            return
        if changes is None and not self._in_order.busy(session, turn) and not _needs_look_up(session, came):
            try:
                if (done := self._store(arrival, uuid, {})) is not None:
                    self._announce(arrival, done)
            except Unavailable:
                pass  # it waits for its turn, and then until the database takes it
            else:
                return
        before = [
            storing
            for network_id in arrival.refers_to
            if (storing := self._storing.get((session.ref.uuid, network_id))) is not None
        ]
        done = asyncio.get_running_loop().create_future()
        if self._in_order.add(session, turn, partial(self._in_turn, arrival, uuid, before, done)):
            self._announce(arrival, done)  # at once: what comes next may refer to this one
        else:
            logger.warning("inbound message not stored", account_id=session.id, reason="too many wait")
            if session not in self._missed:
                session.host.spawn(f"ask the network of {session.id} again", self._ask_again(session))
            self._missed[session] = link
            if changes is not None:
                changes.settle(stored=False)

    async def until_stored(self, session: SessionContext, network_id: str) -> None:
        """Return once what has come under this id is stored, or is not going to be."""
        storing = self._storing.get((session.ref.uuid, network_id))
        if storing is not None:
            await asyncio.wait([storing])

    async def _ask_again(self, session: SessionContext) -> None:
        """Connect anew once there is room: the network offers again what was not taken."""
        try:
            while True:
                await asyncio.sleep(_ASK_SECONDS)
                if self._in_order.has_room(session) and session.opening is None:
                    break
        finally:
            link = self._missed.pop(session)
        if session.link is not None and session.link is link:
            session.connect_anew("more messages came than could wait")

    async def _in_turn(
        self, arrival: Arrival, uuid: UUID, before: list[asyncio.Future[Any]], done: asyncio.Future[Any]
    ) -> None:
        """Store a message whose turn it is. One that brought changes has its turn until they are stored:
        what comes behind it may have been made from them.
        """
        changes = arrival.changes
        if changes is None or not changes.over:
            await self._store_in_turn(arrival, uuid, before, done)
        else:
            done.set_result(None)
        if changes is not None:
            if not changes.handed_over:
                changes.settle(stored=False)
            await asyncio.wait([changes.settled])

    async def _store_in_turn(
        self, arrival: Arrival, uuid: UUID, before: list[asyncio.Future[Any]], done: asyncio.Future[Any]
    ) -> None:
        """Store a message. Those that it refers to are looked up once they are stored, if
        they are still on their way to the database. `done` is told when all is.

        Returns as soon as the message is handed to the journal, which keeps the order.
        """
        session, came = arrival.session, arrival.message
        stored: asyncio.Future[Outcome] | None = None
        try:
            if before:
                await asyncio.wait(before)
            while True:
                try:
                    stored = await self._store_with_references(arrival, uuid)
                except _AWAY as error:
                    logger.warning("a message waits for Postgres", account_id=session.id, error=repr(error))
                else:
                    return
                await asyncio.sleep(_RETRY_SECONDS)
                if session.closed or session.bringing is not arrival.link:
                    return  # it is offered again
        except Exception:  # its chat goes on behind it
            logger.exception("a message cannot be stored", account_id=session.id, network_id=came.network_id)
            if arrival.instead is not None and not session.closed:
                arrival.instead()
        finally:
            if stored is None:
                done.set_result(None)
            else:
                stored.add_done_callback(lambda _: done.set_result(None))

    async def _store_with_references(self, arrival: Arrival, uuid: UUID) -> asyncio.Future[Outcome] | None:
        session, came = arrival.session, arrival.message
        if session.closed:
            return None
        if is_ignored(session, came.chat):
            arrival.acknowledge()
            return None
        if unnamed := _unnamed(session, came):
            await self._lookup.recall(session, unnamed)
        if came.target is not None and (came.edited is not None or came.content.HasField("revoked")):
            await self._changes.receive(arrival, came.target)
            return None
        rows = dict[str, Record]()
        for network_id in arrival.refers_to:
            row = await self._lookup.by_network_id(session, network_id)
            if row is not None and (
                row["chat"] == came.chat or not is_place(row)
            ):  # anybody may have made it
                rows[network_id] = row
        if may_be_own(came) and await self._lookup.sent_here(session, came.network_id) is not None:
            arrival.acknowledge()  # the echo of what this API sent
            return None
        if came.content.HasField("poll_vote") and came.target is not None and came.target.network_id in rows:
            return await self._store_vote(arrival, uuid, rows, came.target.network_id)
        return self._store(arrival, uuid, rows)

    async def _store_vote(
        self, arrival: Arrival, uuid: UUID, rows: Mapping[str, Record], poll: str
    ) -> asyncio.Future[Outcome] | None:
        session, came = arrival.session, arrival.message
        async with self._changes.turn(session, poll):
            answers, voter = came.content.poll_vote.answers, writer_of(session, came)
            counted = await self._votes.count(session, poll, voter, answers, came.time)
            stored = self._store(arrival, uuid, rows, counted)
            if stored is not None:
                await asyncio.wait([stored])
        return stored

    def _store_placeholder(
        self, session: SessionContext, link: Link | None, came: Incoming, changes: ArrivedRows | None
    ) -> None:
        arrival = Arrival(session, link, placeholder(came), changes=changes)
        try:
            if (done := self._store(arrival, new_uuid(), {})) is not None:
                self._announce(arrival, done)
        except Unavailable as error:
            logger.warning("a placeholder is not stored", account_id=session.id, reason=error.message)

    def _store(
        self, arrival: Arrival, uuid: UUID, rows: Mapping[str, Record], vote: Counted | None = None
    ) -> asyncio.Future[Outcome] | None:
        """`rows` are those of the messages that it refers to, by the network's ids, as far as they are
        stored; `vote` is what it changes as a vote. Returns the future of its outcome; None when the account
        is no longer here. Raises `Unavailable`.
        """
        session, came = arrival.session, arrival.message
        if session.closed:
            return None
        message = as_message(arrival, uuid, rows)
        traceparent = tracing.begin(came.traceparent)
        span = tracing.start_span(
            "mesh.driver.receive",
            kind="consumer",
            parent=traceparent,
            attributes={
                "messaging.system": session.driver.name,
                "messaging.operation.type": "receive",
                "messaging.message.id": message.id,
                "mesh.account.id": session.id,
            },
        )
        message.traceparent = span.traceparent
        row = InboundMessage(
            id=uuid,
            network_id=came.network_id,
            chat=came.chat,
            content=message.SerializeToString(),
            event=None if came.history else event_of(session, message, came) if vote is None else vote.event,
            network_time=came.time,
            direction=message.direction,
            status=message.status,
            traceparent=span.traceparent,
            media=came.blob,
        )
        span.end()
        return arrival.store(
            row,
            *(() if vote is None else vote.rows),
            then=lambda _: self._stored(session, came, uuid),
            repeated=lambda _: self._came_again(arrival, message),
        )

    def _came_again(self, arrival: Arrival, message: pb.Message) -> None:
        session, came = arrival.session, arrival.message

        async def work() -> None:
            while True:
                try:
                    await self._changes.came_again(arrival, message, partial(self._stored, session, came))
                except _AWAY as error:
                    logger.warning("a message waits for Postgres", account_id=session.id, error=repr(error))
                else:
                    return
                await asyncio.sleep(_RETRY_SECONDS)
                if session.closed or session.bringing is not arrival.link:
                    return  # it is offered again

        session.host.spawn(f"receive {came.network_id} again", work())

    def _announce(self, arrival: Arrival, done: asyncio.Future[Any]) -> None:
        """What refers to this message waits until it is stored."""
        key = arrival.session.ref.uuid, arrival.message.network_id
        self._storing[key] = done
        done.add_done_callback(partial(self._settled, key))

    def _settled(self, key: tuple[UUID, str], done: asyncio.Future[Any]) -> None:
        if self._storing.get(key) is done:  # else it was offered again meanwhile
            del self._storing[key]

    def _stored(self, session: SessionContext, came: Incoming, uuid: UUID) -> None:
        direction = "synced" if came.from_account or came.history else "inbound"
        metrics.MESSAGES.labels(direction, metrics.kind_of(came.content), "RECEIVED").inc()
        self._auto_read.stored(session, came)
        if not came.from_account and not came.history:
            session.counters.came(came.time)
            session.used.messages_received += 1
        session.risk.came(came, session.people)
        if came.blob is not None:
            self._media.add(session, uuid, came.blob)


def _needs_look_up(session: SessionContext, came: Incoming) -> bool:
    """Whether something must be looked up before it can be stored."""
    if came.target is not None or came.reply_to is not None or came.album or _unnamed(session, came):
        return True
    return may_be_own(came) and session.driver.message_of(came.network_id) is not None


def _unnamed(session: SessionContext, came: Incoming) -> Sequence[str]:
    """The address of the person on the other side, if their number is not known, but may be stored."""
    other = came.chat if came.from_account else came.sender
    if other.startswith("phone:") or (came.identity is not None and came.identity.phone):
        return ()
    return session.people.to_recall([other])


_RETRY_SECONDS = 1.0
_ASK_SECONDS = 1.0
_AWAY: tuple[type[Exception], ...] = (Unavailable, *UNAVAILABLE)
"""The database cannot be asked, or takes nothing."""
