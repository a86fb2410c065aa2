"""The earlier messages that a message names: looked up by whatever they are named with."""

from __future__ import annotations

from collections.abc import Iterable

from asyncpg import Record

from mesh_core import addresses
from mesh_core.errors import FailedPrecondition, InvalidField, NotFound
from mesh_core.ids import Prefix, decode
from mesh_core.validation import required_text, to_timestamp
from mesh_session_node.context.context import SessionContext
from mesh_session_node.context.message_rows import message_of_row, ref_of_row
from mesh_session_node.drivers.interface.content import Reference, is_channel, is_person, names_of
from mesh_session_node.store.messages import MessageStore
from sessionmesh.v1 import message_pb2
from sessionmesh.v1.common_pb2 import MessageRef

NEVER_SENT = (
    message_pb2.MESSAGE_STATUS_CANCELLED,
    message_pb2.MESSAGE_STATUS_EXPIRED,
    message_pb2.MESSAGE_STATUS_FAILED,
)
"""How messages end that the network does not have."""


def check_ref(field: str, ref: MessageRef) -> None:
    """A reference that can be looked up; its addresses become canonical. Raises `InvalidField`."""
    if ref.message_id:
        decode(Prefix.MESSAGE, ref.message_id, f"{field}.message_id")
    elif not ref.network_message_id:
        raise InvalidField(f"{field}.message_id", "is required, or network_message_id")
    if ref.network_message_id:
        required_text(f"{field}.network_message_id", ref.network_message_id)
    if ref.chat:
        ref.chat = addresses.chat(f"{field}.chat", ref.chat)
    if ref.sender:
        if ref.from_account:
            raise InvalidField(f"{field}.sender", "must be empty with from_account")
        if is_channel(ref.sender):  # whose posts it signs itself
            ref.sender = addresses.channel(f"{field}.sender", ref.sender)
        else:
            ref.sender = addresses.person(f"{field}.sender", ref.sender)


class ReferenceLookup:
    """Finds messages of an account by their references; one for all accounts."""

    def __init__(self, messages: MessageStore) -> None:
        self._messages = messages

    async def row(self, session: SessionContext, ref: MessageRef, field: str) -> Record | None:
        """The stored message; None for one that was never stored, which the network's id alone names.

        Raises `NotFound` for a message_id of no message of the account, and `InvalidField` when the
        reference, which `check_ref` has passed, says something else of the message than what is stored.
        """
        if ref.message_id:
            uuid = decode(Prefix.MESSAGE, ref.message_id, f"{field}.message_id")
            row = await self._messages.message(session.ref.uuid, uuid)
            if row is None:
                raise NotFound("message", ref.message_id)
        else:
            row = await self.by_network_id(session, ref.network_message_id)
            if row is None:
                return None
        stored = ref_of_row(row)
        for name in ("network_message_id", "chat", "sender"):
            given = getattr(ref, name)
            if given and given != getattr(stored, name):
                raise InvalidField(f"{field}.{name}", "is not that of the stored message")
        if ref.from_account and not stored.from_account:
            raise InvalidField(f"{field}.from_account", "is not that of the stored message")
        return row

    async def stored(self, session: SessionContext, ref: MessageRef, field: str) -> Record:
        """The same for a message that must be stored; raises `NotFound` when it is not."""
        row = await self.row(session, ref, field)
        if row is None:
            raise NotFound("message", ref.network_message_id)
        return row

    async def resolve(self, session: SessionContext, ref: MessageRef, field: str) -> Reference:
        """What the network knows the message by; raises as `find` does."""
        found, _ = await self.find(session, ref, field)
        return found

    async def find(
        self, session: SessionContext, ref: MessageRef, field: str
    ) -> tuple[Reference, Record | None]:
        """What the network knows the message by, and its row where it is stored; raises as `row`,
        `FailedPrecondition` MESSAGE_STATE for one that ended without being sent, and `InvalidField` where a
        reference to a message that was never stored says too little of it.
        """
        row = await self.row(session, ref, field)
        if row is not None:
            if row["status"] in NEVER_SENT:
                status = message_pb2.MessageStatus.Name(row["status"]).removeprefix("MESSAGE_STATUS_")
                raise FailedPrecondition(f"{field}: the message is {status}", "MESSAGE_STATE")
            found, content = ref_of_row(row), message_of_row(session.id, session.people, row).content
            time = 0 if row["network_time"] is None else to_timestamp(row["network_time"]).ToMicroseconds()
            return Reference(found.network_message_id, found.chat, found.sender, content, time), row
        if not ref.chat:
            raise InvalidField(f"{field}.chat", "is required for a message that is not stored here")
        if ref.from_account or ref.sender:
            return Reference(ref.network_message_id, ref.chat, ref.sender), None
        if not is_person(ref.chat) and not is_channel(ref.chat):
            raise InvalidField(f"{field}.sender", "is required, or from_account")
        return Reference(ref.network_message_id, ref.chat, ref.chat), None

    async def sent_here(self, session: SessionContext, network_id: str) -> Record | None:
        """The stored message that the account sends by this API under this id; None without one."""
        own = session.driver.message_of(network_id)
        row = None if own is None else await self._messages.message(session.ref.uuid, own)
        return row if row is not None and row["network_id"] == network_id else None

    async def recall(self, session: SessionContext, addresses: Iterable[str]) -> None:
        """Have the session know what is stored of these people."""
        await session.people.recall(self._messages, session.ref.uuid, addresses)

    async def names(self, session: SessionContext, address: str) -> list[str]:
        """The address of a chat, first, and all others of the person who it is with."""
        if not is_person(address):
            return [address]
        await self.recall(session, [address])
        return [*dict.fromkeys([address, *names_of(session.people.find(address))])]

    async def by_network_id(self, session: SessionContext, network_id: str) -> Record | None:
        """The stored message that the network knows by this id; None without one."""
        account, own = session.ref.uuid, session.driver.message_of(network_id)
        if own is not None:
            row = await self._messages.message(account, own)
            if row is not None and row["network_id"] == network_id:
                return row
        # Another account's messages have ids of the same form
        uuid = await self._messages.by_network_id(account, network_id)
        return None if uuid is None else await self._messages.message(account, uuid)
