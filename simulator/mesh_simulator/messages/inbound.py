"""Messages for accounts: offered to the account's client until it acknowledges them."""

from __future__ import annotations

import secrets
import time

from mesh_core.errors import InvalidField
from mesh_core.framing import MAX_FRAME_BYTES
from mesh_simulator.accounts.account import Account, Client, PendingInbound
from mesh_simulator.accounts.addresses import GROUP, STATUS
from mesh_simulator.accounts.directory import Directory
from mesh_simulator.ledger.ledger import Ledger
from mesh_simulator.ledger.records import Kind
from mesh_simulator.messages.receipts import MAX_ID_LENGTH, Receipts, is_message_id, recordable
from sessionmesh.simnet.v1 import wire_pb2 as wire

MAX_MESSAGE_BYTES = MAX_FRAME_BYTES - 4096
"""The rest of a frame is for what the network adds."""


class InboundMessages:
    """Offers messages to clients, and passes on what people do meanwhile."""

    def __init__(self, directory: Directory, ledger: Ledger, receipts: Receipts) -> None:
        self._directory = directory
        self._ledger = ledger
        self._receipts = receipts

    def offer(self, account: Account, message: wire.Inbound, author: Account | None = None) -> None:
        """Offer a message to an account, now or after its next login.

        Fills in its id, time, counter and identity. `author` gets the receipts; None: a person who has no
        account wrote it. Raises `InvalidField` for an id that no message can have, and for what does not fit
        into a frame: it would end the client's connection at each login. What somebody writes in a chat of
        two whom the account has blocked is dropped.
        """
        message.id = message.id or secrets.token_hex(10).upper()
        check_message_id("network_message_id", message.id)
        if message.ByteSize() > MAX_MESSAGE_BYTES:
            raise InvalidField("content", f"must make a message of at most {MAX_MESSAGE_BYTES:,} bytes")
        if self._is_blocked(account, message):
            return
        message.time_us = message.time_us or time.time_ns() // 1000
        account.inbound_counter += 1
        message.counter = account.inbound_counter
        by_own_device = message.from_me and not message.chat.startswith(GROUP)
        identity = self._directory.identity_at(message.chat if by_own_device else message.sender)
        if identity is not None:
            message.identity.CopyFrom(identity)
        if identity is not None and identity.phone and not message.from_me:
            account.people[identity.phone] = None
        account.inbound[message.id] = PendingInbound(message, author)
        self._ledger.append(
            Kind.INBOUND,
            account=account.number,
            counter=message.counter,
            text=f"{message.id}\0{message.sender}",
            body=message.SerializeToString(),
        )
        if account.client is not None:
            self._write(account.client, account, message)

    def _is_blocked(self, account: Account, message: wire.Inbound) -> bool:
        if account.blocked is None or message.from_me or message.chat.startswith(GROUP):
            return False
        return self._directory.phone_at(message.sender) in account.blocked

    def send_pending(self, client: Client, account: Account) -> None:
        """After a login: the messages that the account has not acknowledged, oldest first."""
        for pending in account.inbound.values():
            self._write(client, account, pending.message)

    def acknowledged(self, client: Client, account: Account, message_id: str) -> None:
        """The client has the message: its author gets the DELIVERED receipt."""
        dropped = account.effects is not None and account.effects.drop_inbound_acks
        kind = Kind.INBOUND_ACK_DROPPED if dropped else Kind.INBOUND_ACKED
        self._ledger.append(kind, client.number, account.number, text=f"{recordable(message_id)}\0")
        if dropped or (pending := account.inbound.pop(message_id, None)) is None:
            return
        if pending.author is not None:
            of_many = pending.message.chat.startswith(GROUP) or pending.message.chat == STATUS
            participant = account.phone if of_many else ""
            self._receipts.issue(pending.author, message_id, wire.RECEIPT_KIND_DELIVERED, participant)

    def typing(self, account: Account, typing: wire.Typing) -> None:
        """Tell the account that `account` is typing to, if it is online."""
        self._ledger.append(
            Kind.TYPING, account=account.number, code=typing.state, text=f"\0{recordable(typing.chat)}"
        )
        recipient = self._directory.find(typing.chat)
        if isinstance(recipient, Account):
            sender = self._directory.address_of(account.phone)
            self.show_typing(recipient, sender, sender, typing.state)

    def show_typing(
        self, account: Account, sender: str, chat: str, state: wire.TypingState.ValueType
    ) -> None:
        """Tell an account, if it is online, what the person at `sender` does in a chat."""
        if account.client is not None:
            identity = self._directory.identity_at(sender)
            shown = wire.Typing(chat=chat, state=state, sender=sender, identity=identity)
            account.client.send(wire.Frame(typing=shown))

    def _write(self, client: Client, account: Account, message: wire.Inbound) -> None:
        if client.send(wire.Frame(inbound=message)):
            message.again = True
            self._ledger.append(Kind.INBOUND_OFFERED, client.number, account.number, text=f"{message.id}\0")


def check_message_id(field: str, value: str) -> None:
    """Raise `InvalidField` for what cannot be the id of a message."""
    if not is_message_id(value):
        raise InvalidField(field, f"must be 1 to {MAX_ID_LENGTH} printable characters")
