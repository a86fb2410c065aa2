"""Stored messages whose content changes: edited or taken back by their writers, or their media fetched.

Whatever changes one message comes one after the other, each from what the one before has stored, so that none
undoes another.
"""

from __future__ import annotations

import asyncio
import time
from weakref import WeakValueDictionary

from asyncpg import Record
from asyncpg.pgproto.pgproto import UUID

from mesh_session_node.context.context import SessionContext
from mesh_session_node.context.message_rows import content_of_row, message_of_row
from mesh_session_node.drivers.interface.content import Incoming, Reference, is_person, person_of
from mesh_session_node.inbound.arrivals import Arrival
from mesh_session_node.journal import ContentUpdate, Outcome
from mesh_session_node.outbound.references import ReferenceLookup
from mesh_session_node.store.media import media_of
from sessionmesh.v1 import content_pb2
from sessionmesh.v1 import message_pb2 as pb
from sessionmesh.v1.common_pb2 import Person


class ContentChanges:
    """Changes contents; one for all accounts."""

    def __init__(self, lookup: ReferenceLookup) -> None:
        self._lookup = lookup
        self._turns: WeakValueDictionary[tuple[UUID, str], asyncio.Lock] = WeakValueDictionary()

    def turn(self, session: SessionContext, network_id: str) -> asyncio.Lock:
        """Held by whoever changes the message that the network knows by this id, until it is stored."""
        key = session.ref.uuid, network_id
        lock = self._turns.get(key)
        if lock is None:
            self._turns[key] = lock = asyncio.Lock()
        return lock

    async def receive(self, arrival: Arrival, target: Reference) -> None:
        """An earlier message was edited or taken back. One that was never stored gets the event alone."""
        session, came = arrival.session, arrival.message
        async with self.turn(session, target.network_id):
            row = await self._lookup.by_network_id(session.ref.uuid, target.network_id)
            if session.closed:
                return
            micros = came.time or time.time_ns() // 1000
            message = _unknown(arrival, target) if row is None else _known(session, row)
            if row is not None and not _may_change(came, row, message, micros):
                arrival.acknowledge()  # there is nothing to store
                return
            before = message.content.SerializeToString(deterministic=True)
            _change(session, came, message)
            same = message.content.SerializeToString(deterministic=True) == before
            if same and message.edit_time.ToMicroseconds() == micros:
                arrival.acknowledge()  # it was offered again
                return
            message.edit_time.FromMicroseconds(micros)
            type_ = "message.revoked" if came.edited is None else "message.edited"
            event = session.events.changed(type_, message, micros)
            if row is None:
                done = arrival.store(event, then=_nothing)
            else:
                update = ContentUpdate(row["id"], content_of_row(row, message), micros)
                done = arrival.store(update, event, then=_nothing)
            if done is not None:
                await asyncio.wait([done])


def _known(session: SessionContext, row: Record) -> pb.Message:
    return message_of_row(session.id, session.people, row)


def _unknown(arrival: Arrival, target: Reference) -> pb.Message:
    """All that is known of a message that was never stored."""
    session, came = arrival.session, arrival.message
    message = pb.Message(
        account_id=session.id,
        direction=pb.DIRECTION_OUTBOUND if came.from_account else pb.DIRECTION_INBOUND,
        chat=came.chat,
        network_message_id=target.network_id,
        sender=session.people.find(target.sender or came.sender),
    )
    if came.from_account:
        message.origin = pb.MESSAGE_ORIGIN_OTHER_DEVICE
        session.people.show(message, came.chat)
    return message


def _may_change(came: Incoming, row: Record, message: pb.Message, micros: int) -> bool:
    """Whether it was the message's writer, or somebody who may take back what others write in a group; and
    whether it came later than what the message says now.
    """
    if message.content.HasField("revoked"):
        return False
    if row["edit_time"] is not None and message.edit_time.ToMicroseconds() > micros:
        return False
    if row["direction"] == pb.DIRECTION_OUTBOUND:
        own = came.from_account
    else:
        own = not came.from_account and _same(message.sender, person_of(came.sender, came.identity))
    if own or came.edited is not None:
        return own
    return row["chat"] == came.chat and not is_person(came.chat)


def _same(one: Person, other: Person) -> bool:
    if one.address == other.address:
        return True
    names = ("phone", "user_id", "hidden_id", "username")
    return any(getattr(one, name) and getattr(one, name) == getattr(other, name) for name in names)


def _change(session: SessionContext, came: Incoming, message: pb.Message) -> None:
    if came.edited is None:
        message.content.Clear()
        message.content.revoked.actor.CopyFrom(writer_of(session, came))
        return
    edited = content_pb2.Content()
    edited.CopyFrom(came.edited)
    before, after = media_of(message.content), media_of(edited)
    if before is not None and after is not None:
        after.CopyFrom(before)  # another caption, with the same media
    message.content.CopyFrom(edited)


def writer_of(session: SessionContext, came: Incoming) -> Person:
    """Who wrote or did what came, with all that is known of them."""
    if came.from_account:
        return person_of(came.sender, session.own)
    return session.people.learn(came.sender, came.identity, came.push_name)


def _nothing(_outcome: Outcome) -> None:
    pass
