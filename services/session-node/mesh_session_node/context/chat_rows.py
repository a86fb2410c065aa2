"""Chats in the API's form, from rows, and back."""

from __future__ import annotations

from hashlib import blake2b
from typing import TypeVar

from asyncpg import Record

from mesh_core.ids import Prefix, encode
from mesh_session_node.context.message_rows import message_of_row, set_create_time
from mesh_session_node.context.people import People
from mesh_session_node.drivers.interface.content import is_person
from mesh_session_node.journal import ChatChange
from sessionmesh.v1 import chat_pb2 as pb

Value = TypeVar("Value")
SETTABLE = ("archived", "mute_until", "pinned", "marked_unread", "disappear_after")
"""The fields of a chat that are set."""


def chat_of_row(account_id: str, people: People, row: Record, last: Record | None) -> pb.Chat:
    """A chat as it is stored, with its last message, whose content is left out; `last` None: that is no
    longer stored, and only its id and when it came are known.
    """
    chat = pb.Chat(
        address=row["chat"],
        archived=row["archived"],
        pinned=row["pinned"],
        marked_unread=row["marked_unread"],
        name=row["name"],
        unread_count=row["unread"],
        label_ids=row["labels"],
    )
    if row["mute_until"]:
        chat.mute_until.FromMicroseconds(row["mute_until"])
    if row["disappear"]:
        chat.disappear_after.seconds = row["disappear"]
    chat.etag = etag_of(chat)
    if is_person(chat.address):
        chat.person.CopyFrom(people.find(chat.address))
        chat.name = chat.name or chat.person.display_name
    if last is not None:
        message = message_of_row(account_id, people, last)
        message.ClearField("content")
        chat.last_message.CopyFrom(message)
    elif row["last_message"] is not None:
        message = chat.last_message
        message.id = encode(Prefix.MESSAGE, row["last_message"])
        message.account_id, message.chat = account_id, chat.address
        set_create_time(message, row["last_message"])
    return chat


def etag_of(chat: pb.Chat) -> str:
    """Changes with what is set of a chat and with its labels; not with its messages."""
    said = pb.Chat(
        archived=chat.archived,
        pinned=chat.pinned,
        marked_unread=chat.marked_unread,
        mute_until=chat.mute_until,
        disappear_after=chat.disappear_after,
        label_ids=sorted(chat.label_ids),
    )
    return f"v{blake2b(said.SerializeToString(deterministic=True), digest_size=8).hexdigest()}"


def set_of(before: pb.Chat, after: pb.Chat, micros: int) -> ChatChange:
    """What is stored of a chat of which other things are set now; what is as before is left out."""

    def changed(now: Value, was: Value) -> Value | None:
        return None if now == was else now

    return ChatChange(
        chat=after.address,
        time=micros,
        archived=changed(after.archived, before.archived),
        marked_unread=changed(after.marked_unread, before.marked_unread),
        pinned=changed(after.pinned, before.pinned),
        mute_until=changed(after.mute_until.ToMicroseconds(), before.mute_until.ToMicroseconds()),
        disappear=changed(after.disappear_after.seconds, before.disappear_after.seconds),
        name=changed(after.name, before.name),
    )
