"""Ledger records: what the network saw, in the order it saw it, and their form on disk.

On disk a record is a fixed head and a tail `id NUL peer [NUL body]`. Accounts are numbers there, named by an
ACCOUNT record that comes first. The order of records is the order of events; their times are for people.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import BinaryIO, NamedTuple

MAGIC = b"SMLEDG1\n"


class Kind(IntEnum):
    """What happened. The numbers are those of `LedgerRecord.Kind` in the API."""

    ACCOUNT = 1
    """The account `id` with phone `peer` exists."""
    LOGIN = 2
    """`connection` is the account's from here on; `counter` is the position the client says comes next."""
    REPLACED = 3
    """`connection` is no longer the account's: another one logged in."""
    CLOSED = 4
    """`connection` ended."""
    LOGIN_REFUSED = 5
    """A login was refused; `code` is a LoginRefusal."""
    PAIRED = 6
    """The account got a new credential."""
    ACCEPTED = 7
    """Message `id` to `peer` was accepted at ratchet position `counter`; `digest` is of its content."""
    RESENT = 8
    """Message `id` came again and was not shown again."""
    REJECTED = 9
    """Message `id` to `peer` was refused; `code` is a RejectReason."""
    ACKED = 10
    """The acknowledgement of `id` was written to `connection`."""
    RECEIPT = 11
    """Receipt number `counter` for message `id`, by `peer` in a group; `code` is a ReceiptKind."""
    RECEIPTS_ACKED = 12
    """Receipts up to number `counter` are safe with the client."""
    INBOUND = 13
    """Message `id` from `peer` waits for the account."""
    INBOUND_OFFERED = 14
    """Inbound message `id` was written to `connection`."""
    INBOUND_ACKED = 15
    """Inbound message `id` is safe with the client."""
    INBOUND_ACK_DROPPED = 16
    """The client's acknowledgement of `id` was ignored by a fault."""
    LOGGED_OUT = 17
    """The account's credential no longer works."""
    BANNED = 18
    """The account is banned."""
    FAULT = 19
    """A fault began; `id` names it, `peer` says what it does. No account: it holds for all."""
    READ_REPORTED = 20
    """The client reported that it read or played (`code`) message `id` of the conversation `peer`."""


class Record(NamedTuple):
    """One record. `account` is a user id, empty when none is meant; `time_us` counts from the Unix epoch."""

    kind: Kind
    time_us: int
    connection: int = 0
    account: str = ""
    counter: int = 0
    code: int = 0
    digest: bytes = b""
    id: str = ""
    peer: str = ""
    body: bytes = b""


NO_ACCOUNT = 0xFFFFFFFF
NO_DIGEST = bytes(8)
_HEAD = struct.Struct("<IBBQIIQ8s")
_AFTER_LENGTH = _HEAD.size - 4
_pack = _HEAD.pack


def pack_head(
    kind: int,
    time_us: int,
    connection: int,
    account: int,
    counter: int,
    code: int,
    digest: bytes,
    tail_bytes: int,
) -> bytes:
    """The head of a record whose tail has so many bytes."""
    return _pack(_AFTER_LENGTH + tail_bytes, kind, code, time_us, connection, account, counter, digest)


def read_records(file: BinaryIO) -> Iterator[Record]:
    """The records of a ledger file from its start, up to the first incomplete one."""
    accounts: list[str] = []
    if file.read(len(MAGIC)) != MAGIC:
        raise ValueError("not a ledger")
    while len(head := file.read(_HEAD.size)) == _HEAD.size:
        length, kind, code, time_us, connection, account, counter, digest = _HEAD.unpack(head)
        size = length - _AFTER_LENGTH
        tail = file.read(size)
        if len(tail) < size:
            return
        name, peer, body = (*tail.split(b"\0", 2), b"")[:3]
        record_id = name.decode()
        if kind == Kind.ACCOUNT:
            accounts.append(record_id)
        yield Record(
            Kind(kind),
            time_us,
            connection,
            accounts[account] if account != NO_ACCOUNT else "",
            counter,
            code,
            digest if digest != NO_DIGEST else b"",
            record_id,
            peer.decode(),
            body,
        )


def size_of_whole_records(file: BinaryIO) -> int:
    """Bytes up to the end of the last complete record: where a file torn by a crash is cut."""
    at = len(MAGIC)
    end = file.seek(0, 2)
    while at + _HEAD.size <= end:
        file.seek(at)
        stop = at + 4 + int.from_bytes(file.read(4), "little")
        if stop > end:
            break
        at = stop
    return at
