"""Builds requests for simple messages."""

from __future__ import annotations

import re

from mesh_client.errors import InvalidArgument
from sessionmesh.v1 import common_pb2, content_pb2, message_pb2


def text_message(
    account_id: str,
    to: str | common_pb2.Recipient,
    text: str,
    *,
    request_id: str = "",
    wait_for: message_pb2.WaitFor.ValueType = message_pb2.WAIT_FOR_QUEUED,
) -> message_pb2.SendMessageRequest:
    """`text` to a phone number in E.164, or to any recipient. Raises `InvalidArgument`."""
    if not text:
        raise InvalidArgument.of("text", "is empty")
    return message_pb2.SendMessageRequest(
        account_id=account_id,
        request_id=request_id,
        recipient=recipient(to),
        content=content_pb2.Content(text=content_pb2.TextContent(body=text)),
        wait_for=wait_for,
    )


def recipient(to: str | common_pb2.Recipient) -> common_pb2.Recipient:
    """A recipient as it is, or the one that a phone number names."""
    if not isinstance(to, str):
        return to
    if not _E164(to):
        raise InvalidArgument.of("to", f"{to!r} is not a phone number in E.164, such as +4915112345678")
    return common_pb2.Recipient(phone=to)


_E164 = re.compile(r"\+[1-9]\d{6,14}").fullmatch
