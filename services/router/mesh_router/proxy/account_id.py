"""Reads the account of a serialised request without parsing the rest of it."""

from __future__ import annotations

from functools import lru_cache

from mesh_core import ids
from mesh_core.errors import InvalidArgument, InvalidField
from mesh_core.ids import Prefix

METADATA_KEY = "x-account-id"


def account_shard(raw: bytes, named: str) -> int:
    """The shard of the account that a request is about. `raw` is the serialised request, `named` the value of
    the metadata key, or "".

    Raises `InvalidField` account_id when neither names an account or it is no account id, `InvalidArgument`
    ACCOUNT_MISMATCH when they name different ones.
    """
    account_id = first_text_field(raw)
    if not account_id:
        account_id = named
        if not account_id:
            raise InvalidField(
                "account_id", f"is required: in the request, or in the metadata key {METADATA_KEY}"
            )
    elif named and named != account_id:
        raise InvalidArgument(
            f"account_id and the metadata key {METADATA_KEY} name different accounts", "ACCOUNT_MISMATCH"
        )
    return shard_of(account_id)


@lru_cache(maxsize=65_536)
def shard_of(account_id: str) -> int:
    """The shard of an account. Raises `InvalidField` account_id for what is no account id."""
    ids.decode(Prefix.ACCOUNT, account_id, "account_id")
    return ids.shard_of(account_id)


def first_text_field(raw: bytes) -> str:
    """The string in field 1 of a serialised message; "" when it has none, or `raw` is not a message."""
    if raw[:2] == _ACCOUNT_ID_FIRST and len(raw) >= 32:
        return raw[2:32].decode("utf-8", "replace")
    found = text_fields(raw, 0, len(raw), 1)
    return found[0] if found else ""


def text_fields(raw: bytes, at: int, end: int, last: int) -> list[str]:
    """The strings in fields 1 to `last` of the message at `raw[at:end]`, "" where absent.

    An empty list when the bytes are not a message. Of a field that occurs twice the last one counts.
    """
    found = [""] * last
    try:
        while at < end:
            tag, at = _varint(raw, at)
            kind = tag & 7
            if kind == 2:
                length, at = _varint(raw, at)
                if at + length > end:
                    return []
                if 1 <= tag >> 3 <= last:
                    found[(tag >> 3) - 1] = raw[at : at + length].decode("utf-8", "replace")
                at += length
            elif kind == 0:
                _, at = _varint(raw, at)
            elif kind in _FIXED:
                at += _FIXED[kind]
            else:
                return []
    except IndexError:
        return []
    return found if at == end else []


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = raw[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
        if shift > 63:
            raise IndexError


_ACCOUNT_ID_FIRST = b"\x0a\x1e"  # field 1, 30 bytes: what every well-formed request begins with
_FIXED = {1: 8, 5: 4}
