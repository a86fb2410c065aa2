"""The accounts of a node: what their rows say now, and what its sessions make of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast
from unittest.mock import AsyncMock, MagicMock

import pytest
from asyncpg.pgproto.pgproto import UUID

from mesh_core.ids import Prefix, encode, new_uuid, shard_of
from mesh_session_node.queries import Loaded, WaitingFetch, WaitingMessage
from mesh_session_node.session.account import NO_SESSION, AccountRow, SessionRow
from mesh_session_node.session.limits import SendLimits
from mesh_session_node.settings import SessionSettings
from mesh_session_node.shards import Shards
from sessionmesh.v1 import message_pb2
from sessionmesh.v1 import session_pb2 as pb

TENANT = new_uuid()


async def nothing_happens() -> None:
    pass


class MemoryQueries:
    """Postgres' rows; `meanwhile` runs once, after a query was answered and before its answer has come."""

    def __init__(self) -> None:
        self.rows: dict[UUID, Loaded] = {}
        self.outboxes: list[WaitingMessage] = []
        self.media: list[WaitingFetch] = []
        self.meanwhile: Callable[[], Awaitable[None]] = nothing_happens

    async def shards(self, shards: Collection[int]) -> list[Loaded]:
        return await self._answer([row for row in self.rows.values() if row.account.shard in set(shards)])

    async def accounts(self, accounts: Collection[UUID]) -> list[Loaded]:
        return await self._answer([self.rows[uuid] for uuid in accounts if uuid in self.rows])

    async def outbox(
        self, _shards: Collection[int], accounts: Collection[UUID] | None = None
    ) -> list[WaitingMessage]:
        return [row for row in self.outboxes if accounts is None or row.account in accounts]

    async def fetches(
        self, _shards: Collection[int], accounts: Collection[UUID] | None = None
    ) -> list[WaitingFetch]:
        return [row for row in self.media if accounts is None or row.account in accounts]

    async def _answer(self, rows: list[Loaded]) -> list[Loaded]:
        meanwhile, self.meanwhile = self.meanwhile, nothing_happens
        await meanwhile()
        return rows


@pytest.fixture
def queries() -> MemoryQueries:
    return MemoryQueries()


@pytest.fixture
def media() -> MagicMock:
    return MagicMock()


@pytest.fixture
async def shards(queries: MemoryQueries, media: MagicMock) -> Shards:
    host = MagicMock(node_id="node-1", settings=SessionSettings(), loop=asyncio.get_running_loop())
    host.spawn = lambda _name, work: work.close()
    sealer = AsyncMock(loaded=lambda _tenant: True)
    made = Shards(host, cast("Any", queries), sealer, MagicMock(), media, MagicMock())
    made.ownership = MagicMock()
    return made


def row_of(uuid: UUID, session: SessionRow = NO_SESSION, version: int = 1) -> Loaded:
    account = AccountRow(
        uuid=uuid,
        tenant=TENANT,
        shard=shard_of(encode(Prefix.ACCOUNT, uuid)),
        driver="memory",
        phone="",
        labels={},
        limits=SendLimits(60, 1000, 10_000, 100),
        online=True,
        deleted=False,
        version=version,
    )
    return Loaded(account, session)


async def take(shards: Shards, *rows: Loaded) -> None:
    await shards.acquired({row.account.shard: 1 for row in rows})


def running(shards: Shards) -> set[UUID]:
    return {session.account.uuid for session in shards.sessions.values()}


async def test_an_account_without_a_row_is_closed(shards: Shards, queries: MemoryQueries) -> None:
    row = row_of(new_uuid())
    queries.rows[row.account.uuid] = row
    await take(shards, row)
    queries.rows.clear()
    await shards.reconcile()
    assert running(shards) == set()


@pytest.mark.parametrize("refresh", ["reconcile", "refresh"])
async def test_an_account_that_is_made_while_the_rows_are_read_is_not_taken_for_purged(
    shards: Shards, queries: MemoryQueries, refresh: str
) -> None:
    made = row_of(new_uuid())
    await take(shards, made)

    async def make_it() -> None:
        queries.rows[made.account.uuid] = made
        await shards.refresh([made.account.uuid])

    queries.meanwhile = make_it
    await (shards.reconcile() if refresh == "reconcile" else shards.refresh([made.account.uuid]))
    assert running(shards) == {made.account.uuid}


async def test_a_row_that_was_read_earlier_does_not_undo_a_later_one(
    shards: Shards, queries: MemoryQueries
) -> None:
    old = row_of(new_uuid(), version=1)
    new = replace(old, account=replace(old.account, labels={"a": "b"}, version=2))
    queries.rows[old.account.uuid] = old
    await take(shards, old)

    async def change_it() -> None:
        queries.rows[old.account.uuid] = new
        await shards.refresh([old.account.uuid])

    queries.meanwhile = change_it
    await shards.reconcile()
    [session] = shards.sessions.values()
    assert session.account == new.account


async def test_an_account_that_is_loaded_later_than_its_shard_goes_on_where_it_was(
    shards: Shards, queries: MemoryQueries, media: MagicMock
) -> None:
    ran = SessionRow(state=pb.SESSION_STATE_PAUSED, credential=b"sealed", update_time=datetime.now(UTC))
    row, message, fetched = row_of(new_uuid(), ran), new_uuid(), new_uuid()
    await take(shards, row)
    queries.rows[row.account.uuid] = row
    content = message_pb2.SendMessageRequest().SerializeToString()
    queries.outboxes = [WaitingMessage(row.account.uuid, message, "phone:+1", content, "", 0.0)]
    queries.media = [WaitingFetch(row.account.uuid, fetched, b"blob", 2, 5.0)]
    await shards.reconcile()
    [session] = shards.sessions.values()
    assert message in session.sender.outbox
    media.add.assert_called_once_with(session, fetched, b"blob", 2, 5.0)
