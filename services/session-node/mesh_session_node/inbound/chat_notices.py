"""What networks tell of chats and labels, stored, with events for what has changed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Protocol

from mesh_session_node.context.context import SessionContext
from mesh_session_node.context.message_rows import ref_of_row
from mesh_session_node.drivers.interface.chat_notices import (
    ChatEmptied,
    ChatNotice,
    ChatRead,
    ChatSet,
    Labelled,
    LabelSet,
)
from mesh_session_node.inbound.chats import Chats
from mesh_session_node.inbound.labels import MAX_LABELS, Labels
from mesh_session_node.journal import Row
from mesh_session_node.outbound.references import ReferenceLookup
from sessionmesh.v1 import chat_pb2 as pb
from sessionmesh.v1.common_pb2 import MessageRef


class Arriving(Protocol):
    """Messages on their way to being stored."""

    async def until_stored(self, session: SessionContext, network_id: str) -> None:
        """Return once none is under this id."""


class ChatNotices:
    """Implements `NoticeTaker`; one for all accounts. What comes again changes nothing."""

    def __init__(self, chats: Chats, labels: Labels, lookup: ReferenceLookup, arriving: Arriving) -> None:
        self._chats = chats
        self._labels = labels
        self._lookup = lookup
        self._arriving = arriving

    def turn(self, session: SessionContext, _notice: ChatNotice) -> asyncio.Lock:
        return self._chats.turn(session)

    async def take(self, session: SessionContext, notice: ChatNotice) -> Sequence[Row]:
        if isinstance(notice, ChatSet):
            return await self._set(session, notice)
        if isinstance(notice, ChatRead):
            return await self._read(session, notice)
        if isinstance(notice, ChatEmptied):
            row = await self._chats.row(session, notice.chat)
            if await self._chats.goes_on(session, row, notice.until):
                return ()  # it is told late, or once more
            return await self._chats.emptied(session, row, deleted=notice.deleted)
        if isinstance(notice, LabelSet):
            return await self._label(session, notice)
        return await self._labelled(session, notice)

    async def _set(self, session: SessionContext, notice: ChatSet) -> Sequence[Row]:
        row = await self._chats.row(session, notice.chat)

        def change(chat: pb.Chat) -> None:
            for field in ("archived", "pinned", "marked_unread", "name"):
                if (value := getattr(notice, field)) is not None:
                    setattr(chat, field, value)
            if notice.mute_until is not None:
                chat.ClearField("mute_until")
                if notice.mute_until:
                    chat.mute_until.FromMicroseconds(notice.mute_until)
            if notice.disappear_after is not None:
                chat.ClearField("disappear_after")
                if notice.disappear_after:
                    chat.disappear_after.seconds = notice.disappear_after

        _, rows = await self._chats.changed(session, row, notice.chat, change)
        return rows

    async def _read(self, session: SessionContext, notice: ChatRead) -> Sequence[Row]:
        if notice.network_id:  # after a login what was read came just before
            await self._arriving.until_stored(session, notice.network_id)
        row = await self._chats.row(session, notice.chat)
        if row is None:
            return ()
        until = row["last_message"]
        if notice.network_id:
            message = await self._lookup.by_network_id(session, notice.network_id)
            if message is None or message["chat"] not in row["addresses"]:
                return ()
            until = message["id"]
        elif await self._chats.goes_on(session, row, notice.until):
            until = await self._chats.store.sent_until(session.ref.uuid, row, notice.until)
        _, rows = await self._chats.read(session, row, until)
        return rows

    async def _label(self, session: SessionContext, notice: LabelSet) -> Sequence[Row]:
        if notice.deleted:
            return await self._labels.gone(session, notice.label.id)
        store, account = self._labels.store, session.ref.uuid
        is_new = await store.label(account, notice.label.id) is None
        if is_new and len(await store.page(account, "", MAX_LABELS)) >= MAX_LABELS:
            return ()
        label = pb.Label(id=notice.label.id, name=notice.label.name)
        if notice.label.color is not None:
            label.color = notice.label.color
        _, rows = await self._labels.put(session, label)
        return rows

    async def _labelled(self, session: SessionContext, notice: Labelled) -> Sequence[Row]:
        if not notice.network_id:
            _, rows = await self._labels.on_chat(
                session, notice.label_id, notice.chat, labelled=notice.labelled
            )
            return rows
        await self._arriving.until_stored(session, notice.network_id)
        row = await self._lookup.by_network_id(session, notice.network_id)
        named = MessageRef(network_message_id=notice.network_id, chat=notice.chat)
        told = pb.LabelAssignmentEvent(label_id=notice.label_id, labelled=notice.labelled)
        told.message.CopyFrom(named if row is None else ref_of_row(row))
        return [session.events.of("label.assignment_changed", time.time_ns() // 1000, label_assignment=told)]
