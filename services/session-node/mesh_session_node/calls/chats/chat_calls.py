"""What the calls about chats have in common: finding a chat."""

from __future__ import annotations

from asyncpg import Record

from mesh_core import addresses
from mesh_core.errors import InvalidField, NotFound
from mesh_core.paging import Pager
from mesh_session_node.account.session import Session
from mesh_session_node.calls.account_call import AccountCalls
from mesh_session_node.inbound.chats import Chats
from mesh_session_node.inbound.labels import Labels
from mesh_session_node.outbound.references import ReferenceLookup
from sessionmesh.v1 import chat_pb2 as pb


class ChatCalls:
    """Part of `ChatService`."""

    def __init__(
        self,
        calls: AccountCalls,
        chats: Chats,
        labels: Labels,
        references: ReferenceLookup,
        pager: Pager,
    ) -> None:
        self._calls = calls
        self._chats = chats
        self._labels = labels
        self._label_store = labels.store
        self._store = chats.store
        self._references = references
        self._pager = pager

    async def _found(self, session: Session, address: str) -> Record:
        """A chat's row. Raises `NotFound`."""
        row = await self._chats.row(session.context, address)
        if row is None:
            raise NotFound("chat", address)
        return row

    async def _shown(self, session: Session, row: Record) -> pb.Chat:
        return await self._chats.shown(session.context, row)


def chat_address(field: str, text: str) -> str:
    """The canonical address of a chat: a person, a group or a channel."""
    address = addresses.chat(field, text)
    if addresses.kind_of(address) == "status":
        raise InvalidField(field, "must be a person, a group or a channel")
    return address
