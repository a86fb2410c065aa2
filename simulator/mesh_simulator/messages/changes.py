"""Changes of messages that were sent: edited, taken back, pinned.

The network does not look into an edit, and knows of a message only who sent it and when.
"""

from __future__ import annotations

import time
from typing import TypeAlias

from mesh_simulator.accounts.account import Account
from mesh_simulator.accounts.addresses import CHANNEL, GROUP
from mesh_simulator.accounts.directory import Directory
from mesh_simulator.accounts.group import Group
from mesh_simulator.ledger.ledger import Ledger
from mesh_simulator.ledger.records import Kind
from mesh_simulator.messages.channel_posts import ChannelPosts, channel_at
from mesh_simulator.messages.inbound import InboundMessages
from mesh_simulator.messages.receipts import is_message_id
from sessionmesh.simnet.v1 import wire_pb2 as wire

MAX_CONTENT_BYTES = 256 * 1024

Refusal: TypeAlias = "wire.QueryErrorReason.ValueType"


class MessageChanges:
    """Makes the changes that may be made, and passes them on. `change` returns why not; None: it is done."""

    def __init__(
        self, directory: Directory, ledger: Ledger, inbound: InboundMessages, posts: ChannelPosts
    ) -> None:
        self._posts = posts
        self._directory = directory
        self._ledger = ledger
        self._inbound = inbound

    def change(self, account: Account, change: wire.ChangeMessage) -> Refusal | None:
        """Change a message, once: the same id again changes nothing."""
        kind = change.WhichOneof("change")
        too_large = len(change.edit) > MAX_CONTENT_BYTES
        if kind is None or too_large or not (is_message_id(change.id) and is_message_id(change.message_id)):
            return wire.QUERY_ERROR_REASON_MALFORMED
        if change.chat.startswith(CHANNEL):
            return self._change_post(account, change, kind)
        chat = self._directory.find(change.chat)
        if chat is None:
            return wire.QUERY_ERROR_REASON_NOT_FOUND
        if isinstance(chat, Group) and account.phone not in chat.members:
            return wire.QUERY_ERROR_REASON_NOT_A_MEMBER
        if change.id in account.known_message_ids:
            return None
        refusal = self._refuse(account, change, kind, chat)
        if refusal is not None:
            return refusal
        now = time.time_ns() // 1000
        self._record(account, change, kind, now)
        self._pass_on(account, change, kind, chat)
        return None

    def _change_post(self, account: Account, change: wire.ChangeMessage, kind: str) -> Refusal | None:
        channel = channel_at(self._directory, change.chat)
        if channel is None:
            return wire.QUERY_ERROR_REASON_NOT_FOUND
        if change.id in account.known_message_ids:
            return None
        refusal = self._posts.change(account, channel, change)
        if refusal is None:
            self._record(account, change, kind, time.time_ns() // 1000)
        return refusal

    def _record(self, account: Account, change: wire.ChangeMessage, kind: str, now: int) -> None:
        account.remember(change.id, now)
        self._ledger.append(
            Kind.MESSAGE_CHANGED,
            account=account.number,
            code=wire.ChangeMessage.DESCRIPTOR.fields_by_name[kind].number,
            text=f"{change.id}\0{change.message_id}",
        )

    def _refuse(
        self, account: Account, change: wire.ChangeMessage, kind: str, chat: Account | Group | str
    ) -> Refusal | None:
        phone = self._directory.phone_at(change.sender) if change.sender else account.phone
        own = phone == account.phone
        writer = account if own else self._directory.by_phone.get(phone or "")
        accepted = None if writer is None else writer.known_message_ids.get(change.message_id)
        if writer is not None and accepted is None and kind != "pin_seconds":
            return wire.QUERY_ERROR_REASON_UNKNOWN_MESSAGE
        if kind == "pin_seconds":
            return None
        if own and accepted is not None:
            behaviour = account.behaviour
            most = behaviour.edit_within if kind == "edit" else behaviour.revoke_within
            late = time.time_ns() // 1000 - accepted > most * 1e6
            return wire.QUERY_ERROR_REASON_TOO_LATE if late else None
        if kind == "revoke" and isinstance(chat, Group) and chat.members[account.phone]:
            return None
        return wire.QUERY_ERROR_REASON_NOT_AN_ADMIN

    def _pass_on(
        self, account: Account, change: wire.ChangeMessage, kind: str, chat: Account | Group | str
    ) -> None:
        content = wire.Content()
        if kind == "edit":
            content.edit.id, content.edit.content = change.message_id, change.edit
        elif kind == "revoke":
            content.revoke.id, content.revoke.sender = change.message_id, change.sender
        else:
            content.pin.id, content.pin.sender = change.message_id, change.sender
            content.pin.seconds = change.pin_seconds
        own = self._directory.address_of(account.phone)
        if isinstance(chat, Group):
            members = [self._directory.by_phone.get(phone) for phone in chat.members]
            conversation = GROUP + chat.group_id
        else:
            members = [chat if isinstance(chat, Account) else None]
            conversation = own
        for member in members:
            if member is None or member is account:
                continue
            message = wire.Inbound(
                id=change.id,
                sender=own,
                chat=conversation,
                push_name=account.push_name,
                content=content.SerializeToString(),
            )
            self._inbound.offer(member, message)
