"""The account of a serialised request, read without parsing the rest, and the same way in every part."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from google.protobuf.message import DecodeError

from mesh_core import ids
from mesh_core.errors import InvalidArgument, InvalidField
from mesh_core.ids import Prefix
from sessionmesh.internal.v1.routing_pb2 import NamedRequest

METADATA_KEY = "x-account-id"


def account_shard(raw: bytes, named: str) -> int:
    """The shard of the account that a request is about. `raw` is the serialised request, `named` the value of
    the metadata key, or "".

    Raises `InvalidField` account_id when the request names no account, or several, or what is no account id,
    `InvalidArgument` ACCOUNT_MISMATCH when the metadata name another one, and for what is not a message.
    """
    account_id = account_of(raw)
    if not account_id:
        raise InvalidField("account_id", "is required")
    if named and named != account_id:
        raise InvalidArgument(
            f"account_id and the metadata key {METADATA_KEY} name different accounts", "ACCOUNT_MISMATCH"
        )
    return shard_of(account_id)


@lru_cache(maxsize=65_536)
def shard_of(account_id: str) -> int:
    """The shard of an account. Raises `InvalidField` account_id for what is no account id."""
    ids.decode(Prefix.ACCOUNT, account_id, "account_id")
    return ids.shard_of(account_id)


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
