"""A session does nothing for an account that may not run here at that very moment."""

from __future__ import annotations

import pytest

from mesh_core.ids import new_uuid
from mesh_session_node.account.session import Session
from mesh_session_node.outbound.outgoing import Outgoing
from mesh_session_node.store.accounts import SessionRow
from sessionmesh.v1 import common_pb2, content_pb2, message_pb2
from sessionmesh.v1 import session_pb2 as pb
from tests.support.memory_node import MemoryNode


@pytest.fixture
async def node() -> MemoryNode:
    return MemoryNode()


@pytest.fixture
async def session(node: MemoryNode) -> Session:
    """Paired, and about to connect."""
    state = node.network.pair_at_once("+4915100000001")
    state.confirm(state.reserve(100))
    made = node.make(row=SessionRow(state=pb.SESSION_STATE_CONNECTED, phone=state.phone), state=state)
    made.begin()
    assert node.dials == [made.connector]
    return made


def message() -> Outgoing:
    request = message_pb2.SendMessageRequest(
        recipient=common_pb2.Recipient(phone="+4917000000"),
        content=content_pb2.Content(text=content_pb2.TextContent(body="hello")),
    )
    return Outgoing(new_uuid(), "+4917000000", request, "")


async def test_what_is_stored_is_sent_while_the_account_may_run_here(
    node: MemoryNode, session: Session
) -> None:
    await session.connector.dial()
    out = message()
    session.sender.committed(out)
    assert [sent.network_id for sent in node.network.link.sent] == [out.network_id]


async def test_nothing_is_sent_once_the_account_may_not_run_here(node: MemoryNode, session: Session) -> None:
    await session.connector.dial()
    node.permits = False
    session.sender.committed(message())
    session.sender.pump()
    assert node.network.links[0].sent == []
    assert session.sender.queued == 1


async def test_no_connection_is_begun_for_an_account_that_may_not_run_here(
    node: MemoryNode, session: Session
) -> None:
    node.permits = False
    await session.connector.dial()
    assert node.network.links == []


async def test_a_connection_that_is_ready_too_late_is_closed(node: MemoryNode, session: Session) -> None:
    def lose() -> None:
        node.permits = False

    node.network.on_login = lose
    await session.connector.dial()
    assert session.context.link is None
    assert node.network.links[0].aborted


async def test_a_closed_session_has_left_the_network_and_sends_nothing(
    node: MemoryNode, session: Session
) -> None:
    await session.connector.dial()
    session.close()
    session.sender.pump()
    assert node.network.links[0].aborted
    assert node.network.links[0].sent == []
