"""The list of an account's groups, which is older than what becomes of them while it is read."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from mesh_core.database.requests import RecordKind
from mesh_core.ids import new_uuid
from mesh_session_node.drivers.interface.groups import GroupInfo
from mesh_session_node.drivers.interface.outcomes import Refusal, Refused
from mesh_session_node.inbound.group_list import GroupList
from mesh_session_node.inbound.groups import GroupBook
from mesh_session_node.journal import COMMITTED, AccountRecord, Outcome, Row
from mesh_session_node.store.records import StoredRecord
from sessionmesh.v1 import group_pb2

GROUP = "group:1"


def named(name: str) -> GroupInfo:
    return GroupInfo(address=GROUP, name=name, own_role=group_pb2.GROUP_ROLE_OWNER, members=[])


class SlowList:
    """A network that answers what was so when it was asked for the list, and later what is so now."""

    def __init__(self, listed: list[GroupInfo], now: GroupInfo | None) -> None:
        self.asked, self.answers = asyncio.Event(), asyncio.Event()
        self._listed, self._now = listed, now

    async def list_groups(self) -> list[GroupInfo]:
        self.asked.set()
        await self.answers.wait()
        return self._listed

    async def get_group(self, _group: str) -> GroupInfo:
        if self._now is None:
            raise Refused(Refusal.UNKNOWN_CHAT, "there is no such group")
        return self._now


class Stored:
    """Stands for `RecordStore` and the journal."""

    def __init__(self) -> None:
        self.rows: dict[tuple[int, str], StoredRecord] = {}

    async def write(self, _ref: object, *rows: Row) -> Outcome:
        for row in rows:
            assert isinstance(row, AccountRecord)
            self.rows.pop((row.kind, row.key), None)
            if row.value is not None:
                self.rows[row.kind, row.key] = StoredRecord("", row.value, row.time, row.key)
        return COMMITTED

    async def page(self, _account: object, kind: int, _after: str, _limit: int) -> list[StoredRecord]:
        return [row for (of, _), row in self.rows.items() if of == kind]

    async def of_any_kind(self, _account: object, kinds: tuple[int, ...], key: str) -> bytes | None:
        return next((row.value for (of, name), row in self.rows.items() if of in kinds and name == key), None)

    async def of_key(self, _account: object, _kind: int, _key: str) -> list[StoredRecord]:
        return []


async def stored_after(listed: list[GroupInfo], meanwhile: str) -> tuple[set[int], str]:
    """As what the group is stored, and its name, after it was given one while the list was read."""
    stored: Any = Stored()
    book, link = GroupBook(stored), SlowList(listed, named(meanwhile))
    host = SimpleNamespace(journal=stored)
    session: Any = SimpleNamespace(ref=SimpleNamespace(uuid=new_uuid()), link=link, closed=False, host=host)
    if listed:
        await stored.write(None, *(await book.told(session, named("old"), event=False)).rows)

    listing = asyncio.create_task(GroupList(book)._list(session))
    await link.asked.wait()
    async with book.turn(session, GROUP):
        await stored.write(None, *(await book.told(session, named(meanwhile), event=False)).rows)
    link.answers.set()
    await listing

    record = await book.record(session, GROUP)
    assert record is not None
    return {kind for kind, key in stored.rows if key == GROUP}, record.group.name


async def test_a_group_that_is_made_while_the_list_is_read_is_not_taken_for_left() -> None:
    assert await stored_after([], "made") == ({RecordKind.GROUP}, "made")


async def test_a_group_that_is_changed_while_the_list_is_read_stays_changed() -> None:
    assert await stored_after([named("old")], "new") == ({RecordKind.GROUP}, "new")


async def test_a_group_that_is_gone_while_the_list_is_read_does_not_come_back() -> None:
    stored: Any = Stored()
    book, link = GroupBook(stored), SlowList([replace(named("old"), members=None)], None)
    host = SimpleNamespace(journal=stored)
    session: Any = SimpleNamespace(ref=SimpleNamespace(uuid=new_uuid()), link=link, closed=False, host=host)
    await stored.write(None, *(await book.told(session, named("old"), event=False)).rows)

    listing = asyncio.create_task(GroupList(book)._list(session))
    await link.asked.wait()
    async with book.turn(session, GROUP):
        record = await book.record(session, GROUP)
        assert record is not None
        await stored.write(None, *(await book.lost(session, record)).rows)
    link.answers.set()
    await listing

    assert {kind for kind, key in stored.rows if key == GROUP} == {RecordKind.GROUP_LEFT}
