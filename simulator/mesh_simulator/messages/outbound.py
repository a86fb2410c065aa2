"""Messages from clients: checked, acknowledged, and delivered to people or other accounts."""

from __future__ import annotations

import time
from hashlib import blake2b

from mesh_core.framing import encode
from mesh_simulator.accounts.account import Account, Client
from mesh_simulator.accounts.addresses import GROUP, STATUS
from mesh_simulator.accounts.directory import Directory
from mesh_simulator.accounts.group import Group
from mesh_simulator.connections.blobs import BlobStore
from mesh_simulator.connections.timers import TimerWheel
from mesh_simulator.ledger.ledger import Ledger
from mesh_simulator.ledger.records import Kind
from mesh_simulator.messages.channel_posts import ChannelPosts, channel_at
from mesh_simulator.messages.inbound import InboundMessages
from mesh_simulator.messages.receipts import Receipts, is_message_id, recordable
from sessionmesh.simnet.v1 import wire_pb2 as wire

MAX_CONTENT_BYTES = 256 * 1024
# One message for all acknowledgements: to make a message and its frame costs more than to fill in the fields.
_ACK = wire.Frame(ack=wire.Ack())


class OutboundMessages:
    """`accept` is the hot path of the whole network: no task, no await."""

    def __init__(
        self,
        directory: Directory,
        ledger: Ledger,
        timers: TimerWheel,
        blobs: BlobStore,
        inbound: InboundMessages,
        receipts: Receipts,
        posts: ChannelPosts,
    ) -> None:
        self._posts = posts
        self._directory = directory
        self._ledger = ledger
        self._timers = timers
        self._blobs = blobs
        self._inbound = inbound
        self._receipts = receipts

    def accept(self, client: Client, account: Account, send: wire.Send) -> None:
        """A message from a client: acknowledge and deliver it, or refuse it."""
        message_id, counter, to, content = send.id, send.counter, send.to, send.content
        if counter <= account.counter:
            reused = counter == account.counter
            reason = wire.REJECT_REASON_RATCHET_REUSED if reused else wire.REJECT_REASON_RATCHET_BACK
            self._reject(client, account, send, reason)
            return
        account.counter = counter
        if not is_message_id(message_id):
            self._reject(client, account, send, wire.REJECT_REASON_MALFORMED)
            return
        if message_id in account.known_message_ids:
            self._ledger.append(
                Kind.RESENT, client.number, account.number, counter, text=f"{message_id}\0{recordable(to)}"
            )
            self._ack(client, account, message_id, to, duplicate=True)
            return
        if len(content) > MAX_CONTENT_BYTES:
            self._reject(client, account, send, wire.REJECT_REASON_TOO_LARGE)
            return
        if send.blob_refs and not all(ref in self._blobs for ref in send.blob_refs):
            self._reject(client, account, send, wire.REJECT_REASON_UNKNOWN_BLOB)
            return
        recipient = self._directory.find(to)
        channel = channel_at(self._directory, to) if recipient is None else None
        if recipient is None and channel is None and to != STATUS:
            self._reject(client, account, send, wire.REJECT_REASON_UNKNOWN_RECIPIENT)
            return
        if channel is not None and (why := self._posts.refuse(account, channel, content)) is not None:
            self._reject(client, account, send, why)
            return
        if isinstance(recipient, Group) and not recipient.may_write(account.phone):
            self._reject(client, account, send, wire.REJECT_REASON_NOT_A_MEMBER)
            return
        for refusal in account.behaviour.refusals:
            if not refusal.recipient or self._is_at(refusal.recipient, to, recipient):
                self._reject(client, account, send, refusal.reason, code=refusal.code)
                return
        if account.behaviour.messages_per_minute and (wait := account.wait_for_limit(time.monotonic())):
            self._reject(client, account, send, wire.REJECT_REASON_RATE_LIMITED, retry_after=wait)
            return
        account.remember(message_id, time.time_ns() // 1000)
        digest = blake2b(content, digest_size=8).digest()
        self._ledger.append(
            Kind.ACCEPTED, client.number, account.number, counter, 0, digest, f"{message_id}\0{to}"
        )
        self._ack(client, account, message_id, to)
        if channel is not None:
            self._posts.take(account, channel, message_id, content)
        elif recipient is None:
            self._post(account, message_id, send.audience, content)
        else:
            self._pass_on(account, message_id, recipient, content)

    def _is_at(self, address: str, to: str, recipient: Account | Group | str | None) -> bool:
        return address == to if recipient is None else self._directory.find(address) == recipient

    def resume_delivery(self, account: Account, message_id: str, to: str) -> None:
        """After a restart: deliver a message that was accepted and has no DELIVERED receipt yet."""
        recipient = self._directory.find(to)
        if isinstance(recipient, str):
            self._deliver(account, message_id, recipient, "")
        elif isinstance(recipient, Group):
            for phone in recipient.members:
                if phone != account.phone and phone not in self._directory.by_phone:
                    self._deliver(account, message_id, phone, phone)

    def _pass_on(
        self, account: Account, message_id: str, recipient: Account | Group | str, content: bytes
    ) -> None:
        if isinstance(recipient, str):
            account.people[recipient] = None
            self._deliver(account, message_id, recipient, "")
        elif isinstance(recipient, Account):
            account.people[recipient.phone] = None
            chat = self._directory.address_of(account.phone)
            self._offer_from(account, message_id, recipient, chat, content)
        else:
            chat = GROUP + recipient.group_id
            for phone in recipient.members:
                member = self._directory.by_phone.get(phone)
                if member is None:
                    self._deliver(account, message_id, phone, phone)
                elif member is not account:
                    self._offer_from(account, message_id, member, chat, content)

    def _post(self, account: Account, message_id: str, audience: wire.Audience, content: bytes) -> None:
        """A status post: each person who sees it gets it, and confirms it as a member of a group would."""
        named = [self._directory.phone_at(address) for address in audience.addresses]
        for phone in named if audience.only else [one for one in account.people if one not in named]:
            if phone is None or phone == account.phone:
                continue
            person = self._directory.by_phone.get(phone)
            if person is None:
                self._deliver(account, message_id, phone, phone)
            else:
                self._offer_from(account, message_id, person, STATUS, content)

    def _offer_from(
        self, account: Account, message_id: str, recipient: Account, chat: str, content: bytes
    ) -> None:
        message = wire.Inbound(
            id=message_id,
            sender=self._directory.address_of(account.phone),
            chat=chat,
            push_name=account.push_name,
            content=content,
        )
        self._inbound.offer(recipient, message, account)

    def _deliver(self, account: Account, message_id: str, phone: str, participant: str) -> None:
        self._timers.after(
            account.behaviour.delivered_delay, self._delivered, account, message_id, phone, participant
        )

    def _delivered(self, account: Account, message_id: str, phone: str, participant: str) -> None:
        self._receipts.issue(account, message_id, wire.RECEIPT_KIND_DELIVERED, participant)
        behaviour = account.behaviour
        delay = behaviour.read_delay
        if delay is not None:
            self._timers.after(
                delay, self._receipts.issue, account, message_id, wire.RECEIPT_KIND_READ, participant
            )
        if behaviour.auto_reply and not participant:
            self._timers.after(delay or 0.0, self._reply, account, phone, behaviour.auto_reply)

    def _reply(self, account: Account, phone: str, text: str) -> None:
        address = self._directory.address_of(phone)
        name = self._directory.identity_of(phone).phone
        content = wire.Content(text=text).SerializeToString()
        message = wire.Inbound(sender=address, chat=address, push_name=name, content=content)
        self._inbound.offer(account, message)

    def _ack(
        self, client: Client, account: Account, message_id: str, to: str, *, duplicate: bool = False
    ) -> None:
        effects = account.effects
        if effects is not None:
            if effects.lose_acks:
                return
            if effects.ack_delay:
                self._timers.after(
                    effects.ack_delay, self._write_ack, client, account, message_id, to, duplicate
                )
                return
        self._write_ack(client, account, message_id, to, duplicate)

    def _write_ack(self, client: Client, account: Account, message_id: str, to: str, duplicate: bool) -> None:
        ack = _ACK.ack
        ack.id = message_id
        ack.duplicate = duplicate
        ack.time_us = time.time_ns() // 1000
        ack.ClearField("recipient")
        if to not in client.told:
            client.told[to] = None
            if (identity := self._directory.identity_at(to)) is not None:
                ack.recipient.CopyFrom(identity)
        if client.put(encode(_ACK.SerializeToString())):
            self._ledger.append(Kind.ACKED, client.number, account.number, text=f"{message_id}\0")

    def _reject(
        self,
        client: Client,
        account: Account,
        send: wire.Send,
        reason: wire.RejectReason.ValueType,
        *,
        retry_after: float = 0.0,
        code: int = 0,
    ) -> None:
        self._ledger.append(
            Kind.REJECTED,
            client.number,
            account.number,
            send.counter,
            reason,
            text=f"{recordable(send.id)}\0{recordable(send.to)}",
        )
        reject = wire.Reject(
            id=send.id,
            reason=reason,
            message=wire.RejectReason.Name(reason).removeprefix("REJECT_REASON_").replace("_", " ").lower(),
            retry_after_ms=int(retry_after * 1000),
            code=code,
        )
        client.send(wire.Frame(reject=reject))
