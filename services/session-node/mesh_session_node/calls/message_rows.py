"""Messages in the API's form, from rows."""

from __future__ import annotations

from asyncpg import Record
from asyncpg.pgproto.pgproto import UUID

from mesh_core.ids import Prefix, encode
from mesh_core.validation import to_timestamp
from mesh_session_node.drivers.interface.content import recipient_of
from sessionmesh.v1 import message_pb2 as pb


def message_of_row(account_id: str, row: Record) -> pb.Message:
    """An outbound row has the request it was sent with, an inbound one the message itself."""
    outbound = row["direction"] == pb.DIRECTION_OUTBOUND
    message = pb.Message() if outbound else pb.Message.FromString(row["content"])
    if outbound:
        request = pb.SendMessageRequest.FromString(row["content"])
        message.content.CopyFrom(request.content)
        if request.HasField("options"):
            message.options.CopyFrom(request.options)
        message.external_id = request.external_id
        message.labels.update(request.labels)
        message.origin = pb.MESSAGE_ORIGIN_API
    message.id = encode(Prefix.MESSAGE, row["id"])
    message.account_id = account_id
    message.direction = row["direction"]
    message.chat.CopyFrom(recipient_of(row["chat"]))
    message.status = row["status"]
    message.failure = row["failure"]
    message.failure_detail = row["failure_detail"]
    message.network_message_id = row["network_id"]
    message.traceparent = row["traceparent"]
    set_create_time(message, row["id"])
    if row["update_time"] is not None:
        message.update_time.CopyFrom(to_timestamp(row["update_time"]))
    if row["network_time"] is not None:
        message.network_time.CopyFrom(to_timestamp(row["network_time"]))
    return message


def add_receipts(message: pb.Message, rows: list[Record]) -> None:
    """Each member's receipt."""
    for row in rows:
        receipt = message.receipts.add(member=recipient_of(row["member"]), status=row["status"])
        receipt.time.CopyFrom(to_timestamp(row["time"]))


def set_create_time(message: pb.Message, uuid: UUID) -> None:
    """A message's id begins with the millisecond in which it was made."""
    milliseconds = int.from_bytes(uuid.bytes[:6], "big")
    message.create_time.seconds, rest = divmod(milliseconds, 1000)
    message.create_time.nanos = rest * 1_000_000
