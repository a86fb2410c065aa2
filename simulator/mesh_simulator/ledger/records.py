"""Ledger records: what the network saw, in the order it saw it, and their two forms in files.

The network's own file is binary. A record there is a fixed head and a tail `id NUL peer [NUL body]`. The head
names the account by its number: accounts are numbered from 0 in the order of their ACCOUNT records, and each
account's ACCOUNT record comes before all others about it. The order of records is the order of events; their
times are only for people to read. The other form is JSON lines, for people and other programs.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator
from enum import IntEnum
from typing import BinaryIO, NamedTuple

import msgspec

MAGIC = b"SMLEDG1\n"


class Kind(IntEnum):
    """What happened. The numbers are those of `LedgerKind` in the API."""

    ACCOUNT = 1
    """The account `id` with phone `peer` exists."""
    LOGIN = 2
    """`connection` is the account's from here on; `counter` is the ratchet position that the client says it
    uses next; `code` is 1 when it acknowledges receipts."""
    REPLACED = 3
    """`connection` is no longer the account's: another connection logged in."""
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
    """Receipt number `counter` for message `id`, by `peer` in a group where it is one member's; `code` is a
    ReceiptKind, and `body` in groups the `MemberReceipts` that the client is told."""
    RECEIPTS_ACKED = 12
    """The client acknowledged every receipt up to number `counter`."""
    INBOUND = 13
    """Message `id` from `peer` waits for the account's client."""
    INBOUND_OFFERED = 14
    """Inbound message `id` was written to `connection`."""
    INBOUND_ACKED = 15
    """The client acknowledged inbound message `id`."""
    INBOUND_ACK_DROPPED = 16
    """The client acknowledged inbound message `id`, and a fault made the network ignore it."""
    LOGGED_OUT = 17
    """The account's credential no longer works."""
    BANNED = 18
    """The account is banned."""
    FAULT = 19
    """A fault began; `id` names it, `peer` says what it does. Without an account it affects all of them."""
    READ_REPORTED = 20
    """The client reported that it read or played (`code`) message `id` of the conversation `peer`."""
    UNREADABLE = 21
    """A device could not decrypt message `id`: the recipient's, that of the member `peer` of a group, or the
    account's own, of an inbound message."""
    MESSAGE_CHANGED = 22
    """Message `peer` of somebody was changed by the message `id`; `code` is the number of the field of
    ChangeMessage that says how."""
    APP_STATE_CHANGED = 23
    """What the account's devices have in common changed under the name `id`; `counter` is its version."""
    TYPING = 24
    """The client showed in the conversation `peer` what it does (`code`, a TypingState)."""
    READ_BY_FORMER_MEMBER = 30
    """Somebody (`peer`) who is not in a group any more could read the account's message there."""


class Record(NamedTuple):
    """One record. `account` is a user id, or empty; `time_us` is microseconds since the Unix epoch."""

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
"""Account number of a record that is about no account."""
NO_DIGEST = bytes(8)
_HEAD = struct.Struct(
    "<IBBQIIQ8s"
)  # length of what follows, kind, code, time, connection, account, counter, digest
_KINDS = frozenset(Kind)
_LENGTH_BYTES = 4
_AFTER_LENGTH = _HEAD.size - _LENGTH_BYTES
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
    """The head of a record whose tail has `tail_bytes` bytes."""
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
        if kind not in _KINDS:
            continue  # a later version's
        name, peer, body = (*tail.split(b"\0", 2), b"", b"")[:3]
        record_id = name.decode(errors="replace")
        if kind == Kind.ACCOUNT:
            accounts.append(record_id)
        yield Record(
            Kind(kind),
            time_us,
            connection,
            accounts[account] if account < len(accounts) else "",
            counter,
            code,
            digest if digest != NO_DIGEST else b"",
            record_id,
            peer.decode(errors="replace"),
            body,
        )


def read_ledger(file: BinaryIO) -> Iterator[Record]:
    """The records of a ledger file in either form, binary or JSON lines."""
    start = file.read(len(MAGIC))
    file.seek(0)
    if start == MAGIC:
        yield from read_records(file)
        return
    for line in file:
        row = msgspec.json.decode(line)
        yield Record(
            Kind[row["kind"]],
            row["time_us"],
            row["connection"],
            row["account"],
            row["counter"],
            row["code"],
            bytes.fromhex(row["digest"]),
            row["id"],
            row["peer"],
        )


def write_json_lines(records: Iterable[Record], file: BinaryIO) -> None:
    """Write records as JSON lines: the fields of `Record`, without `body`."""
    for record in records:
        row = record._asdict()
        del row["body"]
        file.write(
            msgspec.json.encode({**row, "kind": record.kind.name, "digest": record.digest.hex()}) + b"\n"
        )


def size_of_whole_records(file: BinaryIO) -> int:
    """Bytes up to the end of the last complete record: a file that a crash left incomplete is cut there."""
    at = len(MAGIC)
    end = file.seek(0, os.SEEK_END)
    while at + _HEAD.size <= end:
        file.seek(at)
        stop = at + _LENGTH_BYTES + int.from_bytes(file.read(_LENGTH_BYTES), "little")
        if stop > end:
            break
        at = stop
    return at
