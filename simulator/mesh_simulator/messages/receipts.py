"""Receipts: what an account is told about the messages it sent, and what its client reports as read."""

from __future__ import annotations

import time

from mesh_core.framing import encode
from mesh_simulator.accounts.account import Account, Client
from mesh_simulator.accounts.addresses import GROUP, STATUS
from mesh_simulator.accounts.directory import Directory
from mesh_simulator.ledger.ledger import Ledger
from mesh_simulator.ledger.records import Kind
from sessionmesh.simnet.v1 import wire_pb2 as wire

MAX_ID_LENGTH = 64
"""Characters of the id of a message."""
_MAX_RECORDED_LENGTH = 128
# One message for all receipts: to make a message and its frame costs more than to fill in their fields.
_FRAME = wire.Frame(receipt=wire.Receipt())


class Receipts:
    """Sends receipts, and keeps them for clients that are offline or acknowledge them."""

    def __init__(self, directory: Directory, ledger: Ledger) -> None:
        self._directory = directory
        self._ledger = ledger

    def issue(
        self, account: Account, message_id: str, kind: wire.ReceiptKind.ValueType, participant: str
    ) -> None:
        """Tell an account what became of its message, now or after its next login.

        `participant` is the phone number of the member of a group whom the receipt is about, else empty.
        """
        account.receipt_sequence = sequence = account.receipt_sequence + 1
        client = account.client
        identity = None
        if participant:
            identity = self._directory.identity_of(participant)
            participant = self._directory.address_of(participant)
        self._ledger.append(
            Kind.RECEIPT,
            client.number if client is not None else 0,
            account.number,
            sequence,
            kind,
            text=f"{message_id}\0{participant}",
        )
        frame = receipt_frame(message_id, kind, time.time_ns() // 1000, participant, identity, sequence)
        written = client is not None and client.put(frame)
        if account.receipt_acks or not written:
            account.receipts.append((sequence, frame))

    def send_pending(self, client: Client, account: Account) -> None:
        """After a login: the receipts that the account has not acknowledged, oldest first."""
        for _, frame in account.receipts:
            client.put(frame)
        if not account.receipt_acks:
            account.receipts.clear()

    def acknowledged(self, client: Client, account: Account, sequence: int) -> None:
        """The client has every receipt up to `sequence`."""
        receipts = account.receipts
        while receipts and receipts[0][0] <= sequence:
            receipts.popleft()
        self._ledger.append(Kind.RECEIPTS_ACKED, client.number, account.number, sequence)

    def read_by_client(self, account: Account, receipt: wire.Receipt) -> None:
        """The client read or played a message: its author is told, if that is an account."""
        kind = receipt.kind
        if kind not in (wire.RECEIPT_KIND_READ, wire.RECEIPT_KIND_PLAYED) or not is_message_id(receipt.id):
            return
        text = f"{recordable(receipt.id)}\0{recordable(receipt.chat)}"
        self._ledger.append(Kind.READ_REPORTED, account=account.number, code=kind, text=text)
        in_group = receipt.chat.startswith(GROUP) or receipt.chat == STATUS
        author = self._directory.find(receipt.participant if in_group else receipt.chat)
        silent = account.shown is not None and not account.shown.read_receipts
        if silent and kind == wire.RECEIPT_KIND_READ and not in_group:
            return  # it is read on the account's own devices alone
        if isinstance(author, Account):
            self.issue(author, receipt.id, kind, account.phone if in_group else "")


def receipt_frame(
    message_id: str,
    kind: wire.ReceiptKind.ValueType,
    time_us: int,
    participant: str,
    identity: wire.Identity | None,
    sequence: int,
) -> bytes:
    """An encoded frame with a receipt."""
    receipt = _FRAME.receipt
    receipt.id = message_id
    receipt.kind = kind
    receipt.time_us = time_us
    receipt.participant = participant
    receipt.sequence = sequence
    if identity is None:
        receipt.ClearField("participant_identity")
    else:
        receipt.participant_identity.CopyFrom(identity)
    return encode(_FRAME.SerializeToString())


def is_message_id(text: str) -> bool:
    """Whether a message can have this id: it is kept in records, whose parts NUL separates."""
    return 0 < len(text) <= MAX_ID_LENGTH and text.isprintable()


def recordable(text: str) -> str:
    """What a client sent, in a form that fits a record: NUL would separate the record's parts."""
    return text.replace("\0", "")[:_MAX_RECORDED_LENGTH]
