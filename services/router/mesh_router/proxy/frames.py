"""Splits and joins frames of MessageService.SendMessages without parsing the messages in them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from mesh_core.errors import InvalidArgument, MeshError
from mesh_core.rpc.account_id import only
from mesh_core.rpc.server.status import details_of
from sessionmesh.internal.v1.routing_pb2 import ItemFrame, ItemResult, NamedRequest

Name = tuple[str, bytes]
"""An item's account_id, and its request_id in UTF-8."""


@dataclass(frozen=True, slots=True)
class Result:
    """A serialised SendResult, and what it says: whose it is, and the google.rpc.Status of a refused item."""

    name: Name
    refusal: bytes
    raw: bytes


def items(frame: bytes) -> list[tuple[Name, bytes]]:
    """The name of each SendMessageRequest of a frame, and its bytes.

    Raises `InvalidArgument` for what is not such a frame, `InvalidField` for an item that names several
    accounts.
    """
    try:
        found = [(_request(item), item) for item in _frame(frame).items]
    except DecodeError:
        raise InvalidArgument("the request cannot be parsed", "INVALID_FIELD") from None
    return [((only(request.account_id), request.request_id), item) for request, item in found]


def results(frame: bytes) -> list[Result]:
    """The results of a frame of a part of the mesh."""
    found = [(_result(item), item) for item in _frame(frame).items]
    return [Result((result.account_id, result.request_id), result.error, item) for result, item in found]


def failed(name: Name, error: MeshError) -> bytes:
    """The result of an item that failed."""
    return ItemResult(account_id=name[0], request_id=name[1], error=details_of(error)).SerializeToString()


def joined(entries: Iterable[bytes]) -> bytes:
    """A frame of these messages."""
    return ItemFrame(items=entries).SerializeToString()


_frame, _request, _result = ItemFrame.FromString, NamedRequest.FromString, ItemResult.FromString
