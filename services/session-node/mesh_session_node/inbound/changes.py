"""Stored messages whose content changes: edited or taken back by their writers, or their media fetched.

Whatever changes one message comes one after the other, each from what the one before has stored, so that none
undoes another.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from asyncpg import Record
from asyncpg.pgproto.pgproto import UUID

from mesh_core.ids import Prefix, encode, new_uuid
from mesh_session_node.context.context import SessionContext
from mesh_session_node.context.locks import Locks
from mesh_session_node.context.media_uses import revoked_media_use
from mesh_session_node.context.message_rows import (
    content_of_row,
    message_of_row,
    read_message,
    set_create_time,
)
from mesh_session_node.drivers.interface.content import (
    Incoming,
    Reference,
    is_one_of,
    is_person,
    person_of,
)
from mesh_session_node.inbound.arrivals import Arrival
from mesh_session_node.journal import (
    ContentUpdate,
    Duplicate,
    FetchBegin,
    InboundMessage,
    InPlace,
    Outcome,
    Row,
)
from mesh_session_node.outbound.references import ReferenceLookup
from mesh_session_node.store.media import media_of
from sessionmesh.v1 import content_pb2
from sessionmesh.v1 import message_pb2 as pb
from sessionmesh.v1.common_pb2 import Person


class ContentChanges:
    """Changes contents; one for all accounts."""

    def __init__(self, lookup: ReferenceLookup) -> None:
        self._lookup = lookup
        self._turns = Locks[tuple[UUID, str]]()

    def turn(self, session: SessionContext, network_id: str) -> asyncio.Lock:
        """Held by whoever changes the message that the network knows by this id, until it is stored."""
        return self._turns.of((session.ref.uuid, network_id))

    async def receive(self, arrival: Arrival, target: Reference) -> None:
        """An earlier message was edited or taken back. One that is not stored gets a place: a message that
        says what it says now. What cannot be read, or names no message, changes nothing.
        """
        session, came = arrival.session, arrival.message
        unreadable = came.edited is not None and came.edited.WhichOneof("kind") in (None, "unknown")
        if unreadable or not target.network_id:
            arrival.acknowledge()
            return
        async with self.turn(session, target.network_id):
            if isinstance(await self._change(arrival, target), Duplicate) and isinstance(  # it came meanwhile
                await self._change(arrival, target), Duplicate
            ):
                arrival.acknowledge()  # it was stored, and is past its retention: there is nothing to change

    async def came_again(self, arrival: Arrival, message: pb.Message, then: Callable[[UUID], None]) -> None:
        """A message came that is stored, which is acknowledged. If only its place is stored, since a change
        of it came first, it is stored there, and `then` is called with its id: with that change where its
        writer may have made it, else without anything of what the place said. What could not be shown before,
        and can now, is an edit.
        """
        session, came = arrival.session, arrival.message
        async with self.turn(session, came.network_id):
            row = await self._lookup.by_network_id(session, came.network_id)
            if session.closed:
                return
            stored = None if row is None else message_of_row(session.id, session.people, row)
            if row is not None and stored is not None and _can_be_shown_now(stored, message):
                await self._show(arrival, row, stored, message, then)
                return
            if row is None or stored is None or not is_place(row):
                arrival.acknowledge()
                return
            place = stored
            message.id, message.traceparent = place.id, place.traceparent
            set_create_time(message, row["id"])
            if _may_stand(place, message):
                message.edit_time.CopyFrom(place.edit_time)
                if place.content.HasField("revoked"):
                    message.content.CopyFrom(place.content)
                else:
                    _edit(message, place.content, place.options.mentions)
            filled = InPlace(
                row["id"],
                message.chat,
                message.SerializeToString(),
                network_time=came.time,
                direction=message.direction,
                status=message.status,
                edit_time=message.edit_time.ToMicroseconds() if message.HasField("edit_time") else None,
            )
            rows: list[Row] = [filled]
            # What is taken back was told already, and is all that it says
            if not message.content.HasField("revoked") and not came.history:
                rows.append(session.events.received(message, came.time, message.traceparent))
                if came.blob is not None:
                    rows.append(FetchBegin(row["id"], came.blob))
            await asyncio.wait([arrival.store(*rows, then=lambda _: then(row["id"]))])

    async def _show(
        self,
        arrival: Arrival,
        row: Record,
        stored: pb.Message,
        message: pb.Message,
        then: Callable[[UUID], None],
    ) -> None:
        """Put what a message says in the place of that it cannot be shown."""
        session, came = arrival.session, arrival.message
        micros = time.time_ns() // 1000
        stored.content.CopyFrom(message.content)
        stored.options.CopyFrom(message.options)
        stored.quoted.CopyFrom(message.quoted)
        stored.edit_time.FromMicroseconds(micros)
        rows: list[Row] = [
            ContentUpdate(row["id"], content_of_row(row, stored), micros),
            session.events.changed("message.edited", stored, micros),
        ]
        if came.blob is not None:
            rows.append(FetchBegin(row["id"], came.blob))
        await asyncio.wait([arrival.store(*rows, then=lambda _: then(row["id"]))])

    async def _change(self, arrival: Arrival, target: Reference) -> Outcome | None:
        """Store the change; None when there is nothing to store, or its outcome is unknown."""
        session, came = arrival.session, arrival.message
        row = await self._lookup.by_network_id(session, target.network_id)
        if session.closed:
            return None
        if row is not None and not row["content"]:  # erased, or past its retention
            arrival.acknowledge()
            return None
        now = time.time_ns() // 1000
        micros = min(came.time or now, now)  # no writer's clock keeps later changes out
        uuid = new_uuid() if row is None else row["id"]
        message = (
            _place(arrival, target, uuid) if row is None else message_of_row(session.id, session.people, row)
        )
        if not _may_change(came, writer_of(session, came), message, micros):
            arrival.acknowledge()
            return None
        before, file = _says(message), None
        if came.edited is None:
            file = revoked_media_use(uuid, message.content)
            message.content.revoked.actor.CopyFrom(writer_of(session, came))
        else:
            _edit(message, came.edited, came.mentions)
        if _says(message) == before and message.edit_time.ToMicroseconds() == micros:
            arrival.acknowledge()  # it was offered again
            return None
        message.edit_time.FromMicroseconds(micros)
        type_ = "message.revoked" if came.edited is None else "message.edited"
        event = session.events.changed(type_, message, micros)
        if row is None:
            content = message.SerializeToString()
            placed = InboundMessage(
                uuid,
                target.network_id,
                message.chat,
                content,
                event,
                direction=message.direction,
                status=message.status,
            )
            rows: list[Row] = [placed, ContentUpdate(uuid, content, micros)]
        else:
            rows = [ContentUpdate(uuid, content_of_row(row, message), micros), event]
            if file is not None:
                rows.append(file)
        done = arrival.store(*rows, then=_nothing, repeated=_nothing)
        await asyncio.wait([done])
        return None if done.cancelled() or done.exception() is not None else done.result()


def _place(arrival: Arrival, target: Reference, uuid: UUID) -> pb.Message:
    """What is known of a message that is not stored, and may still come."""
    session, came = arrival.session, arrival.message
    writer = came.sender if came.edited is not None else target.sender or came.sender
    message = pb.Message(
        id=encode(Prefix.MESSAGE, uuid),
        account_id=session.id,
        direction=pb.DIRECTION_INBOUND,
        chat=came.chat,
        network_message_id=target.network_id,
        sender=session.people.find(writer),
    )
    if is_one_of(session.own, writer):
        message.direction, message.origin = pb.DIRECTION_OUTBOUND, pb.MESSAGE_ORIGIN_OTHER_DEVICE
        message.status = pb.MESSAGE_STATUS_SENT
        message.sender.CopyFrom(person_of(writer, session.own))
        session.people.show(message, came.chat)
    set_create_time(message, uuid)
    return message


def is_place(row: Record) -> bool:
    """Whether only a change of the message has come: it is not known when the network got it, which is stored
    with every message. What was emptied is none, so that what was erased does not come back.
    """
    if row["origin"] == pb.MESSAGE_ORIGIN_API or row["network_time"] is not None or not row["content"]:
        return False
    return not read_message(row).HasField("network_time")  # earlier versions stored it only there


def _can_be_shown_now(stored: pb.Message, message: pb.Message) -> bool:
    """Whether a message that could not be shown has come after all, from whoever wrote it."""
    if not stored.content.HasField("unavailable") or message.content.HasField("unavailable"):
        return False
    return stored.chat == message.chat and _same(stored.sender, message.sender)


def _may_stand(place: pb.Message, message: pb.Message) -> bool:
    """Whether the change that came before its message was one of its writer's, or of somebody who may take
    back what others write in a group.
    """
    if place.chat == message.chat and not is_person(message.chat) and place.content.HasField("revoked"):
        return True
    if place.direction != message.direction or not _same(place.sender, message.sender):
        return False
    return place.chat == message.chat or (is_person(place.chat) and is_person(message.chat))


def _may_change(came: Incoming, writer: Person, message: pb.Message, micros: int) -> bool:
    """Whether it was the message's writer, or somebody who may take back what others write in a group; and
    whether an edit was made later than what the message says now. What is taken back stays so.
    """
    if message.content.HasField("revoked"):
        return False
    if came.edited is not None and message.edit_time.ToMicroseconds() > micros:
        return False
    if message.direction == pb.DIRECTION_OUTBOUND:
        own = came.from_account
    else:
        own = not came.from_account and _same(message.sender, writer)
    if own or came.edited is not None:
        return own
    return message.chat == came.chat and not is_person(came.chat)


def _same(one: Person, other: Person) -> bool:
    if one.address == other.address:
        return True
    names = ("phone", "user_id", "hidden_id", "username")
    return any(getattr(one, name) and getattr(one, name) == getattr(other, name) for name in names)


def _edit(message: pb.Message, content: content_pb2.Content, mentions: Sequence[str]) -> None:
    """The message says this now, and mentions these people; another caption keeps the file."""
    edited = content_pb2.Content()
    edited.CopyFrom(content)
    before, after = media_of(message.content), media_of(edited)
    if before is not None and after is not None:
        after.CopyFrom(before)
    message.content.CopyFrom(edited)
    if mentions or message.options.mentions:
        message.options.mentions[:] = mentions


def _says(message: pb.Message) -> tuple[bytes, list[str]]:
    return message.content.SerializeToString(deterministic=True), list(message.options.mentions)


def writer_of(session: SessionContext, came: Incoming) -> Person:
    """Who wrote or did what came, with all that is known of them."""
    if came.from_account:
        return person_of(came.sender, session.own)
    return session.people.learn(came.sender, came.identity, came.push_name)


def _nothing(_outcome: object) -> None:
    pass
