"""What a network's ledger says of an account's acts beside sending."""

from __future__ import annotations

from collections.abc import Iterable

from mesh_simulator.ledger.records import Kind, Record
from sessionmesh.simnet.v1 import wire_pb2 as wire


def seen_in(records: Iterable[Record]) -> list[str]:
    """What a ledger has of an account's acts beside sending."""
    seen = []
    for record in records:
        if record.kind is Kind.MESSAGE_CHANGED:
            seen.append(f"{_CHANGES[record.code]} {record.peer}")
        elif record.kind is Kind.APP_STATE_CHANGED:
            seen.append("app state")
        elif record.kind is Kind.READ_REPORTED:
            seen.append(f"{_RECEIPTS[record.code]} {record.id}")
        elif record.kind is Kind.TYPING:
            seen.append(_TYPING[record.code])
    return seen


_CHANGES = {5: "edit", 6: "revoke", 7: "pin"}
"""By the numbers of the fields of ChangeMessage."""
_RECEIPTS: dict[int, str] = {
    number: name.removeprefix("RECEIPT_KIND_").lower() for name, number in wire.ReceiptKind.items()
}
_TYPING: dict[int, str] = {
    number: name.removeprefix("TYPING_STATE_").lower() for name, number in wire.TypingState.items()
}
