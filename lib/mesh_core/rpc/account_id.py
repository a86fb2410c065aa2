"""Reads the account of a serialised request without parsing the rest of it: the same way in every part."""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.message import DecodeError

from mesh_core.errors import InvalidArgument, InvalidField
from sessionmesh.internal.v1.routing_pb2 import NamedRequest


def account_of(raw: bytes) -> str:
    """Field 1 of a serialised request, "" when it has none.

    Raises `InvalidField` account_id when it has several: the last one counts where messages are parsed, and
    another one may where they are not. `InvalidArgument` for what is not a message.
    """
    try:
        return only(_parse(raw).account_id)
    except DecodeError:
        raise InvalidArgument("the request cannot be parsed", "INVALID_FIELD") from None


def only(named: Sequence[str]) -> str:
    """The one account of those that a request names, "" for none. Raises `InvalidField` for several."""
    if len(named) > 1:
        raise InvalidField("account_id", "must be set once; the request has the field several times")
    return named[0] if named else ""


_parse = NamedRequest.FromString
