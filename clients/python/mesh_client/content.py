"""Builds requests for simple messages, and references to messages."""

from __future__ import annotations

from mesh_client.errors import InvalidArgument
from sessionmesh.v1 import common_pb2, content_pb2, message_pb2

Referable = str | message_pb2.Message | common_pb2.MessageRef
"""What names a message: its id (`msg_...`), the message itself, or a reference that came with an event."""


def text_message(
    account_id: str,
    to: str,
    text: str,
    *,
    reply_to: Referable | None = None,
    request_id: str = "",
    wait_for: message_pb2.WaitFor.ValueType = message_pb2.WAIT_FOR_QUEUED,
) -> message_pb2.SendMessageRequest:
    """`text` to an address. Raises `InvalidArgument` for a text that cannot be encoded."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        problem = f"has half of a surrogate pair at position {error.start}, which is no character"
        raise InvalidArgument.of("text", problem) from None
    request = message_pb2.SendMessageRequest(
        account_id=account_id,
        request_id=request_id,
        recipient=to,
        content=content_pb2.Content(text=content_pb2.TextContent(body=text)),
        wait_for=wait_for,
    )
    if reply_to is not None:
        request.options.reply_to.CopyFrom(message_ref(reply_to))
    return request


def message_ref(message: Referable) -> common_pb2.MessageRef:
    """Names a message in calls that refer to one: reactions, answers, edits, read receipts.

    With a whole message, that one can be referred to even where the mesh no longer has it.
    """
    if isinstance(message, common_pb2.MessageRef):
        return message
    if isinstance(message, str):
        return common_pb2.MessageRef(message_id=message)
    from_account = message.direction == message_pb2.DIRECTION_OUTBOUND
    return common_pb2.MessageRef(
        message_id=message.id,
        network_message_id=message.network_message_id,
        chat=message.chat,
        sender="" if from_account else message.sender.address,
        from_account=from_account,
    )
