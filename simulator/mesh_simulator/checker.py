"""Judges what the network saw against what the callers were told. Pure: records in, figures out.

From a shell: `python -m mesh_simulator.checker LEDGER [--calls FILE]`, exit 0 only when nothing is wrong.
LEDGER is the `ledger.bin` of a state folder, or JSON lines as `write_json_lines` makes them. FILE has one
object a line:
{"request_id", "account", "message_id", "network_message_id", "recipient", "acknowledged_at"}.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

import msgspec

from mesh_simulator.ledger.records import Kind, Record, read_ledger
from sessionmesh.simnet.v1 import wire_pb2 as wire

MAX_FINDINGS = 100


class Call(msgspec.Struct, frozen=True):
    """One call as its caller logged it; a retried request has several.

    `acknowledged_at` is None or empty when the caller was never told that the message is accepted; then
    `network_message_id` may be empty.
    """

    request_id: str
    account: str = ""
    message_id: str = ""
    network_message_id: str = ""
    recipient: str = ""
    acknowledged_at: str | float | None = None


class Verdict(msgspec.Struct, frozen=True):
    """docs/simulator.md says what each figure means. `findings` has a sentence per violation, at most 100."""

    sent: int
    delivered: int
    unacked: int
    lost: int
    duplicates: int
    overlaps: int
    ratchet_reuse: int
    inbound: int
    inbound_unacked: int
    unreadable: int
    findings: list[str]

    @property
    def clean(self) -> bool:
        return not (self.lost or self.duplicates or self.overlaps or self.ratchet_reuse or self.unreadable)


def check(records: Iterable[Record], calls: Iterable[Call] = ()) -> Verdict:
    """Judge a ledger, in its order, against the callers' log."""
    ledger = _LedgerPass()
    for record in records:
        ledger.take(record)
    requests = _requests(calls)
    lost = _lost(requests, ledger)
    duplicates = ledger.shown_again + _under_several_ids(requests, ledger)
    unreadable = [
        f"unreadable: {sender} message {message_id}{' for ' + member if member else ''} was never decrypted"
        for sender, message_id, member in ledger.unreadable
    ]
    findings = [*ledger.overlaps, *ledger.ratchet, *duplicates, *lost, *unreadable]
    return Verdict(
        sent=len(ledger.accepted),
        delivered=len(ledger.delivered),
        unacked=len(ledger.accepted.keys() - ledger.acked),
        lost=len(lost),
        duplicates=len(duplicates),
        overlaps=len(ledger.overlaps),
        ratchet_reuse=len(ledger.ratchet),
        inbound=len(ledger.inbound),
        inbound_unacked=len(ledger.inbound - ledger.inbound_acked),
        unreadable=len(unreadable),
        findings=findings[:MAX_FINDINGS],
    )


def read_calls(file: BinaryIO) -> list[Call]:
    """The callers' log from JSON lines."""
    return [msgspec.json.decode(line, type=Call) for line in file if line.strip()]


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m mesh_simulator.checker", description=__doc__)
    parser.add_argument("ledger", type=Path)
    parser.add_argument("--calls", type=Path)
    parsed = parser.parse_args(arguments)
    calls: list[Call] = []
    if parsed.calls is not None:
        with parsed.calls.open("rb") as file:
            calls = read_calls(file)
    with parsed.ledger.open("rb") as file:
        verdict = check(read_ledger(file), calls)
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(verdict), indent=2).decode() + "\n")
    return 0 if verdict.clean else 1


_Message = tuple[str, str]
"""Account and network message id: an id is unique in its account only."""
_Conversation = tuple[str, str, bytes]
"""Account, recipient, digest of the content."""


class _LedgerPass:
    """What one pass over the ledger finds out about accounts and messages."""

    def __init__(self) -> None:
        self.accepted: dict[_Message, _Conversation] = {}
        self.ids: dict[str, list[_Message]] = defaultdict(list)
        self.acked: set[_Message] = set()
        self.delivered: set[_Message] = set()
        self.inbound: set[_Message] = set()
        self.inbound_acked: set[_Message] = set()
        self.overlaps: list[str] = []
        self.ratchet: list[str] = []
        self.shown_again: list[str] = []
        self.unreadable: dict[tuple[str, str, str], None] = {}
        """Account, message and member of the group; without those that came again and were read."""
        self._live: dict[str, int] = {}
        self._positions: dict[str, int] = {}

    def take(self, record: Record) -> None:
        message = record.account, record.id
        match record.kind:
            case Kind.LOGIN:
                self._live[record.account] = record.connection
            case Kind.ACCEPTED | Kind.RESENT | Kind.REJECTED:
                self._frame(record)
            case Kind.ACKED:
                self.acked.add(message)
            case Kind.RECEIPT if record.code == wire.RECEIPT_KIND_DELIVERED and message in self.accepted:
                self.delivered.add(message)
                self.unreadable.pop((*message, record.peer), None)
            case Kind.UNREADABLE:
                self.unreadable[*message, record.peer] = None
            case Kind.INBOUND:
                self.inbound.add(message)
            case Kind.INBOUND_ACKED:
                self.inbound_acked.add(message)
                self.unreadable.pop((*message, ""), None)

    def _frame(self, record: Record) -> None:
        highest = self._positions.get(record.account, -1)
        if record.counter <= highest:
            self.ratchet.append(
                f"ratchet: {record.account} used position {record.counter} for {record.id} after {highest}"
            )
        self._positions[record.account] = max(highest, record.counter)
        if record.kind is Kind.REJECTED:
            return
        live = self._live.get(record.account)
        if record.connection != live:
            self.overlaps.append(
                f"overlap: {record.account} sent {record.id} on connection {record.connection}"
                f" after connection {live} had logged in"
            )
        if record.kind is Kind.RESENT:
            return
        message = record.account, record.id
        if message in self.accepted:
            self.shown_again.append(f"duplicate: {record.account} message {record.id} was shown again")
            return
        self.accepted[message] = record.account, record.peer, record.digest
        self.ids[record.id].append(message)


class _Request:
    """All that callers logged of one request."""

    __slots__ = ("acknowledged", "name", "network_ids", "recipient")

    def __init__(self, name: str) -> None:
        self.name = name
        self.acknowledged = False
        self.network_ids: set[str] = set()
        self.recipient = ""


def _requests(calls: Iterable[Call]) -> list[_Request]:
    requests: dict[tuple[str, str], _Request] = {}
    for call in calls:
        key = call.account, call.request_id
        request = requests.get(key)
        if request is None:
            request = requests[key] = _Request(f"{call.account} {call.request_id}".strip())
        if call.acknowledged_at:
            request.acknowledged = True
        if call.network_message_id:
            request.network_ids.add(call.network_message_id)
        request.recipient = request.recipient or call.recipient
    return list(requests.values())


def _lost(requests: list[_Request], ledger: _LedgerPass) -> list[str]:
    lost = []
    for request in requests:
        if request.acknowledged and not any(network_id in ledger.ids for network_id in request.network_ids):
            ids = ", ".join(sorted(request.network_ids)) or "no network id"
            lost.append(f"lost: request {request.name} ({ids}) was acknowledged and never accepted")
    return lost


def _under_several_ids(requests: list[_Request], ledger: _LedgerPass) -> list[str]:
    """Requests that the network accepted under more than one id.

    Either the callers were told several ids of one request; or nobody was told, but an account sent the same
    content to the same recipient more often than requests explain.
    """
    findings = []
    known: Counter[_Conversation] = Counter()
    silent: Counter[str] = Counter(request.recipient for request in requests if not request.network_ids)
    for request in requests:
        reached = [
            message for network_id in request.network_ids for message in ledger.ids.get(network_id, ())
        ]
        findings += [
            f"duplicate: request {request.name} was accepted as {first[1]} and as {again[1]}"
            for first, again in pairwise(reached)
        ]
        known.update(ledger.accepted[message] for message in reached)
    accepted = Counter(ledger.accepted[message] for message in ledger.accepted)
    for conversation, requested in known.items():
        extra = accepted[conversation] - requested - silent[conversation[1]]
        sender, recipient, _ = conversation
        findings += [
            f"duplicate: {sender} sent {recipient} the same again under an id no caller knows"
        ] * extra
    return findings


if __name__ == "__main__":
    sys.exit(main())
