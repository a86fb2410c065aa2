"""The call that marks a chat as read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from asyncpg import Record

from mesh_core.database.requests import Method
from mesh_session_node.account.session import Session
from mesh_session_node.calls.account_call import Context
from mesh_session_node.calls.chats.chat_calls import ChatCalls, chat_address
from mesh_session_node.context.message_rows import read_message
from mesh_session_node.drivers.interface.capabilities import Acting, Capability
from mesh_session_node.journal import Row
from sessionmesh.v1 import chat_pb2 as pb

MAX_RECEIPTS = 500
"""Messages of a chat, the last ones, whose writers are told that they are read."""


class ChatReading(ChatCalls):
    """Part of `ChatService`."""

    async def MarkChatRead(
        self, request: pb.MarkChatReadRequest, context: Context
    ) -> pb.MarkChatReadResponse:
        session = await self._calls.session(request.account_id, context)
        address = chat_address("address", request.address)

        async def act() -> tuple[pb.MarkChatReadResponse, Sequence[Row]]:
            row = await self._found(session, address)
            await self._tell(session, row)
            chat, rows = await self._chats.read(session.context, row, row["last_message"])
            return pb.MarkChatReadResponse(chat=chat), rows

        return await self._calls.answered(
            session,
            Method.MARK_CHAT_READ,
            request,
            pb.MarkChatReadResponse,
            act,
            turn=self._chats.turn(session.context),
        )

    async def _tell(self, session: Session, row: Record) -> None:
        """Receipts to those who wrote, and to the account's other devices that the chat is read."""
        unread = await self._store.unread(session.context.ref.uuid, row, MAX_RECEIPTS)
        by_writer: dict[tuple[str, str], list[str]] = {}
        for message in unread:
            writer = read_message(message).sender.address
            if writer and message["network_id"]:
                by_writer.setdefault((message["chat"], writer), []).append(message["network_id"])
        last = await self._chats.last(session.context, row)
        if by_writer:  # one act, as it is for who opens a chat, however many wrote
            await self._calls.act(
                session,
                Capability.MARK_READ,
                lambda link: _tell_writers(link, by_writer),
                about=row["chat"],
            )
        if Capability.MARK_CHAT in session.context.driver.capabilities:
            await self._calls.act(
                session,
                Capability.MARK_CHAT,
                lambda link: link.mark_chat(row["chat"], last, unread=False),
                about=row["chat"],
            )


async def _tell_writers(link: Acting, by_writer: Mapping[tuple[str, str], Sequence[str]]) -> None:
    for (chat, writer), ids in by_writer.items():
        for start in range(0, len(ids), _AT_ONCE):
            await link.mark_read(chat, writer, ids[start : start + _AT_ONCE], played=False)


_AT_ONCE = 100
