"""Who asks to join a group is one person, by whichever of their addresses the network names them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, cast

import pytest
from asyncpg.pgproto.pgproto import UUID

from mesh_core.database.requests import RecordKind
from mesh_core.ids import new_uuid
from mesh_session_node.context.events import EventMaker
from mesh_session_node.context.people import People
from mesh_session_node.drivers.interface.content import Identity
from mesh_session_node.drivers.interface.group_notices import JoinRequested, MembersChanged
from mesh_session_node.drivers.interface.groups import JoinRequest, Named
from mesh_session_node.inbound.group_news import GroupNews
from mesh_session_node.inbound.groups import GroupBook
from mesh_session_node.journal import AccountRecord, Event
from mesh_session_node.store.records import StoredRecord
from sessionmesh.v1 import group_pb2

GROUP = "group:1"
HIDDEN = Named("hidden:77", Identity(hidden_id="77"))
KNOWN = Named("phone:+4915100000009", Identity(phone="+4915100000009", hidden_id="77"))


class Records:
    """Stands for `RecordStore`: who asks, and who is in the group."""

    def __init__(self) -> None:
        self.rows: dict[tuple[int, str], bytes] = {}

    async def of_members(
        self, _account: UUID, kind: RecordKind, _key: str, members: Collection[str]
    ) -> list[StoredRecord]:
        return [
            StoredRecord(member, value, 0)
            for (of, member), value in self.rows.items()
            if of == kind and member in members
        ]

    async def of_any_kind(self, *_of: object) -> None:
        return None


class Group:
    """A group of an account whose group is stored in memory."""

    def __init__(self) -> None:
        self.records = Records()
        self._news = GroupNews(GroupBook(cast("Any", self.records)))
        self._session: Any = type("Session", (), {})()
        self._session.ref = type("Ref", (), {"uuid": new_uuid()})()
        self._session.people, self._session.events = People(), EventMaker("tnt_1", "acc_1", {})
        self._session.own = Identity(phone="+4915100000001")

    async def told(self, notice: JoinRequested | MembersChanged) -> list[str]:
        """The types of the events that tell of it, once it is stored."""
        rows = await self._news.take(self._session, notice)
        for row in rows:
            if isinstance(row, AccountRecord):
                self.records.rows.pop((row.kind, row.member), None)
                if row.value is not None:
                    self.records.rows[row.kind, row.member] = row.value
        return [row.type for row in rows if isinstance(row, Event)]

    @property
    def asking(self) -> list[str]:
        return [member for kind, member in self.records.rows if kind == RecordKind.GROUP_JOIN_REQUEST]


def asks(who: Named, *, withdrawn: bool = False) -> JoinRequested:
    method = group_pb2.GROUP_JOIN_METHOD_INVITE_LINK
    return JoinRequested(GROUP, JoinRequest(who, 1, method, None), withdrawn)


def comes(who: Named) -> MembersChanged:
    return MembersChanged(GROUP, group_pb2.GROUP_MEMBER_CHANGE_ADDED, [who], 2, None)


@pytest.fixture
def group() -> Group:
    return Group()


async def test_a_request_that_is_told_by_another_name_is_no_news(group: Group) -> None:
    assert await group.told(asks(HIDDEN)) == ["group.join_requested"]
    assert await group.told(asks(KNOWN)) == []


async def test_who_withdraws_by_another_name_waits_no_more(group: Group) -> None:
    await group.told(asks(HIDDEN))
    assert await group.told(asks(KNOWN, withdrawn=True)) == ["group.join_requested"]
    assert group.asking == []


async def test_who_came_in_by_another_name_can_ask_again(group: Group) -> None:
    await group.told(asks(HIDDEN))
    await group.told(comes(KNOWN))
    assert group.asking == []
    assert await group.told(asks(HIDDEN)) == ["group.join_requested"]
