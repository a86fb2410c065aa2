"""Messages in the API's form, from rows, and back."""

from __future__ import annotations

from typing import TypeVar

import structlog
from asyncpg import Record
from asyncpg.pgproto.pgproto import UUID
from google.protobuf.message import DecodeError

from mesh_core.ids import Prefix, encode
from mesh_core.validation import to_timestamp
from mesh_session_node.context.people import People
from sessionmesh.v1 import message_pb2 as pb
from sessionmesh.v1.common_pb2 import MessageRef

logger = structlog.get_logger(__name__)

Stored = TypeVar("Stored", pb.SendMessageRequest, pb.Message)


def message_of_row(account_id: str, people: People, row: Record) -> pb.Message:
    """What this API sent is stored as the request it was sent with, anything else as the message itself."""
    if row["origin"] == pb.MESSAGE_ORIGIN_API:
        message = _sent(request_of_row(row))
        people.show(message, row["chat"])
    else:
        message = read_message(row)
    message.id = encode(Prefix.MESSAGE, row["id"])
    message.account_id = account_id
    message.direction = row["direction"]
    message.origin = row["origin"]
    message.chat = row["chat"]
    message.status = row["status"]
    message.failure = row["failure"]
    if row["failure_code"] is not None:
        message.failure_code = row["failure_code"]
    message.failure_detail = row["failure_detail"]
    message.network_message_id = row["network_id"]
    message.traceparent = row["traceparent"]
    set_create_time(message, row["id"])
    for column in ("update_time", "network_time", "edit_time"):
        if row[column] is not None:
            getattr(message, column).CopyFrom(to_timestamp(row[column]))
    return message


def request_of_row(row: Record) -> pb.SendMessageRequest:
    """What this API was asked to send; of what nobody can read, a content that no network has."""
    return _read(pb.SendMessageRequest, row)


def content_of_row(row: Record, message: pb.Message) -> bytes:
    """What is stored of a row's message whose content has changed."""
    if row["origin"] == pb.MESSAGE_ORIGIN_API:
        request = pb.SendMessageRequest.FromString(row["content"])
        request.content.CopyFrom(message.content)
        if request.options.mentions or message.options.mentions:
            request.options.mentions[:] = message.options.mentions
        return request.SerializeToString(deterministic=True)
    return message.SerializeToString()


def ref_of_row(row: Record) -> MessageRef:
    """What names a stored message."""
    ref = MessageRef(
        message_id=encode(Prefix.MESSAGE, row["id"]),
        network_message_id=row["network_id"],
        chat=row["chat"],
        from_account=row["direction"] == pb.DIRECTION_OUTBOUND,
    )
    if not ref.from_account:
        ref.sender = read_message(row).sender.address
    return ref


def set_create_time(message: pb.Message, uuid: UUID) -> None:
    """A message's id begins with the millisecond in which it was made."""
    created = message.create_time
    created.seconds, rest = divmod(int.from_bytes(uuid.bytes[:6], "big"), 1000)
    created.nanos = rest * 1_000_000


def read_message(row: Record) -> pb.Message:
    """What is stored of a message that this API did not send; the row's other columns say more of it."""
    return _read(pb.Message, row)


def _read(kind: type[Stored], row: Record) -> Stored:
    """What is stored of a message; of what nobody can read, that it is there: its page has other messages."""
    try:
        return kind.FromString(row["content"])
    except DecodeError:
        logger.exception("a stored message cannot be read", message=str(row["id"]))
        unreadable = kind()
        unreadable.content.unknown.SetInParent()
        return unreadable


def _sent(request: pb.SendMessageRequest) -> pb.Message:
    message = pb.Message(content=request.content, external_id=request.external_id, labels=request.labels)
    for field in ("options", "schedule_time", "expire_time", "album"):
        if request.HasField(field):
            getattr(message, field).CopyFrom(getattr(request, field))
    return message
