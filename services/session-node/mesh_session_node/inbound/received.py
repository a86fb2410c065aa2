"""A message from the network in the API's form, and its event."""

from __future__ import annotations

from collections.abc import Mapping

from asyncpg import Record
from asyncpg.pgproto.pgproto import UUID

from mesh_core.ids import Prefix, encode
from mesh_session_node.context.context import SessionContext
from mesh_session_node.context.message_rows import message_of_row, set_create_time
from mesh_session_node.drivers.interface.content import Incoming, Reference
from mesh_session_node.inbound.arrivals import Arrival
from mesh_session_node.inbound.changes import writer_of
from mesh_session_node.journal import Event
from mesh_session_node.store.media import media_of
from sessionmesh.v1 import content_pb2
from sessionmesh.v1 import message_pb2 as pb
from sessionmesh.v1.common_pb2 import MessageRef


def as_message(arrival: Arrival, uuid: UUID, rows: Mapping[str, Record]) -> pb.Message:
    """A message from the network in the API's form; `rows` as for `Receiver`."""
    session, came = arrival.session, arrival.message
    message = pb.Message(
        id=encode(Prefix.MESSAGE, uuid),
        account_id=session.id,
        direction=pb.DIRECTION_INBOUND,
        chat=came.chat,
        content=came.content,
        network_message_id=came.network_id,
        from_history=came.history,
    )
    if came.from_account:
        message.direction, message.origin = pb.DIRECTION_OUTBOUND, pb.MESSAGE_ORIGIN_OTHER_DEVICE
        message.status = pb.MESSAGE_STATUS_SENT
        if came.identity is not None:
            session.people.learn(came.chat, came.identity)
        session.people.show(message, came.chat)
    message.sender.CopyFrom(writer_of(session, came))
    _refer(arrival, message, rows)
    if came.mentions or came.forward_score or came.expire_seconds:
        options = message.options
        options.mentions.extend(came.mentions)
        options.forward_score = came.forward_score
        if came.expire_seconds:
            options.disappear_after.seconds = came.expire_seconds
    message.network_time.FromMicroseconds(came.time)
    set_create_time(message, uuid)
    return message


def _refer(arrival: Arrival, message: pb.Message, rows: Mapping[str, Record]) -> None:
    """Say which earlier messages it refers to."""
    session, came = arrival.session, arrival.message
    kind = message.content.WhichOneof("kind") or ""
    if came.target is not None and kind in _ABOUT:
        about: MessageRef = getattr(getattr(message.content, kind), _ABOUT[kind])
        about.CopyFrom(arrival.ref(came.target, rows))
    if (reply_to := came.reply_to) is not None:
        message.quoted.ref.CopyFrom(arrival.ref(reply_to, rows))
        if (row := rows.get(reply_to.network_id)) is not None:
            message.quoted.content.CopyFrom(message_of_row(session.id, session.people, row).content)
        elif reply_to.content is not None:
            message.quoted.content.CopyFrom(reply_to.content)
        media = media_of(message.quoted.content)
        if media is not None and media.state == content_pb2.MEDIA_STATE_PENDING:
            media.ClearField("state")  # nobody would ever change it here
    if came.album:
        message.album.CopyFrom(arrival.ref(Reference(came.album, sender=came.sender), rows))


def event_of(session: SessionContext, message: pb.Message, came: Incoming) -> Event:
    """What is told of a message that came."""
    if message.content.HasField("reaction") and not came.from_account:
        return session.events.reaction(message, came.time, message.traceparent)
    return session.events.received(message, came.time, message.traceparent)


_ABOUT = {"reaction": "message", "poll_vote": "poll", "choice": "message", "form_reply": "message"}
"""Kinds of content that are about an earlier message, and their field that names it."""
