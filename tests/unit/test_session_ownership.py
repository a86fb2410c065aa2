"""A session does nothing for an account that may not run here at that very moment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast
from unittest.mock import MagicMock

import pytest
from asyncpg.pgproto.pgproto import UUID

from mesh_core.ids import new_uuid
from mesh_session_node.drivers.interface.driver import Link, LinkEvents
from mesh_session_node.drivers.interface.outcomes import ConnectionEnded
from mesh_session_node.session.account import AccountRow, SessionRow
from mesh_session_node.session.limits import SendLimits
from mesh_session_node.session.outgoing import Outgoing
from mesh_session_node.session.session import Session
from mesh_session_node.settings import SessionSettings
from sessionmesh.v1 import common_pb2, content_pb2, message_pb2
from sessionmesh.v1 import session_pb2 as pb

ACCOUNT = AccountRow(
    uuid=UUID("018f0000-0000-7000-8000-000000000001"),
    tenant=UUID("018f0000-0000-7000-8000-000000000002"),
    shard=7,
    driver="memory",
    phone="+4915100000001",
    labels={},
    limits=SendLimits(60, 1000, 10_000, 100),
    online=True,
    deleted=False,
    version=1,
)


class MemoryLink:
    """A connection that keeps what it is handed."""

    def __init__(self) -> None:
        self.heard = 0.0
        self.ended: ConnectionEnded | None = None
        self.sent: list[str] = []
        self.aborted = False

    def send(self, message: Any) -> None:
        self.sent.append(message.network_id)

    def abort(self) -> None:
        self.aborted = True


class MemoryDriver:
    """Connects at once; `on_connect` runs meanwhile."""

    name = "memory"

    def __init__(self) -> None:
        self.links: list[MemoryLink] = []
        self.on_connect: Callable[[], None] = lambda: None

    def encode(self, request: Any, _context: Any, _media: Any) -> tuple[bytes, tuple[str, ...]]:
        return request.SerializeToString(), ()

    async def connect(self, _state: Any, _events: LinkEvents) -> Link:
        link = MemoryLink()
        self.links.append(link)
        self.on_connect()
        return cast("Link", link)


class MemoryHost:
    """`permits` is what ownership would say."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.settings = SessionSettings()
        self.node_id = "node-1"
        self.journal = MagicMock()
        self.memory = MemoryDriver()
        self.permits = True
        self.admitted = 0

    def may_act(self, _session: Session) -> bool:
        return self.permits

    def driver(self, _name: str) -> Any:
        return self.memory

    def admit(self, _session: Session) -> None:
        self.admitted += 1


@pytest.fixture
async def host() -> MemoryHost:
    return MemoryHost()


@pytest.fixture
async def session(host: MemoryHost) -> Session:
    """Paired, and about to connect."""
    state = MagicMock(left=100, phone=ACCOUNT.phone, user_id="1", push_name="")
    row = SessionRow(state=pb.SESSION_STATE_CONNECTED, phone=ACCOUNT.phone)
    made = Session(cast("Any", host), ACCOUNT, 3, row, state)
    made.begin()
    assert host.admitted == 1
    return made


def message(session: Session) -> Outgoing:
    request = message_pb2.SendMessageRequest(
        recipient=common_pb2.Recipient(phone="+4917000000"),
        content=content_pb2.Content(text=content_pb2.TextContent(body="hello")),
    )
    return Outgoing(session, new_uuid(), "+4917000000", request, "")


async def test_what_is_stored_is_sent_while_the_account_may_run_here(
    host: MemoryHost, session: Session
) -> None:
    await session.dial()
    out = message(session)
    session.sender.committed(out)
    assert host.memory.links[0].sent == [out.network_id]


async def test_nothing_is_sent_once_the_account_may_not_run_here(host: MemoryHost, session: Session) -> None:
    await session.dial()
    host.permits = False
    session.sender.committed(message(session))
    session.sender.pump()
    assert host.memory.links[0].sent == []
    assert session.sender.queued == 1


async def test_no_connection_is_begun_for_an_account_that_may_not_run_here(
    host: MemoryHost, session: Session
) -> None:
    host.permits = False
    await session.dial()
    assert host.memory.links == []


async def test_a_connection_that_is_ready_too_late_is_closed(host: MemoryHost, session: Session) -> None:
    def lose() -> None:
        host.permits = False

    host.memory.on_connect = lose
    await session.dial()
    assert session.link is None
    assert host.memory.links[0].aborted


async def test_a_closed_session_has_left_the_network_and_sends_nothing(
    host: MemoryHost, session: Session
) -> None:
    await session.dial()
    session.close()
    session.sender.pump()
    assert host.memory.links[0].aborted
    assert host.memory.links[0].sent == []
