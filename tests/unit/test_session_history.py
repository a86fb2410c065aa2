"""What of a chat's past cannot be stored as it came does not stop what is older."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from mesh_core.ids import new_uuid
from mesh_session_node.drivers.interface.chat_actions import HistoryPage
from mesh_session_node.drivers.interface.content import Incoming
from mesh_session_node.inbound.history import Histories
from mesh_session_node.journal import Event, InboundMessage, Poison
from mesh_session_node.store.history_jobs import HistoryPlan
from sessionmesh.v1 import content_pb2, message_pb2
from tests.support.memory_host import OneAccount

ADA = "phone:+4915100000009"


async def test_a_message_of_the_past_that_the_database_refuses_has_one_in_its_place(
    account: OneAccount,
) -> None:
    await account.connected()
    nothing = cast("Any", None)
    histories = Histories(nothing, nothing, nothing, {})
    came = Incoming(
        network_id="3A01",
        chat=ADA,
        sender=ADA,
        push_name="Ada",
        content=content_pb2.Content(text=content_pb2.TextContent(body="hello")),
        time=1_700_000_000_000_000,
        history=True,
    )

    storing = asyncio.create_task(
        histories._store(
            account.session.context, new_uuid(), HistoryPlan(chat=ADA), HistoryPage([came], False)
        )
    )
    await account.settle()
    await account.journal.commit(Poison(ValueError("refused")))
    await account.settle()
    (row,) = account.journal.waiting
    assert isinstance(row, InboundMessage)
    stored = message_pb2.Message.FromString(row.content)
    assert (stored.network_message_id, stored.content.WhichOneof("kind")) == ("3A01", "unknown")
    await account.journal.commit()
    await account.settle()
    assert any(isinstance(row, Event) for row in account.journal.waiting)
    await account.journal.commit()
    assert await storing
