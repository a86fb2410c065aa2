"""One account's way in: a message is stored, with its event and the mark to fetch its media, before the
network is told.

What is not stored is not acknowledged, so the network offers it again after the next login, wherever that is.
That holds for what the fence refuses, for what comes while too much waits for the database, and for what the
database refuses because of its data: this is logged as an error each time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import structlog
from asyncpg.pgproto.pgproto import UUID

from mesh_core.errors import MeshError
from mesh_core.ids import Prefix, encode, new_uuid
from mesh_core.telemetry import tracing
from mesh_session_node.context import metrics
from mesh_session_node.context.context import SessionContext
from mesh_session_node.drivers.interface.content import Incoming, recipient_of
from mesh_session_node.drivers.interface.driver import Link
from mesh_session_node.inbound.media import MediaFetcher
from mesh_session_node.journal import (
    Committed,
    ContentUpdate,
    Duplicate,
    Event,
    InboundMessage,
    Outcome,
    Poison,
    Row,
)
from mesh_session_node.outbound.outgoing import message_of
from mesh_session_node.store.messages import MessageStore
from sessionmesh.v1 import message_pb2 as pb

logger = structlog.get_logger(__name__)


class Receiver:
    """Stores what the network brings; one for all accounts."""

    def __init__(self, messages: MessageStore, media: MediaFetcher) -> None:
        self._messages = messages
        self._media = media

    def receive(self, session: SessionContext, came: Incoming) -> None:
        """Store a message from the network."""
        arrival = _Arrival(session, session.link, came)
        if _refers_to_another(came):
            session.host.spawn(f"receive {came.network_id}", self._receive_reference(arrival))
        else:
            self._store(arrival, None)

    async def _receive_reference(self, arrival: _Arrival) -> None:
        """Store a message that refers to an earlier one, which is looked up first."""
        session, came = arrival.session, arrival.message
        target = came.target or came.reply_to
        found = message_of(target)
        row = None
        if found is None:
            found = await self._messages.by_network_id(session.ref.uuid, target)
        if found is not None:
            row = await self._messages.message(session.ref.uuid, found)
        kind = came.content.WhichOneof("kind")
        if row is not None and found is not None and (came.edited is not None or kind == "revoked"):
            _change(arrival, found, row["content"], row["direction"])
        else:
            self._store(arrival, found if row is not None else None)

    def _store(self, arrival: _Arrival, referred: UUID | None) -> None:
        """`referred` is our id of the message that it reacts to or answers, where that is known."""
        session, came = arrival.session, arrival.message
        if session.closed:
            return
        uuid = new_uuid()
        message = as_message(session, uuid, came)
        if referred is not None:
            name = encode(Prefix.MESSAGE, referred)
            if came.content.WhichOneof("kind") == "reaction":
                message.content.reaction.message_id = name
            elif came.reply_to:
                message.options.reply_to_message_id = name
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
            traceparent=span.traceparent,
            media=came.blob,
        )
        span.end()
        arrival.store(row, then=partial(self._stored, session, uuid, came))

    def _stored(self, session: SessionContext, uuid: UUID, came: Incoming, outcome: Outcome) -> None:
        if isinstance(outcome, Committed):
            metrics.INBOUND.inc()
            session.counters.came(came.time)
            if came.blob is not None:
                self._media.add(session, uuid, came.blob)


@dataclass(frozen=True, slots=True)
class _Arrival:
    """What came, and the connection that brought it."""

    session: SessionContext
    link: Link | None
    message: Incoming

    def store(self, *rows: Row, then: Callable[[Outcome], None]) -> None:
        """Write the rows; when they are stored, or were before, acknowledge the message and call `then`."""
        session = self.session
        try:
            done = session.host.journal.write(session.ref, *rows)
        except MeshError as error:
            logger.warning("inbound message not stored", account_id=session.id, reason=error.message)
            return
        done.add_done_callback(partial(self._settled, then))

    def acknowledge(self) -> None:
        """The message is safe with us; over the connection that brought it, if that still stands."""
        present = self.session.link
        if present is not None and self.link in (present, None):
            present.acknowledge(self.message.network_id)

    def _settled(self, then: Callable[[Outcome], None], done: asyncio.Future[Outcome]) -> None:
        if done.cancelled() or done.exception() is not None:
            return
        outcome = done.result()
        if isinstance(outcome, Poison):
            logger.error(
                "the database refuses an inbound message",
                account_id=self.session.id,
                network_id=self.message.network_id,
                error=str(outcome.error),
            )
        if not self.session.closed and isinstance(outcome, Committed | Duplicate):
            self.acknowledge()
            then(outcome)


def as_message(session: SessionContext, uuid: UUID, came: Incoming) -> pb.Message:
    """A message from the network in the API's form."""
    message = pb.Message(
        id=encode(Prefix.MESSAGE, uuid),
        account_id=session.id,
        direction=pb.DIRECTION_INBOUND,
        chat=recipient_of(came.chat),
        content=came.content,
        network_message_id=came.network_id,
        sender=pb.Sender(address=recipient_of(came.sender), push_name=came.push_name),
    )
    if came.mentions or came.forwarded or came.expire_seconds:
        options = message.options
        options.mentions.extend([recipient_of(address) for address in came.mentions])
        options.forwarded = came.forwarded
        options.disappear_after_seconds = came.expire_seconds
    message.network_time.FromMicroseconds(came.time)
    message.create_time.FromMilliseconds(time.time_ns() // 1_000_000)
    return message


def _change(arrival: _Arrival, target: UUID, content: bytes, direction: int) -> None:
    """An earlier message was edited or taken back; only its own writer can do that, so it is inbound."""
    session, came = arrival.session, arrival.message
    if session.closed:
        return
    if direction != pb.DIRECTION_INBOUND:
        arrival.acknowledge()  # there is nothing to store
        return
    message = pb.Message.FromString(content)
    message.content.CopyFrom(came.edited if came.edited is not None else came.content)
    type_ = "message.edited" if came.edited is not None else "message.revoked"
    event = session.events.changed(type_, message, came.time or time.time_ns() // 1000)
    arrival.store(ContentUpdate(target, message.SerializeToString()), event, then=_nothing)


def _nothing(_outcome: Outcome) -> None:
    pass


def _event(session: SessionContext, message: pb.Message, came: Incoming) -> Event:
    if came.content.WhichOneof("kind") == "reaction":
        return session.events.reaction(message, came.time, message.traceparent)
    return session.events.received(message, came.time, message.traceparent)


def _refers_to_another(came: Incoming) -> bool:
    if came.target or came.reply_to:
        return True
    return came.content.WhichOneof("kind") == "reaction"
