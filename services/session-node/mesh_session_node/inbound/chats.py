"""Chats of accounts: read, and changed by whoever may, one after the other."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from asyncpg import Record
from asyncpg.pgproto.pgproto import UUID
from msgspec.structs import replace

from mesh_core.database.requests import RecordKind
from mesh_core.validation import to_timestamp
from mesh_session_node.context.chat_rows import chat_of_row, etag_of, set_of
from mesh_session_node.context.context import SessionContext
from mesh_session_node.context.locks import Locks
from mesh_session_node.context.message_rows import ref_of_row
from mesh_session_node.drivers.interface.content import Reference, is_person
from mesh_session_node.journal import AccountRecord, ChatChange, Row
from mesh_session_node.outbound.references import ReferenceLookup
from mesh_session_node.store.chats import ChatStore
from sessionmesh.v1 import chat_pb2 as pb

Change = Callable[[pb.Chat], None]
"""Sets fields of a chat."""


class Chats:
    """The chats of all accounts. Whoever changes one holds `turn` until the rows are stored."""

    def __init__(self, store: ChatStore, lookup: ReferenceLookup) -> None:
        self.store = store
        self._lookup = lookup
        self._turns = Locks[UUID]()

    def turn(self, session: SessionContext) -> asyncio.Lock:
        """Held by whoever changes chats or labels of the account, until it is stored."""
        return self._turns.of(session.ref.uuid)

    async def row(self, session: SessionContext, address: str) -> Record | None:
        """The chat's row, by any address of its person; None where there is no such chat."""
        names = await self._lookup.names(session, address)
        await self.store.fold(session.ref.uuid)
        return await self.store.chat(session.ref.uuid, names)

    async def shown(self, session: SessionContext, row: Record) -> pb.Chat:
        """A chat as callers see it."""
        return (await self.showing(session, [row]))(row)

    async def showing(self, session: SessionContext, rows: Sequence[Record]) -> Callable[[Record], pb.Chat]:
        """What makes of each of these rows the chat that callers see."""
        ids = [row["last_message"] for row in rows if row["last_message"] is not None]
        last = await self.store.last_messages(session.ref.uuid, ids) if ids else {}
        await self._lookup.recall(session, [row["chat"] for row in rows if is_person(row["chat"])])
        return lambda row: chat_of_row(session.id, session.people, row, last.get(row["last_message"]))

    async def last(self, session: SessionContext, row: Record | None) -> Reference | None:
        """The chat's last message as the network knows it; None for what is not stored."""
        if row is None or row["last_message"] is None:
            return None
        found = await self.store.last_messages(session.ref.uuid, [row["last_message"]])
        message = found.get(row["last_message"])
        if message is None or not message["network_id"]:
            return None
        ref = ref_of_row(message)
        sent = message["network_time"]
        micros = 0 if sent is None else to_timestamp(sent).ToMicroseconds()
        return Reference(ref.network_message_id, ref.chat, ref.sender, None, micros)

    async def oldest(self, session: SessionContext, address: str) -> Reference | None:
        """The oldest message of a chat that is stored, as the network knows it."""
        names = await self._lookup.names(session, address)
        message = await self.store.oldest(session.ref.uuid, names)
        if message is None:
            return None
        ref, sent = ref_of_row(message), message["network_time"]
        micros = 0 if sent is None else to_timestamp(sent).ToMicroseconds()
        return Reference(ref.network_message_id, ref.chat, ref.sender, None, micros)

    async def goes_on(self, session: SessionContext, row: Record | None, until: int) -> bool:
        """Whether the chat's last message was sent after a time, in microseconds since the epoch. Networks
        say that in whole seconds; 0 is no time.
        """
        last = await self.last(session, row) if until else None
        return last is not None and last.time // 1_000_000 > until // 1_000_000

    async def changed(
        self,
        session: SessionContext,
        row: Record | None,
        address: str,
        change: Change,
        *,
        read_until: UUID | None = None,
        unread: int = 0,
    ) -> tuple[pb.Chat, Sequence[Row]]:
        """The chat with a change, and what is stored of that: nothing where it is so already. Of a chat that
        is not stored, of which `row` is None, one is made at `address`. `unread`: of what came after
        `read_until`.
        """
        micros = time.time_ns() // 1000
        if row is None:
            chat = pb.Chat(address=address)
        else:
            chat = await self.shown(session, row)
        before = pb.Chat()
        before.CopyFrom(chat)
        change(chat)
        stored = replace(set_of(before, chat, micros), read_until=read_until)
        if read_until is not None:
            chat.unread_count = min(unread, chat.unread_count)
        if chat == before and row is not None:
            return chat, ()
        if row is None and stored.pinned is None:
            stored = replace(stored, pinned=False)  # there is a chat now
        chat.etag = etag_of(chat)
        return chat, [stored, session.events.of("chat.updated", micros, chat=pb.ChatEvent(chat=chat))]

    async def read(
        self, session: SessionContext, row: Record, until: UUID | None
    ) -> tuple[pb.Chat, Sequence[Row]]:
        """The chat read up to a message, and what is stored of that: nothing where it is so already."""

        def change(chat: pb.Chat) -> None:
            chat.marked_unread = False

        news = until if row["unread"] else None
        if news is None or news == row["last_message"]:
            return await self.changed(session, row, row["chat"], change, read_until=news)
        left = await self.store.unread_behind(session.ref.uuid, row, news)
        return await self.changed(session, row, row["chat"], change, read_until=news, unread=left)

    async def emptied(self, session: SessionContext, row: Record | None, *, deleted: bool) -> Sequence[Row]:
        """What is stored of a chat that is cleared, or deleted with all that was set of it."""
        if row is None or (not deleted and row["last_message"] is None and not row["unread"]):
            return ()
        micros = time.time_ns() // 1000
        chat = await self.shown(session, row)
        labels = (
            [] if not deleted else [one for label in row["labels"] for one in unlabelled(row, label, micros)]
        )
        if not deleted:
            chat.ClearField("last_message")
            chat.unread_count = 0
        change = ChatChange(chat=row["chat"], time=micros, deleted=deleted, cleared=not deleted)
        type_ = "chat.deleted" if deleted else "chat.cleared"
        return [change, *labels, session.events.of(type_, micros, chat=pb.ChatEvent(chat=chat))]


def unlabelled(row: Record, label_id: str, micros: int) -> Sequence[Row]:
    """A chat has a label no more, under whichever of its addresses it was put on."""
    return [AccountRecord(RecordKind.CHAT_LABEL, chat, label_id, None, micros) for chat in row["addresses"]]
