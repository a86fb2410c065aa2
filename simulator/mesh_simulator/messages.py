"""What happens to messages: judged, acknowledged, delivered to people or accounts, receipted, offered."""

from __future__ import annotations

import secrets
import time
from hashlib import blake2b
from typing import TYPE_CHECKING

from mesh_core.framing import encode
from mesh_simulator.account import Account, Group, Waiting
from mesh_simulator.addresses import PHONE
from mesh_simulator.blobs import BlobStore
from mesh_simulator.directory import Directory
from mesh_simulator.ledger import Ledger
from mesh_simulator.records import Kind
from mesh_simulator.wheel import TimerWheel
from sessionmesh.simnet.v1 import wire_pb2 as wire

if TYPE_CHECKING:
    from mesh_simulator.connection import Connection

MAX_CONTENT_BYTES = 256 * 1024
_MAX_ID_LENGTH = 64
# Filled in and serialised again and again: making a message and its frame costs more than all their fields.
_ACK = wire.Frame(ack=wire.Ack())
_RECEIPT = wire.Frame(receipt=wire.Receipt())


class Messages:
    """The hot path is `take`: keep it short, no task, no await."""

    def __init__(self, directory: Directory, ledger: Ledger, wheel: TimerWheel, blobs: BlobStore) -> None:
        self._directory = directory
        self._ledger = ledger
        self._wheel = wheel
        self._blobs = blobs

    def take(self, connection: Connection, account: Account, send: wire.Send) -> None:
        """A message from a client: acknowledge or refuse it, and see to what follows."""
        message_id, counter, to, content = send.id, send.counter, send.to, send.content
        if counter <= account.counter:
            reused = counter == account.counter
            reason = wire.REJECT_REASON_RATCHET_REUSED if reused else wire.REJECT_REASON_RATCHET_BACK
            self._reject(connection, account, send, reason)
            return
        account.counter = counter
        if not 0 < len(message_id) <= _MAX_ID_LENGTH or not message_id.isprintable():
            self._reject(connection, account, send, wire.REJECT_REASON_MALFORMED)
            return
        if message_id in account.seen:
            self._ledger.append(
                Kind.RESENT, connection.number, account.number, counter, text=f"{message_id}\0{to}"
            )
            self._ack(connection, account, message_id, duplicate=True)
            return
        if len(content) > MAX_CONTENT_BYTES:
            self._reject(connection, account, send, wire.REJECT_REASON_TOO_LARGE)
            return
        if send.blob_refs and not all(ref in self._blobs for ref in send.blob_refs):
            self._reject(connection, account, send, wire.REJECT_REASON_UNKNOWN_BLOB)
            return
        recipient = self._directory.find(to)
        if recipient is None:
            self._reject(connection, account, send, wire.REJECT_REASON_UNKNOWN_RECIPIENT)
            return
        if isinstance(recipient, Group) and account.phone not in recipient.members:
            self._reject(connection, account, send, wire.REJECT_REASON_NOT_A_MEMBER)
            return
        if account.behaviour.messages_per_minute and (wait := account.wait_for_limit(time.monotonic())):
            self._reject(connection, account, send, wire.REJECT_REASON_RATE_LIMITED, retry_after=wait)
            return
        account.remember(message_id)
        digest = blake2b(content, digest_size=8).digest()
        self._ledger.append(
            Kind.ACCEPTED, connection.number, account.number, counter, 0, digest, f"{message_id}\0{to}"
        )
        self._ack(connection, account, message_id)
        self._pass_on(account, message_id, recipient, content)

    def offer(self, account: Account, message: wire.Inbound, origin: Account | None = None) -> None:
        """Put a message before an account, now or when it comes; completes id, time and counter."""
        message.id = message.id or secrets.token_hex(10).upper()
        message.time_us = message.time_us or time.time_ns() // 1000
        account.inbound_counter += 1
        message.counter = account.inbound_counter
        account.inbound[message.id] = Waiting(message, origin)
        self._ledger.append(
            Kind.INBOUND,
            account=account.number,
            counter=message.counter,
            text=f"{message.id}\0{message.sender}",
            body=message.SerializeToString(),
        )
        if account.connection is not None:
            self._write_inbound(account.connection, account, message)

    def catch_up(self, connection: Connection, account: Account) -> None:
        """After a login: everything that the account has not acknowledged, oldest first."""
        for _, frame in account.receipts:
            connection.put(frame)
        if not account.receipt_acks:
            account.receipts.clear()
        for waiting in account.inbound.values():
            self._write_inbound(connection, account, waiting.message)

    def inbound_acked(self, connection: Connection, account: Account, message_id: str) -> None:
        """The client has the message: its sender gets the receipt."""
        dropped = account.effects is not None and account.effects.drop_inbound_acks
        kind = Kind.INBOUND_ACK_DROPPED if dropped else Kind.INBOUND_ACKED
        self._ledger.append(kind, connection.number, account.number, text=f"{message_id}\0")
        if dropped or (waiting := account.inbound.pop(message_id, None)) is None:
            return
        if waiting.origin is not None:
            participant = PHONE + account.phone if waiting.message.chat.startswith("group:") else ""
            self.receipt(waiting.origin, message_id, wire.RECEIPT_KIND_DELIVERED, participant)

    def receipt(
        self, account: Account, message_id: str, kind: wire.ReceiptKind.ValueType, participant: str
    ) -> None:
        """Tell an account what became of its message, now or when it comes."""
        account.receipt_sequence = sequence = account.receipt_sequence + 1
        self._ledger.append(
            Kind.RECEIPT,
            account.connection.number if account.connection is not None else 0,
            account.number,
            sequence,
            kind,
            text=f"{message_id}\0{participant}",
        )
        receipt = _RECEIPT.receipt
        receipt.id = message_id
        receipt.kind = kind
        receipt.time_us = time.time_ns() // 1000
        receipt.participant = participant
        receipt.sequence = sequence
        frame = encode(_RECEIPT.SerializeToString())
        written = account.connection is not None and account.connection.put(frame)
        if account.receipt_acks or not written:
            account.receipts.append((sequence, frame))

    def receipts_acked(self, connection: Connection, account: Account, sequence: int) -> None:
        """The client has every receipt up to `sequence`."""
        receipts = account.receipts
        while receipts and receipts[0][0] <= sequence:
            receipts.popleft()
        self._ledger.append(Kind.RECEIPTS_ACKED, connection.number, account.number, sequence)

    def read_by_client(self, account: Account, receipt: wire.Receipt) -> None:
        """The client read or played a message: the author is told, if it is an account."""
        kind = receipt.kind
        if kind not in (wire.RECEIPT_KIND_READ, wire.RECEIPT_KIND_PLAYED):
            return
        text = f"{_clean(receipt.id)}\0{_clean(receipt.chat)}"
        self._ledger.append(Kind.READ_REPORTED, account=account.number, code=kind, text=text)
        in_group = receipt.chat.startswith("group:")
        author = self._directory.find(receipt.participant if in_group else receipt.chat)
        if isinstance(author, Account):
            self.receipt(author, receipt.id, kind, PHONE + account.phone if in_group else "")

    def typing(self, account: Account, typing: wire.Typing) -> None:
        """Passed on to the account it is meant for, if that is online."""
        recipient = self._directory.find(typing.chat)
        if isinstance(recipient, Account) and recipient.connection is not None:
            sender = PHONE + account.phone
            seen = wire.Typing(chat=sender, state=typing.state, sender=sender)
            recipient.connection.send(wire.Frame(typing=seen))

    def presence(self, account: Account, presence: wire.Presence) -> None:
        """Nobody subscribes to anybody here; being heard is all."""

    def resume_delivery(self, account: Account, message_id: str, to: str) -> None:
        """After a restart: a message that was accepted and whose receipt is still due."""
        recipient = self._directory.find(to)
        if isinstance(recipient, str):
            self._deliver(account, message_id, recipient, "")
        elif isinstance(recipient, Group):
            for phone in recipient.members:
                if phone != account.phone and phone not in self._directory.by_phone:
                    self._deliver(account, message_id, phone, PHONE + phone)

    def _pass_on(
        self, account: Account, message_id: str, recipient: Account | Group | str, content: bytes
    ) -> None:
        if isinstance(recipient, str):
            self._deliver(account, message_id, recipient, "")
        elif isinstance(recipient, Account):
            self._offer_from(account, message_id, recipient, PHONE + account.phone, content)
        else:
            chat = "group:" + recipient.group_id
            for phone in recipient.members:
                member = self._directory.by_phone.get(phone)
                if member is None:
                    self._deliver(account, message_id, phone, PHONE + phone)
                elif member is not account:
                    self._offer_from(account, message_id, member, chat, content)

    def _offer_from(
        self, account: Account, message_id: str, recipient: Account, chat: str, content: bytes
    ) -> None:
        message = wire.Inbound(
            id=message_id,
            sender=PHONE + account.phone,
            chat=chat,
            push_name=account.push_name,
            content=content,
        )
        self.offer(recipient, message, account)

    def _deliver(self, account: Account, message_id: str, phone: str, participant: str) -> None:
        self._wheel.after(
            account.behaviour.delivered_delay, self._delivered, account, message_id, phone, participant
        )

    def _delivered(self, account: Account, message_id: str, phone: str, participant: str) -> None:
        self.receipt(account, message_id, wire.RECEIPT_KIND_DELIVERED, participant)
        behaviour = account.behaviour
        delay = behaviour.read_delay
        if delay is not None:
            self._wheel.after(delay, self.receipt, account, message_id, wire.RECEIPT_KIND_READ, participant)
        if behaviour.auto_reply and not participant:
            self._wheel.after(delay or 0.0, self._reply, account, phone, behaviour.auto_reply)

    def _reply(self, account: Account, phone: str, text: str) -> None:
        address = PHONE + phone
        content = wire.Content(text=text).SerializeToString()
        self.offer(account, wire.Inbound(sender=address, chat=address, push_name=phone, content=content))

    def _ack(
        self, connection: Connection, account: Account, message_id: str, *, duplicate: bool = False
    ) -> None:
        effects = account.effects
        if effects is not None:
            if effects.lose_acks:
                return
            if effects.ack_delay:
                self._wheel.after(
                    effects.ack_delay, self._write_ack, connection, account, message_id, duplicate
                )
                return
        self._write_ack(connection, account, message_id, duplicate)

    def _write_ack(self, connection: Connection, account: Account, message_id: str, duplicate: bool) -> None:
        ack = _ACK.ack
        ack.id = message_id
        ack.duplicate = duplicate
        ack.time_us = time.time_ns() // 1000
        if connection.put(encode(_ACK.SerializeToString())):
            self._ledger.append(Kind.ACKED, connection.number, account.number, text=f"{message_id}\0")

    def _reject(
        self,
        connection: Connection,
        account: Account,
        send: wire.Send,
        reason: wire.RejectReason.ValueType,
        *,
        retry_after: float = 0.0,
    ) -> None:
        self._ledger.append(
            Kind.REJECTED,
            connection.number,
            account.number,
            send.counter,
            reason,
            text=f"{_clean(send.id)}\0{_clean(send.to)}",
        )
        reject = wire.Reject(
            id=send.id,
            reason=reason,
            message=wire.RejectReason.Name(reason).removeprefix("REJECT_REASON_").replace("_", " ").lower(),
            retry_after_ms=int(retry_after * 1000),
        )
        connection.send(wire.Frame(reject=reject))

    def _write_inbound(self, connection: Connection, account: Account, message: wire.Inbound) -> None:
        if connection.send(wire.Frame(inbound=message)):
            message.again = True
            self._ledger.append(
                Kind.INBOUND_OFFERED, connection.number, account.number, text=f"{message.id}\0"
            )


def _clean(text: str) -> str:
    """What a client sent, fit for a record: NUL separates its parts."""
    return text.replace("\0", "")[:128]
