"""Splits and joins frames of MessageService.SendMessages without parsing the messages in them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mesh_core.errors import InvalidArgument, MeshError
from mesh_core.rpc.server.status import details_of
from mesh_router.proxy.account_id import text_fields
from sessionmesh.v1 import message_pb2

Name = tuple[str, str]
"""An item's account_id and request_id."""


def items(frame: bytes) -> Iterator[tuple[Name, bytes]]:
    """The entries of a frame's field 1, with tag and length, so that concatenated they are a frame again.

    An entry is a SendMessageRequest or a SendResult: both begin with account_id and request_id. Raises
    `InvalidArgument` for what is not such a frame.
    """
    at, size = 0, len(frame)
    while at < size:
        start = at
        if frame[at] != _FIELD_1:
            raise _not_a_frame()
        at += 1
        length = shift = 0
        while True:
            if at >= size or shift > 28:
                raise _not_a_frame()
            byte = frame[at]
            at += 1
            length |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        end = at + length
        if end > size:
            raise _not_a_frame()
        yield _name(frame, at, end), frame[start:end]
        at = end


def failed(name: Name, error: MeshError) -> bytes:
    """A frame with one result: that the item failed."""
    result = message_pb2.SendResult(account_id=name[0], request_id=name[1])
    result.error.ParseFromString(details_of(error))
    return message_pb2.SendMessagesResponse(results=[result]).SerializeToString()


def refusal(entry: bytes) -> bytes:
    """The serialised google.rpc.Status of a failed result; empty for an accepted message."""
    # The usual layout, as in `_name`, and after it the accepted message.
    at = 2 if entry[1] < 128 else 3
    if entry[at : at + 2] == _ACCOUNT_ID and len(entry) > at + 34:
        after = at + 34 + entry[at + 33]
        if entry[at + 32] == _FIELD_2 and entry[at + 33] < 128 and entry[after : after + 1] == _FIELD_3:
            return b""
    result = message_pb2.SendMessagesResponse.FromString(entry).results[0]
    return result.error.SerializeToString() if result.HasField("error") else b""


def joined(entries: Iterable[bytes]) -> bytes:
    """A frame of these entries."""
    return b"".join(entries)


def _name(frame: bytes, at: int, end: int) -> Name:
    # The usual layout: 30 bytes of account_id, then a request_id of less than 128.
    if end - at > 34 and frame[at : at + 2] == _ACCOUNT_ID and frame[at + 32] == _FIELD_2:
        stop = at + 34 + frame[at + 33]
        if frame[at + 33] < 128 and stop <= end:
            return frame[at + 2 : at + 32].decode("utf-8", "replace"), frame[at + 34 : stop].decode(
                "utf-8", "replace"
            )
    found = text_fields(frame, at, end, 2)
    return (found[0], found[1]) if found else ("", "")


def _not_a_frame() -> InvalidArgument:
    return InvalidArgument("the request is not a SendMessagesRequest", "INVALID_FIELD")


_FIELD_1, _FIELD_2, _FIELD_3 = 0x0A, 0x12, b"\x1a"
_ACCOUNT_ID = b"\x0a\x1e"
