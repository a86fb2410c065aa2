"""Where the account of a serialised request belongs, without parsing the rest of the request."""

from __future__ import annotations

from functools import lru_cache

from mesh_core import ids
from mesh_core.errors import InvalidArgument, InvalidField
from mesh_core.ids import Prefix
from mesh_core.rpc.account_id import account_of

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
