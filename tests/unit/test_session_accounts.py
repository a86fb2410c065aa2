"""The accounts of a node: what their rows say now, and what its sessions make of it."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Coroutine
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast
from unittest.mock import AsyncMock, MagicMock

import asyncpg
import pytest
from asyncpg.pgproto.pgproto import UUID
from prometheus_client import REGISTRY

from mesh_core.database.identity import EPOCH_LEAP
from mesh_core.errors import FailedPrecondition
from mesh_core.ids import Prefix, encode, new_uuid
from mesh_session_node.account.session import Session
from mesh_session_node.drivers.memory.driver import MemoryDriver
from mesh_session_node.journal import SessionSnapshot, StatusChange
from mesh_session_node.node import loader as loader_module
from mesh_session_node.node.loader import AccountLoader
from mesh_session_node.node.registry import Registry
from mesh_session_node.node.shard_handler import NodeShardHandler
from mesh_session_node.store.accounts import (
    NO_SESSION,
    AccountStore,
    SendLimits,
    SessionRow,
    StoredAccount,
    WaitingFetch,
    WaitingMessage,
)
from sessionmesh.v1 import message_pb2
from sessionmesh.v1 import session_pb2 as pb
from tests.support.memory_host import MemoryHost, account_row


async def nothing_happens() -> None:
    pass


class MemoryAccounts:
    """Postgres' rows; `meanwhile` runs once, after a query was answered and before its answer has come."""

    def __init__(self) -> None:
        self.rows: dict[UUID, StoredAccount] = {}
        self.outboxes: list[WaitingMessage] = []
        self.media: list[WaitingFetch] = []
        self.risk: dict[UUID, bytes] = {}
        self.meanwhile: Callable[[], Awaitable[None]] = nothing_happens

    async def shards(self, shards: Collection[int]) -> list[StoredAccount]:
        return await self._answer([row for row in self.rows.values() if row.account.shard in set(shards)])

    async def accounts(self, uuids: Collection[UUID]) -> list[StoredAccount]:
        return await self._answer([self.rows[uuid] for uuid in uuids if uuid in self.rows])

    async def outbox(
        self, _shards: Collection[int], uuids: Collection[UUID] | None = None
    ) -> list[WaitingMessage]:
        return [row for row in self.outboxes if uuids is None or row.account in uuids]

    async def newer_than(self, _message: UUID, _shards: Collection[int]) -> UUID | None:
        return None

    async def fetches(
        self, _shards: Collection[int], uuids: Collection[UUID] | None = None
    ) -> list[WaitingFetch]:
        return [row for row in self.media if uuids is None or row.account in uuids]

    async def risks(self, _uuids: Collection[UUID]) -> dict[UUID, bytes]:
        return self.risk

    async def _answer(self, rows: list[StoredAccount]) -> list[StoredAccount]:
        meanwhile, self.meanwhile = self.meanwhile, nothing_happens
        await meanwhile()
        return rows


@pytest.fixture
def accounts() -> MemoryAccounts:
    return MemoryAccounts()


@pytest.fixture
def media() -> MagicMock:
    return MagicMock()


@pytest.fixture
def registry() -> Registry:
    return Registry(MagicMock())


@pytest.fixture
async def loader(registry: Registry, accounts: MemoryAccounts, media: MagicMock) -> AccountLoader:
    def spawn(_name: str, work: Coroutine[Any, Any, None]) -> None:
        work.close()

    sealer = AsyncMock(loaded=lambda _tenant: True)
    return AccountLoader(registry, cast("Any", accounts), sealer, LoadingHost(MemoryDriver()), media, spawn)


class LoadingHost(MemoryHost):
    """Any credential is a pairing."""

    def driver(self, _name: str) -> Any:
        return MagicMock()


def row_of(uuid: UUID, session: SessionRow = NO_SESSION) -> StoredAccount:
    return StoredAccount(account_row(uuid), session)


@pytest.fixture
def handler(registry: Registry, loader: AccountLoader) -> NodeShardHandler:
    return NodeShardHandler(registry, loader, MagicMock(), lambda: 0.0)


def running(registry: Registry) -> set[UUID]:
    return {session.account.uuid for session in registry.sessions.values()}


async def test_an_account_without_a_row_is_closed(
    handler: NodeShardHandler, loader: AccountLoader, registry: Registry, accounts: MemoryAccounts
) -> None:
    row = row_of(new_uuid())
    accounts.rows[row.account.uuid] = row
    await handler.acquired({row.account.shard: 1}, {})
    accounts.rows.clear()
    await loader.reconcile()
    assert running(registry) == set()


async def test_what_a_session_has_done_is_stored_before_its_shard_is_released(
    registry: Registry, loader: AccountLoader, accounts: MemoryAccounts
) -> None:
    row = row_of(new_uuid())
    accounts.rows[row.account.uuid] = row
    order = MagicMock(flush=AsyncMock())
    handler = NodeShardHandler(registry, loader, order, lambda: 0.0)
    await handler.acquired({row.account.shard: 1}, {})
    [session] = registry.sessions.values()
    session.context.counters.came(7_000_000)
    await handler.release([row.account.shard])
    journal = cast("Any", session.context.host.journal)
    [stored] = [row for row in journal.rows if isinstance(row, SessionSnapshot)]
    assert (stored.received, stored.last_inbound_time) == (1, 7_000_000)
    order.flush.assert_awaited_once_with(give_back={row.account.shard: 1})


@pytest.mark.parametrize("refresh", ["reconcile", "refresh"])
async def test_an_account_that_is_made_while_the_rows_are_read_is_not_taken_for_purged(
    handler: NodeShardHandler,
    loader: AccountLoader,
    registry: Registry,
    accounts: MemoryAccounts,
    refresh: str,
) -> None:
    made = row_of(new_uuid())
    await handler.acquired({made.account.shard: 1}, {})

    async def make_it() -> None:
        accounts.rows[made.account.uuid] = made
        await loader.refresh([made.account.uuid])

    accounts.meanwhile = make_it
    await (loader.reconcile() if refresh == "reconcile" else loader.refresh([made.account.uuid]))
    assert running(registry) == {made.account.uuid}


async def test_a_row_that_was_read_earlier_does_not_undo_a_later_one(
    handler: NodeShardHandler, loader: AccountLoader, registry: Registry, accounts: MemoryAccounts
) -> None:
    old = row_of(new_uuid())
    new = replace(old, account=replace(old.account, labels={"a": "b"}, version=2))
    accounts.rows[old.account.uuid] = old
    await handler.acquired({old.account.shard: 1}, {})

    async def change_it() -> None:
        accounts.rows[old.account.uuid] = new
        await loader.refresh([old.account.uuid])

    accounts.meanwhile = change_it
    await loader.reconcile()
    [session] = registry.sessions.values()
    assert session.account == new.account


async def test_an_account_that_is_loaded_later_than_its_shard_goes_on_where_it_was(
    handler: NodeShardHandler,
    loader: AccountLoader,
    registry: Registry,
    accounts: MemoryAccounts,
    media: MagicMock,
) -> None:
    ran = SessionRow(state=pb.SESSION_STATE_PAUSED, credential=b"sealed", update_time=datetime.now(UTC))
    row, message, fetched = row_of(new_uuid(), ran), new_uuid(), new_uuid()
    await handler.acquired({row.account.shard: 1}, {})
    accounts.rows[row.account.uuid] = row
    content = message_pb2.SendMessageRequest().SerializeToString()
    accounts.outboxes = [WaitingMessage(row.account.uuid, message, "phone:+1", content, "", 0.0, 1)]
    accounts.media = [WaitingFetch(row.account.uuid, fetched, b"blob", 2, 5.0)]
    await loader.reconcile()
    [session] = registry.sessions.values()
    assert session.sender.outbox.find(message) is not None
    media.add.assert_called_once_with(session.context, fetched, b"blob", 2, 5.0)


@pytest.mark.parametrize(("stored", "goes_on"), [(3, True), (3 - EPOCH_LEAP, False)])
async def test_what_waited_in_a_backup_is_in_doubt_in_what_was_restored_from_it(
    handler: NodeShardHandler, registry: Registry, accounts: MemoryAccounts, stored: int, goes_on: bool
) -> None:
    ran = SessionRow(state=pb.SESSION_STATE_PAUSED, credential=b"sealed", update_time=datetime.now(UTC))
    row, message = row_of(new_uuid(), ran), new_uuid()
    accounts.rows[row.account.uuid] = row
    content = message_pb2.SendMessageRequest().SerializeToString()
    accounts.outboxes = [WaitingMessage(row.account.uuid, message, "phone:+1", content, "", 0.0, stored)]
    await handler.acquired({row.account.shard: 3}, {})
    [session] = registry.sessions.values()
    assert (session.sender.outbox.find(message) is not None) is goes_on
    journal = cast("Any", session.context.host.journal)
    statuses = [row.status for row in journal.rows if isinstance(row, StatusChange)]
    assert statuses == ([] if goes_on else [message_pb2.MESSAGE_STATUS_IN_DOUBT])


@pytest.mark.parametrize(("stored", "restored"), [(3, False), (3 - EPOCH_LEAP, True)])
async def test_a_ratchet_of_a_backup_goes_on_behind_all_that_was_used_since(
    handler: NodeShardHandler, registry: Registry, accounts: MemoryAccounts, stored: int, restored: bool
) -> None:
    ran = SessionRow(
        state=pb.SESSION_STATE_PAUSED,
        credential=b"sealed",
        credential_epoch=stored,
        update_time=datetime.now(UTC),
    )
    row = row_of(new_uuid(), ran)
    accounts.rows[row.account.uuid] = row
    await handler.acquired({row.account.shard: 3}, {})
    [session] = registry.sessions.values()
    state = cast("Any", session.context.driver_state)
    assert state.ratchet.restored.called is restored


# One account that cannot run does not keep the others from it


class BrokenHost(LoadingHost):
    """Makes no session of the accounts in `broken`."""

    def __init__(self, driver: MemoryDriver) -> None:
        super().__init__(driver)
        self.broken: set[UUID] = set()

    def make(self, account: Any, *rest: Any) -> Any:
        if account.uuid in self.broken:
            raise ValueError("what its last owner stored cannot be read")
        return super().make(account, *rest)


@pytest.fixture
async def broken_host() -> BrokenHost:
    return BrokenHost(MemoryDriver())


@pytest.fixture
async def guarded(
    registry: Registry, accounts: MemoryAccounts, media: MagicMock, broken_host: BrokenHost
) -> AccountLoader:
    sealer = AsyncMock(loaded=lambda _tenant: True)
    return AccountLoader(
        registry, cast("Any", accounts), sealer, broken_host, media, lambda _name, work: work.close()
    )


def unloadable() -> float:
    value = REGISTRY.get_sample_value("mesh_sessions_unloadable")
    assert value is not None
    return value


def neighbours(accounts: MemoryAccounts, number: int) -> list[StoredAccount]:
    """Accounts of one shard."""
    rows = [row_of(new_uuid()) for _ in range(number)]
    rows = [replace(row, account=replace(row.account, shard=7)) for row in rows]
    accounts.rows.update({row.account.uuid: row for row in rows})
    return rows


async def test_an_account_that_cannot_be_made_leaves_its_shards_others_alone(
    guarded: AccountLoader, registry: Registry, accounts: MemoryAccounts, broken_host: BrokenHost
) -> None:
    first, bad, last = neighbours(accounts, 3)
    broken_host.broken.add(bad.account.uuid)
    await NodeShardHandler(registry, guarded, MagicMock(), lambda: 0.0).acquired({7: 1}, {})
    assert running(registry) == {first.account.uuid, last.account.uuid}
    assert unloadable() == 1


async def test_a_call_for_an_account_whose_session_cannot_be_read_says_so(
    guarded: AccountLoader, registry: Registry, accounts: MemoryAccounts, broken_host: BrokenHost
) -> None:
    [bad] = neighbours(accounts, 1)
    broken_host.broken.add(bad.account.uuid)
    await NodeShardHandler(registry, guarded, MagicMock(), lambda: 0.0).acquired({7: 1}, {})
    with pytest.raises(FailedPrecondition) as refused:
        await guarded.load_account(encode(Prefix.ACCOUNT, bad.account.uuid), bad.account.uuid)
    assert refused.value.reason == "SESSION_UNREADABLE"


async def test_a_call_while_the_account_is_being_opened_does_not_take_it_for_unreadable(
    registry: Registry, accounts: MemoryAccounts, media: MagicMock
) -> None:
    [row] = neighbours(accounts, 1)
    opening, opened = asyncio.Event(), asyncio.Event()

    async def load(_tenant: UUID) -> None:
        opening.set()
        await opened.wait()

    sealer = AsyncMock(loaded=lambda _tenant: False, load=load)
    host = LoadingHost(MemoryDriver())
    loader = AccountLoader(
        registry, cast("Any", accounts), sealer, host, media, lambda _name, work: work.close()
    )
    handler = NodeShardHandler(registry, loader, MagicMock(), lambda: 0.0)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(handler.acquired({7: 1}, {}))
        await opening.wait()
        await loader.load_account(encode(Prefix.ACCOUNT, row.account.uuid), row.account.uuid)
        opened.set()
    assert running(registry) == {row.account.uuid}


async def test_an_account_that_can_run_again_is_loaded_with_the_next_look(
    guarded: AccountLoader, registry: Registry, accounts: MemoryAccounts, broken_host: BrokenHost
) -> None:
    first, bad = neighbours(accounts, 2)
    broken_host.broken.add(bad.account.uuid)
    await NodeShardHandler(registry, guarded, MagicMock(), lambda: 0.0).acquired({7: 1}, {})
    await guarded.reconcile()
    assert unloadable() == 1
    broken_host.broken.clear()
    await guarded.reconcile()
    assert running(registry) == {first.account.uuid, bad.account.uuid}
    assert unloadable() == 0


async def test_a_session_that_fails_to_begin_leaves_the_others_alone(
    guarded: AccountLoader, registry: Registry, accounts: MemoryAccounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = neighbours(accounts, 2)
    begun = []

    def begin(session: Session, _traceparent: str) -> None:
        if session.account.uuid == bad.account.uuid:
            raise ValueError("not this one")
        begun.append(session.account.uuid)

    monkeypatch.setattr(Session, "begin", begin)
    await NodeShardHandler(registry, guarded, MagicMock(), lambda: 0.0).acquired({7: 1}, {})
    assert begun == [good.account.uuid]


async def test_a_session_that_cannot_be_told_of_its_row_leaves_the_others_alone(
    guarded: AccountLoader, registry: Registry, accounts: MemoryAccounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = neighbours(accounts, 2)
    await NodeShardHandler(registry, guarded, MagicMock(), lambda: 0.0).acquired({7: 1}, {})
    told = []

    def refresh(session: Session, _account: object) -> None:
        if session.account.uuid == bad.account.uuid:
            raise ValueError("not this one")
        told.append(session.account.uuid)

    monkeypatch.setattr(Session, "refresh", refresh)
    await guarded.reconcile()
    assert told == [good.account.uuid]


async def test_a_session_that_fails_to_close_leaves_with_its_shard_like_the_others(
    guarded: AccountLoader, registry: Registry, accounts: MemoryAccounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    neighbours(accounts, 3)
    handler = NodeShardHandler(registry, guarded, MagicMock(), lambda: 0.0)
    await handler.acquired({7: 1}, {})
    monkeypatch.setattr(Session, "close", MagicMock(side_effect=ValueError("not this one")))
    handler.lost([7])
    assert running(registry) == set()


async def test_a_shard_is_released_though_a_session_cannot_store_what_it_did(
    guarded: AccountLoader, registry: Registry, accounts: MemoryAccounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    neighbours(accounts, 3)
    journal = MagicMock(flush=AsyncMock())
    handler = NodeShardHandler(registry, guarded, journal, lambda: 0.0)
    await handler.acquired({7: 1}, {})
    monkeypatch.setattr(Session, "store_counters", MagicMock(side_effect=ValueError("not this one")))
    await handler.release([7])
    journal.flush.assert_awaited_once_with(give_back={7: 1})
    assert running(registry) == set()


async def test_shards_are_loaded_after_an_error_that_nobody_expected(
    guarded: AccountLoader, registry: Registry, accounts: MemoryAccounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader_module, "_LONG_DELAY", 0.0)

    async def fail() -> None:
        raise asyncpg.DataError("one row of many")

    [row] = neighbours(accounts, 1)
    accounts.meanwhile = fail
    await NodeShardHandler(registry, guarded, MagicMock(), lambda: 0.0).acquired({7: 1}, {})
    assert running(registry) == {row.account.uuid}


@pytest.mark.parametrize(
    ("column", "stored"), [("labels", "{"), ("settings", "[]"), ("settings", "{"), ("restrictions", b"\xff")]
)
async def test_a_row_that_cannot_be_read_whole_is_no_reason_not_to_run_its_account_or_the_others(
    column: str, stored: object
) -> None:
    columns: dict[str, Any] = {"labels": "{}", "settings": "{}", "restrictions": b""} | {column: stored}
    well = {"labels": '{"a": "b"}', "settings": '{"send_limits": {"per_day": 7}}', "restrictions": b""}
    rows = [
        defaultdict(lambda: 1, {**columns, "id": new_uuid()}),
        defaultdict(lambda: 1, {**well, "id": new_uuid()}),
    ]
    store = AccountStore(MagicMock(fetch=AsyncMock(return_value=rows)), SendLimits(1, 2, 3, 4))
    bad, good = await store.shards([7])
    assert (bad.account.labels, bad.account.limits, bad.session.restrictions) == (
        {},
        SendLimits(1, 2, 3, 4),
        (),
    )
    assert (good.account.labels, good.account.limits.per_day) == ({"a": "b"}, 7)
