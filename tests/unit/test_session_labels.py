"""What the account's phone tells of labels."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock

import pytest

from mesh_core.ids import new_uuid
from mesh_session_node.context.events import EventMaker
from mesh_session_node.drivers.interface.chat_actions import LabelFacts
from mesh_session_node.drivers.interface.chat_notices import ChatNotice, Labelled, LabelSet
from mesh_session_node.inbound.chat_notices import ChatNotices
from mesh_session_node.inbound.labels import MAX_LABELS, Labels
from mesh_session_node.journal import Event
from sessionmesh.v1 import chat_pb2, event_pb2
from sessionmesh.v1.common_pb2 import MessageRef
from tests.support.incoming import ADA, with_earlier_message
from tests.support.memory_host import OneAccount


class FullStore:
    """Stands for `LabelStore`: the account has as many labels as it may have."""

    def __init__(self) -> None:
        ids = map(str, range(MAX_LABELS))
        self.labels = {label_id: chat_pb2.Label(id=label_id, name="old") for label_id in ids}

    async def label(self, _account: object, label_id: str) -> chat_pb2.Label | None:
        return self.labels.get(label_id)

    async def page(self, _account: object, _after: str, limit: int) -> list[chat_pb2.Label]:
        return [*self.labels.values()][:limit]


async def told(notice: ChatNotice, lookup: object = None) -> list[event_pb2.Event]:
    """The events of what the phone did."""
    labels: Any = Labels(FullStore(), SimpleNamespace())  # type: ignore[arg-type]  # stand-ins
    arriving: Any = SimpleNamespace(until_stored=AsyncMock())
    session: Any = SimpleNamespace(
        ref=SimpleNamespace(uuid=new_uuid()), events=EventMaker("tnt_1", "acc_1", {})
    )
    chats: Any = SimpleNamespace(turn=lambda _: asyncio.Lock())
    notices: Any = ChatNotices(chats, labels, lookup, arriving)  # type: ignore[arg-type]  # stand-ins
    rows = await notices.take(session, notice)
    return [event_pb2.Event.FromString(row.body) for row in rows if isinstance(row, Event)]


async def test_a_label_is_changed_where_there_is_room_for_no_other() -> None:
    [event] = await told(LabelSet(LabelFacts("1", "new", None)))
    assert (event.type, event.label.label.name) == ("label.updated", "new")


async def test_a_label_beyond_the_most_is_not_stored() -> None:
    assert await told(LabelSet(LabelFacts(str(MAX_LABELS), "new", None))) == []


@pytest.mark.parametrize("stored", [True, False])
async def test_a_labelled_message_is_named_as_far_as_it_is_known(account: OneAccount, stored: bool) -> None:
    earlier = with_earlier_message(account) if stored else ""
    found = account.messages.rows[0] if stored else None
    by_network_id: Any = SimpleNamespace(by_network_id=AsyncMock(return_value=found))

    [event] = await told(Labelled("1", ADA, True, "EARLIER"), by_network_id)

    assert event.label_assignment.message == MessageRef(
        message_id=earlier, network_message_id="EARLIER", chat=ADA, sender=ADA if stored else ""
    )
