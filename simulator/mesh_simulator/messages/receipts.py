"""Receipts: what an account is told about the messages it sent, and what its client reports as read."""

from __future__ import annotations

import time

from mesh_core.framing import LENGTH_BYTES, encode
from mesh_simulator.accounts.account import Account, Client
from mesh_simulator.accounts.addresses import GROUP, STATUS
from mesh_simulator.accounts.directory import Directory
from mesh_simulator.connections.timers import TimerWheel
from mesh_simulator.ledger.ledger import Ledger
from mesh_simulator.ledger.records import Kind
from sessionmesh.simnet.v1 import wire_pb2 as wire

MAX_ID_LENGTH = 64
"""Characters of the id of a message."""
GATHER_SECONDS = 0.05
"""How long the receipts of members of groups wait for others of the same message."""
MAX_PARTICIPANTS = 1_024
"""Of one frame."""
_MAX_RECORDED_LENGTH = 128
# One message for all receipts: to make a message and its frame costs more than to fill in their fields.
_FRAME = wire.Frame(receipt=wire.Receipt())


class Receipts:
    """Sends receipts, and keeps them for clients that are offline or acknowledge them. What members of groups
    confirm is gathered for a moment, for each message and kind.
    """

    def __init__(self, directory: Directory, ledger: Ledger, timers: TimerWheel) -> None:
        self._directory = directory
        self._ledger = ledger
        self._timers = timers
        self._gathered: dict[tuple[Account, str, int], dict[str, int]] = {}

    def issue(
        self, account: Account, message_id: str, kind: wire.ReceiptKind.ValueType, participant: str
    ) -> None:
        """Tell an account what became of its message, now or after its next login; within `GATHER_SECONDS`
        where others may do the same.

        `participant` is the phone number of the member of a group whom the receipt is about, else empty.
        """
        now = time.time_ns() // 1000
        if participant:
            self._gather(account, message_id, kind, self._directory.address_of(participant), now)
            return
        sequence, client = self._next(account), account.client
        self._record(account, sequence, kind, f"{message_id}\0")
        frame = receipt_frame(message_id, kind, now, sequence)
        self._pass_on(account, sequence, frame, written=client is not None and client.put(frame))

    def _gather(
        self, account: Account, message_id: str, kind: wire.ReceiptKind.ValueType, address: str, now: int
    ) -> None:
        key = account, message_id, kind
        gathered = self._gathered.get(key)
        if gathered is None:
            gathered = self._gathered[key] = {}
            self._timers.after(GATHER_SECONDS, self._tell, account, message_id, kind, gathered)
        gathered.setdefault(address, now - now % 1000)
        if len(gathered) >= MAX_PARTICIPANTS:
            self._tell(account, message_id, kind, gathered)

    def _tell(
        self,
        account: Account,
        message_id: str,
        kind: wire.ReceiptKind.ValueType,
        gathered: dict[str, int],
    ) -> None:
        if self._gathered.get((account, message_id, kind)) is not gathered:
            return  # they were enough before their time
        del self._gathered[account, message_id, kind]
        sequence, client = self._next(account), account.client
        told = wire.MemberReceipts(
            id=message_id,
            kind=kind,
            participants=gathered.keys(),
            times_us=gathered.values(),
            sequence=sequence,
        )
        frame = wire.Frame(member_receipts=told)
        kept = encode(frame.SerializeToString())
        peer = told.participants[0] if len(gathered) == 1 else ""
        self._record(account, sequence, kind, f"{message_id}\0{peer}", told.SerializeToString())
        written = client is not None and client.put(self._to_client(client, frame, kept))
        self._pass_on(account, sequence, kept, written=written)

    def _to_client(self, client: Client, frame: wire.Frame, kept: bytes) -> bytes:
        """The frame, with who the participants are whom the client was not told of."""
        told = frame.member_receipts
        unknown = [address for address in told.participants if address not in client.told]
        for address in unknown:
            identity = self._directory.identity_at(address)
            if identity is not None:
                told.known.append(wire.KnownParticipant(participant=address, identity=identity))
            client.told[address] = None
        return encode(frame.SerializeToString()) if unknown else kept

    def _next(self, account: Account) -> int:
        account.receipt_sequence += 1
        return account.receipt_sequence

    def _record(
        self, account: Account, sequence: int, kind: wire.ReceiptKind.ValueType, text: str, body: bytes = b""
    ) -> None:
        number = account.client.number if account.client is not None else 0
        self._ledger.append(Kind.RECEIPT, number, account.number, sequence, kind, text=text, body=body)

    def _pass_on(self, account: Account, sequence: int, frame: bytes, *, written: bool) -> None:
        if account.receipt_acks or not written:
            account.receipts.append((sequence, frame))

    def send_pending(self, client: Client, account: Account) -> None:
        """After a login: the receipts that the account has not acknowledged, oldest first."""
        for _, kept in account.receipts:
            frame = wire.Frame.FromString(kept[LENGTH_BYTES:])
            client.put(self._to_client(client, frame, kept) if frame.HasField("member_receipts") else kept)
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


def receipt_frame(message_id: str, kind: wire.ReceiptKind.ValueType, time_us: int, sequence: int) -> bytes:
    """An encoded frame with a receipt."""
    receipt = _FRAME.receipt
    receipt.id = message_id
    receipt.kind = kind
    receipt.time_us = time_us
    receipt.sequence = sequence
    return encode(_FRAME.SerializeToString())


def is_message_id(text: str) -> bool:
    """Whether a message can have this id: it is kept in records, whose parts NUL separates."""
    return 0 < len(text) <= MAX_ID_LENGTH and text.isprintable()


def recordable(text: str) -> str:
    """What a client sent, in a form that fits a record: NUL would separate the record's parts."""
    return text.replace("\0", "")[:_MAX_RECORDED_LENGTH]
