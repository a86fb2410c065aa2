"""Ids: a prefix naming the resource, an underscore, and a UUIDv7 in Crockford base32 (26 characters)."""

from __future__ import annotations

import random
import time
from datetime import timedelta
from enum import StrEnum
from hashlib import blake2b

from asyncpg.pgproto.pgproto import UUID  # the C class: asyncpg encodes it without touching Python attributes

from mesh_core.errors import InvalidField

SHARDS = 4096
"""Shards of a cluster; constant for its lifetime."""
LENGTH = 30
"""Characters of an id."""
AHEAD = timedelta(minutes=5)
"""How far apart clocks may be for ids to rise all the same."""


class Prefix(StrEnum):
    """What an id names."""

    ACCOUNT = "acc"
    MESSAGE = "msg"
    EVENT = "evt"
    MEDIA = "med"
    ENDPOINT = "whe"
    DELIVERY = "del"
    ATTEMPT = "att"
    TENANT = "tnt"
    KEY = "key"
    JOB = "job"
    PAIRING = "pai"
    CONSUMER = "con"
    AUDIT = "aud"


def new_uuid() -> UUID:
    """A UUIDv7. Those of a process rise, whatever its clock does, as long as it steps back by less than
    `AHEAD`: 12 bits are of the millisecond's parts.
    """
    global _latest  # noqa: PLW0603 - the process has one clock
    milliseconds, rest = divmod(time.time_ns(), 1_000_000)
    stamp = milliseconds << 12 | rest * 4096 // 1_000_000
    if 0 <= _latest - stamp < _AHEAD:
        stamp = _latest + 1
    _latest = stamp
    tail = random.getrandbits(62)  # unique, not secret: ids grant nothing
    value = stamp >> 12 << 80 | (0x7000 | stamp & 0xFFF) << 64 | 2 << 62 | tail
    return UUID(value.to_bytes(16, "big"))


def made_at(uuid: UUID) -> float:
    """When `new_uuid` made it, in seconds since 1970."""
    n = int.from_bytes(uuid.bytes[:8], "big")
    return (n >> 16) / 1e3 + (n & 0xFFF) / 4096e3


def follow(uuid: UUID) -> None:
    """Have this process make ids behind this UUIDv7 of one whose clock is ahead by less than `AHEAD`."""
    global _latest  # noqa: PLW0603 - as above
    head = int.from_bytes(uuid.bytes[:8], "big")
    stamp = head >> 16 << 12 | head & 0xFFF
    if _latest < stamp < (time.time_ns() // 1_000_000 << 12) + _AHEAD:
        _latest = stamp


def encode(prefix: Prefix, uuid: UUID) -> str:
    """The public form of `uuid`."""
    n = int.from_bytes(uuid.bytes, "big")
    return f"{prefix.value}_{_PAIRS[n >> 120]}" + "".join([_PAIRS[n >> shift & 1023] for shift in _SHIFTS])


def decode(prefix: Prefix, text: str, field: str) -> UUID:
    """The UUID that `text` names; raises `InvalidField` naming `field` when it is not an id of that kind."""
    head, _, tail = text.partition("_")
    if head != prefix.value or len(tail) != 26 or not _DIGITS.issuperset(tail) or tail[0] > "7":
        raise InvalidField(field, f"must be an id like {prefix.value}_01ARZ3NDEKTSV4RRFFQ69G5FAV")
    n = 0
    for digit in tail:
        n = n << 5 | _VALUE[digit]
    return UUID(n.to_bytes(16, "big"))


def new_id(prefix: Prefix) -> str:
    """A fresh public id."""
    return encode(prefix, new_uuid())


def shard_of(account_id: str) -> int:
    """The account's shard, 0..4095: the top 12 bits of blake2b-64 of the public id."""
    digest = blake2b(account_id.encode(), digest_size=8).digest()
    return digest[0] << 4 | digest[1] >> 4


_AHEAD = int(AHEAD.total_seconds() * 1000) << 12
_latest = 0
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_DIGITS = frozenset(_ALPHABET)
_VALUE = {digit: value for value, digit in enumerate(_ALPHABET)}
_PAIRS = [a + b for a in _ALPHABET for b in _ALPHABET]  # ten bits at a time
_SHIFTS = range(110, -1, -10)
