"""Labels of accounts: changed by whoever may, one after the other."""

from __future__ import annotations

import time
from collections.abc import Sequence

from mesh_core.database.requests import RecordKind
from mesh_session_node.context.context import SessionContext
from mesh_session_node.inbound.chats import Chats, unlabelled
from mesh_session_node.journal import AccountRecord, Row
from mesh_session_node.store.labels import LabelStore, etag_of, value_of
from sessionmesh.v1 import chat_pb2 as pb

MAX_LABELS = 1_000
"""Of an account. What a network tells of more is not stored."""


class Labels:
    """The labels of all accounts. Whoever changes one holds the account's `Chats.turn`, as with its chats."""

    def __init__(self, store: LabelStore, chats: Chats) -> None:
        self.store = store
        self._chats = chats

    async def put(self, session: SessionContext, label: pb.Label) -> tuple[pb.Label, Sequence[Row]]:
        """A label as it is from now on, and what is stored of that: nothing where it is so already."""
        before = await self.store.label(session.ref.uuid, label.id)
        value = value_of(label)
        shown = pb.Label(id=label.id, etag=etag_of(value))
        shown.MergeFromString(value)
        if before == shown:
            return shown, ()
        micros = time.time_ns() // 1000
        type_ = "label.created" if before is None else "label.updated"
        return shown, [
            AccountRecord(RecordKind.LABEL, label.id, "", value, micros),
            session.events.of(type_, micros, label=pb.LabelEvent(label=shown)),
        ]

    async def gone(self, session: SessionContext, label_id: str) -> Sequence[Row]:
        """What is stored of a label that is deleted, and comes off the chats that have it."""
        before = await self.store.label(session.ref.uuid, label_id)
        if before is None:
            return ()
        micros = time.time_ns() // 1000
        chats = await self.store.labelled(session.ref.uuid, label_id)
        return [
            *(AccountRecord(RecordKind.CHAT_LABEL, chat, label_id, None, micros) for chat in chats),
            AccountRecord(RecordKind.LABEL, label_id, "", None, micros),
            session.events.of("label.deleted", micros, label=pb.LabelEvent(label=before)),
        ]

    async def on_chat(
        self, session: SessionContext, label_id: str, address: str, *, labelled: bool
    ) -> tuple[pb.Chat, Sequence[Row]]:
        """A chat with a label or without it, and what is stored of that: nothing where it is so already."""
        row = await self._chats.row(session, address)
        address = address if row is None else row["chat"]
        had = row is not None and label_id in row["labels"]

        def change(chat: pb.Chat) -> None:
            labels = {*chat.label_ids, label_id} if labelled else {*chat.label_ids} - {label_id}
            chat.label_ids[:] = sorted(labels)

        chat, rows = await self._chats.changed(session, row, address, change)
        if had == labelled:
            return chat, ()
        micros = time.time_ns() // 1000
        put = AccountRecord(RecordKind.CHAT_LABEL, address, label_id, b"", micros)
        told = pb.LabelAssignmentEvent(label_id=label_id, labelled=labelled, chat=address)
        return chat, [
            *rows,
            *([put] if row is None or labelled else unlabelled(row, label_id, micros)),
            session.events.of("label.assignment_changed", micros, label_assignment=told),
        ]
