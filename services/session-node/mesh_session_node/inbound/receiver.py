"""One account's way in: a message is stored, with its event and the mark to fetch its media, before the
network is told.

What is not stored is not acknowledged, so the network offers it again after the next login, wherever that is.
That holds for what the fence refuses, and for what comes while too much waits for the database. What the
database refuses because of its data is logged as an error, and a placeholder is stored for it, so that it
does not come again for ever; were that refused, too, it is not acknowledged.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import structlog
from asyncpg import Record
from asyncpg.pgproto.pgproto import UUID

from mesh_core.database import UNAVAILABLE
from mesh_core.ids import Prefix, encode, new_uuid
from mesh_core.telemetry import tracing
from mesh_session_node.context import metrics
from mesh_session_node.context.context import SessionContext
from mesh_session_node.context.message_rows import message_of_row, set_create_time
from mesh_session_node.drivers.interface.content import Incoming, Reference, person_of
from mesh_session_node.drivers.interface.driver import Link
from mesh_session_node.inbound.arrivals import Arrival
from mesh_session_node.inbound.changes import ContentChanges
from mesh_session_node.inbound.fitting import placeholder
from mesh_session_node.inbound.media import MediaFetcher
from mesh_session_node.journal import Committed, Event, InboundMessage, Outcome
from mesh_session_node.outbound.references import ReferenceLookup
from sessionmesh.v1 import message_pb2 as pb
from sessionmesh.v1.common_pb2 import MessageRef

logger = structlog.get_logger(__name__)


class Receiver:
    """Stores what the network brings; one for all accounts."""

    def __init__(self, lookup: ReferenceLookup, changes: ContentChanges, media: MediaFetcher) -> None:
        self._lookup = lookup
        self._changes = changes
        self._media = media
        self._storing: dict[tuple[UUID, str], asyncio.Future[Any]] = {}

    def receive(self, session: SessionContext, came: Incoming) -> None:
        """Store a message from the network."""
        link = session.link
        instead = partial(self._store_placeholder, session, link, came)
        arrival, uuid = Arrival(session, link, came, instead), new_uuid()
        about = came.target or came.reply_to
        if about is None:
            if (done := self._store(arrival, uuid, None)) is not None:
                self._announce(arrival, done)
            return
        before = self._storing.get((session.ref.uuid, about.network_id))
        done = asyncio.get_running_loop().create_future()
        self._announce(arrival, done)  # at once: what comes next may refer to this one
        work = self._receive_reference(arrival, uuid, about, before, done)
        session.host.spawn(f"receive {came.network_id}", work)

    async def _receive_reference(
        self,
        arrival: Arrival,
        uuid: UUID,
        about: Reference,
        before: asyncio.Future[Any] | None,
        done: asyncio.Future[Any],
    ) -> None:
        """Store a message that refers to an earlier one, which is looked up once it is stored, if it is
        still on its way to the database. `done` is told when all is.
        """
        session, came = arrival.session, arrival.message
        try:
            if before is not None:
                await asyncio.wait([before])
            while True:
                try:
                    await self._store_with_reference(arrival, uuid, about)
                except UNAVAILABLE as error:
                    logger.warning("a message waits for Postgres", account_id=session.id, error=repr(error))
                else:
                    return
                await asyncio.sleep(_RETRY_SECONDS)
                if session.closed or session.link is not arrival.link:
                    return  # it is offered again
        except Exception:
            logger.exception("a message cannot be stored", account_id=session.id, network_id=came.network_id)
            if arrival.instead is not None and not session.closed:
                arrival.instead()
        finally:
            done.set_result(None)

    async def _store_with_reference(self, arrival: Arrival, uuid: UUID, about: Reference) -> None:
        session, came = arrival.session, arrival.message
        if came.edited is not None or came.content.HasField("revoked"):
            await self._changes.receive(arrival, about)
            return
        referred = await self._lookup.by_network_id(session.ref.uuid, about.network_id)
        if (stored := self._store(arrival, uuid, referred)) is not None:
            await asyncio.wait([stored])

    def _store_placeholder(self, session: SessionContext, link: Link | None, came: Incoming) -> None:
        arrival = Arrival(session, link, placeholder(came))
        if (done := self._store(arrival, new_uuid(), None)) is not None:
            self._announce(arrival, done)

    def _store(self, arrival: Arrival, uuid: UUID, referred: Record | None) -> asyncio.Future[Outcome] | None:
        """`referred` is the row of the message that it is about or answers, where there is one. Returns the
        future of its outcome; None when it cannot be stored now.
        """
        session, came = arrival.session, arrival.message
        if session.closed:
            return None
        message = as_message(arrival, uuid, referred)
        traceparent = tracing.begin("")
        span = tracing.start_span(
            "mesh.driver.receive",
            kind="consumer",
            parent=traceparent,
            attributes={"messaging.message.id": message.id},
        )
        message.traceparent = span.traceparent
        row = InboundMessage(
            id=uuid,
            network_id=came.network_id,
            chat=came.chat,
            content=message.SerializeToString(),
            event=_event(session, message, came),
            network_time=came.time,
            direction=message.direction,
            status=message.status,
            traceparent=span.traceparent,
            media=came.blob,
        )
        span.end()
        return arrival.store(row, then=partial(self._stored, session, uuid, came))

    def _announce(self, arrival: Arrival, done: asyncio.Future[Any]) -> None:
        """What refers to this message waits until it is stored."""
        key = arrival.session.ref.uuid, arrival.message.network_id
        self._storing[key] = done
        done.add_done_callback(partial(self._settled, key))

    def _settled(self, key: tuple[UUID, str], done: asyncio.Future[Any]) -> None:
        if self._storing.get(key) is done:  # else it was offered again meanwhile
            del self._storing[key]

    def _stored(self, session: SessionContext, uuid: UUID, came: Incoming, outcome: Outcome) -> None:
        if isinstance(outcome, Committed):
            metrics.INBOUND.inc()
            if not came.from_account:
                session.counters.came(came.time)
            if came.blob is not None:
                self._media.add(session, uuid, came.blob)


def as_message(arrival: Arrival, uuid: UUID, referred: Record | None) -> pb.Message:
    """A message from the network in the API's form."""
    session, came = arrival.session, arrival.message
    message = pb.Message(
        id=encode(Prefix.MESSAGE, uuid),
        account_id=session.id,
        direction=pb.DIRECTION_INBOUND,
        chat=came.chat,
        content=came.content,
        network_message_id=came.network_id,
    )
    if came.from_account:
        message.direction, message.origin = pb.DIRECTION_OUTBOUND, pb.MESSAGE_ORIGIN_OTHER_DEVICE
        message.status = pb.MESSAGE_STATUS_SENT
        message.sender.CopyFrom(person_of(came.sender, arrival.own))
        if came.identity is not None:
            session.people.learn(came.chat, came.identity)
        session.people.show(message, came.chat)
    else:
        message.sender.CopyFrom(session.people.learn(came.sender, came.identity, came.push_name))
    _refer(arrival, message, referred)
    if came.mentions or came.forward_score or came.expire_seconds:
        options = message.options
        options.mentions.extend(came.mentions)
        options.forward_score = came.forward_score
        if came.expire_seconds:
            options.disappear_after.seconds = came.expire_seconds
    message.network_time.FromMicroseconds(came.time)
    set_create_time(message, uuid)
    return message


def _refer(arrival: Arrival, message: pb.Message, referred: Record | None) -> None:
    """Say which earlier messages it refers to."""
    session, came = arrival.session, arrival.message
    kind = message.content.WhichOneof("kind") or ""
    if came.target is not None and kind in _ABOUT:
        about: MessageRef = getattr(getattr(message.content, kind), _ABOUT[kind])
        about.CopyFrom(arrival.ref(came.target, referred))
    if (reply_to := came.reply_to) is not None:
        same = came.target is None or came.target.network_id == reply_to.network_id
        row = referred if same else None
        message.quoted.ref.CopyFrom(arrival.ref(reply_to, row))
        if reply_to.content is not None:
            message.quoted.content.CopyFrom(reply_to.content)
        elif row is not None:
            message.quoted.content.CopyFrom(message_of_row(session.id, session.people, row).content)
    if came.album:
        message.album.CopyFrom(arrival.ref(Reference(came.album), None))


def _event(session: SessionContext, message: pb.Message, came: Incoming) -> Event:
    if message.content.HasField("reaction") and not came.from_account:
        return session.events.reaction(message, came.time, message.traceparent)
    return session.events.received(message, came.time, message.traceparent)


_ABOUT = {"reaction": "message", "poll_vote": "poll", "choice": "message", "form_reply": "message"}
"""Kinds of content that are about an earlier message, and their field that names it."""
_RETRY_SECONDS = 1.0
