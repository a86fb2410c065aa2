"""After a restart: the accounts' ratchets, messages and receipts, read back from the ledger."""

from __future__ import annotations

import structlog
from google.protobuf.message import DecodeError

from mesh_core.framing import encode
from mesh_simulator.accounts.account import Account, PendingInbound
from mesh_simulator.accounts.directory import Directory
from mesh_simulator.ledger.ledger import Ledger
from mesh_simulator.ledger.records import Kind, Record
from mesh_simulator.messages.inbound import MAX_MESSAGE_BYTES
from mesh_simulator.messages.outbound import OutboundMessages
from mesh_simulator.messages.receipts import is_message_id, receipt_frame
from sessionmesh.simnet.v1 import wire_pb2 as wire

logger = structlog.get_logger(__name__)


def restore(directory: Directory, ledger: Ledger, outbound: OutboundMessages) -> int:
    """Bring every account up to date, go on delivering, and return the highest connection number so far.

    A record that says nothing sensible is passed over: the network must start with whatever it wrote once.
    """
    undelivered: dict[tuple[str, str], str] = {}
    connections = 0
    for record in ledger.read():
        connections = max(connections, record.connection)
        account = directory.by_user.get(record.account)
        if account is None or record.kind is Kind.ACCOUNT:
            continue
        try:
            _apply(account, record, directory)
        except (DecodeError, ValueError) as error:
            name, problem = record.kind.name, repr(error)
            logger.warning("a record was passed over", kind=name, id=record.id, problem=problem)
            continue
        if record.kind is Kind.ACCEPTED:
            undelivered[record.account, record.id] = record.peer
        elif record.kind is Kind.RECEIPT:
            undelivered.pop((record.account, record.id), None)
    for account in directory.accounts:
        if not account.receipt_acks:
            account.receipts.clear()
    for (user_id, message_id), to in undelivered.items():
        outbound.resume_delivery(directory.by_user[user_id], message_id, to)
    return connections


def _apply(account: Account, record: Record, directory: Directory) -> None:
    kind = record.kind
    if kind in (Kind.ACCEPTED, Kind.RESENT, Kind.REJECTED):
        account.counter = max(account.counter, record.counter)
        if kind is Kind.ACCEPTED:
            account.remember(record.id, record.time_us)
            _meet(account, directory.phone_at(record.peer))
    elif kind is Kind.MESSAGE_CHANGED:
        account.remember(record.id, record.time_us)
    elif kind is Kind.APP_STATE_CHANGED:
        account.change_app_state(record.id, record.body)
    elif kind is Kind.LOGIN:
        account.receipt_acks = bool(record.code)
    elif kind is Kind.RECEIPT:
        account.receipt_sequence = record.counter
        if record.body:
            told = wire.MemberReceipts.FromString(record.body)
            frame = encode(wire.Frame(member_receipts=told).SerializeToString())
        else:
            what = wire.ReceiptKind.ValueType(record.code)
            frame = receipt_frame(record.id, what, record.time_us, record.counter)
        account.receipts.append((record.counter, frame))
    elif kind is Kind.RECEIPTS_ACKED:
        while account.receipts and account.receipts[0][0] <= record.counter:
            account.receipts.popleft()
    elif kind is Kind.INBOUND:
        author = directory.find(record.peer)
        message = wire.Inbound.FromString(record.body)
        if message.ByteSize() > MAX_MESSAGE_BYTES or not is_message_id(message.id):
            raise ValueError("no client takes this message")
        by_account = (
            isinstance(author, Account) and not message.from_me and record.id in author.known_message_ids
        )
        account.inbound[record.id] = PendingInbound(
            message,
            author if isinstance(author, Account) and by_account else None,
        )
        account.inbound_counter = record.counter
        _meet(account, None if message.from_me else directory.phone_at(record.peer))
    elif kind is Kind.INBOUND_OFFERED and record.id in account.inbound:
        account.inbound[record.id].message.again = True
    elif kind is Kind.INBOUND_ACKED:
        account.inbound.pop(record.id, None)


def _meet(account: Account, phone: str | None) -> None:
    if phone is not None:
        account.people[phone] = None
