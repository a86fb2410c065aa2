"""After a restart: what the accounts' ratchets, messages and receipts were, read back from the ledger."""

from __future__ import annotations

from mesh_core.framing import encode
from mesh_simulator.account import Account, Waiting
from mesh_simulator.directory import Directory
from mesh_simulator.ledger import Ledger
from mesh_simulator.messages import Messages
from mesh_simulator.records import Kind, Record
from sessionmesh.simnet.v1 import wire_pb2 as wire


def restore(directory: Directory, ledger: Ledger, messages: Messages) -> int:
    """Bring every account up to date and go on delivering; answers the highest connection number so far."""
    undelivered: dict[tuple[str, str], str] = {}
    connections = 0
    for record in ledger.read():
        connections = max(connections, record.connection)
        account = directory.by_user.get(record.account)
        if account is None or record.kind is Kind.ACCOUNT:
            continue
        _apply(account, record, directory)
        if record.kind is Kind.ACCEPTED:
            undelivered[record.account, record.id] = record.peer
        elif record.kind is Kind.RECEIPT:
            undelivered.pop((record.account, record.id), None)
    for account in directory.accounts:
        if not account.receipt_acks:
            account.receipts.clear()
    for (user_id, message_id), to in undelivered.items():
        messages.resume_delivery(directory.by_user[user_id], message_id, to)
    return connections


def _apply(account: Account, record: Record, directory: Directory) -> None:
    kind = record.kind
    if kind in (Kind.ACCEPTED, Kind.RESENT, Kind.REJECTED):
        account.counter = max(account.counter, record.counter)
        if kind is Kind.ACCEPTED:
            account.remember(record.id)
    elif kind is Kind.LOGIN:
        account.receipt_acks = bool(record.code)
    elif kind is Kind.RECEIPT:
        account.receipt_sequence = record.counter
        account.receipts.append((record.counter, _receipt_frame(record)))
    elif kind is Kind.RECEIPTS_ACKED:
        while account.receipts and account.receipts[0][0] <= record.counter:
            account.receipts.popleft()
    elif kind is Kind.INBOUND:
        origin = directory.find(record.peer)
        from_account = isinstance(origin, Account) and record.id in origin.seen
        account.inbound[record.id] = Waiting(
            wire.Inbound.FromString(record.body),
            origin if isinstance(origin, Account) and from_account else None,
        )
        account.inbound_counter = record.counter
    elif kind is Kind.INBOUND_OFFERED and record.id in account.inbound:
        account.inbound[record.id].message.again = True
    elif kind is Kind.INBOUND_ACKED:
        account.inbound.pop(record.id, None)


def _receipt_frame(record: Record) -> bytes:
    receipt = wire.Receipt(
        id=record.id,
        kind=wire.ReceiptKind.ValueType(record.code),
        time_us=record.time_us,
        participant=record.peer,
        sequence=record.counter,
    )
    return encode(wire.Frame(receipt=receipt).SerializeToString())
