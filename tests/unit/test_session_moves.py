"""Streams of an account that changes hands: one being opened waits, an open one says where to go on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any, cast
from unittest.mock import AsyncMock, MagicMock

import pytest

from mesh_core.errors import GoingAway, NotOwner
from mesh_core.ids import Prefix, new_id, new_uuid, shard_of
from mesh_core.ownership.keys import OwnerState
from mesh_core.ownership.view import Owner
from mesh_core.rpc.auth import Identity, Role, assume
from mesh_session_node.pairing import Attempt, Pairings
from mesh_session_node.services.session_service import SessionService
from mesh_session_node.settings import SessionSettings
from mesh_session_node.shards import Shards
from sessionmesh.v1 import session_pb2 as pb
from tests.support.eventually import eventually

ACCOUNT = new_id(Prefix.ACCOUNT)
SHARD = shard_of(ACCOUNT)


class Ownership:
    """`node` owns the shard, as far as node-1 has seen of etcd."""

    def __init__(self) -> None:
        self.node: str | None = None
        self.changed = asyncio.Event()

    @property
    def owners(self) -> Any:
        return self

    def owner(self, _shard: int) -> Any:
        return self.node and Owner(self.node, "", 6, OwnerState.ACTIVE)

    def admits(self, _shard: int) -> bool:
        return self.node == "node-1"

    def moves_to(self, node: str) -> None:
        self.node = node
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()


class Handed(Shards):
    """Asks ownership for keys as `Shards` does, but they are `Owner`s here."""

    def not_owner(self, shard: int) -> NotOwner:
        return NotOwner(shard=shard)


@pytest.fixture
async def ownership() -> Ownership:
    return Ownership()


@pytest.fixture
def shards(ownership: Ownership) -> Shards:
    assume(Identity(Role.ADMIN, None, "test", frozenset()))
    made = Handed(MagicMock(node_id="node-1"), *(MagicMock() for _ in range(5)))
    made.ownership = cast("Any", ownership)
    return made


@pytest.fixture
def session(shards: Shards) -> MagicMock:
    made = MagicMock(id=ACCOUNT, closed=False, watchers=None, paired=False)
    made.account.deleted = False
    made.ref.shard, made.ref.epoch = SHARD, 6
    shards.sessions[ACCOUNT] = made
    return made


def context(seconds: float = 5.0) -> Any:
    return MagicMock(invocation_metadata=lambda: (), time_remaining=lambda: seconds)


async def test_a_stream_is_served_once_the_shard_has_come(
    shards: Shards, session: MagicMock, ownership: Ownership
) -> None:
    opening = asyncio.create_task(shards.called_for_stream(context(), ACCOUNT))
    await asyncio.wait([opening], timeout=0)
    assert not opening.done()
    ownership.moves_to("node-1")
    assert await opening is session


async def test_a_stream_is_refused_with_the_name_of_the_new_owner(
    shards: Shards, session: MagicMock, ownership: Ownership
) -> None:
    opening = asyncio.create_task(shards.called_for_stream(context(), ACCOUNT))
    await asyncio.wait([opening], timeout=0)
    ownership.moves_to("node-2")
    with pytest.raises(NotOwner) as refused:
        await opening
    assert (refused.value.owner, refused.value.epoch) == ("node-2", 6)


async def test_a_stream_is_refused_before_its_deadline_when_nobody_takes_the_shard(shards: Shards) -> None:
    with pytest.raises(NotOwner):
        await shards.called_for_stream(context(seconds=0.05), ACCOUNT)


async def test_a_watch_of_a_session_that_leaves_says_so(
    shards: Shards, session: MagicMock, ownership: Ownership, monkeypatch: Any
) -> None:
    ownership.moves_to("node-1")
    monkeypatch.setattr("mesh_session_node.services.session_service.view", lambda _session: pb.Session())
    service = SessionService(cast("Any", MagicMock(shards=shards)), MagicMock())
    watch = service.WatchSession(pb.WatchSessionRequest(account_id=ACCOUNT), context())
    await anext(watch)
    session.closed = True
    for watcher in session.watchers:
        watcher.set()
    with pytest.raises(GoingAway) as ended:
        await anext(watch)
    assert ended.value.retry_after


# --- pairing


@pytest.fixture
def tasks() -> list[asyncio.Task[None]]:
    return []


@pytest.fixture
def pairings() -> Pairings:
    return Pairings(SessionSettings())


@pytest.fixture
def unpaired() -> Any:
    """A session whose network shows no code, ever."""

    async def pair(**_request: Any) -> AsyncIterator[Any]:
        await asyncio.Event().wait()
        yield

    made = MagicMock(id=ACCOUNT)
    made.driver.pair = pair
    made.host.journal.write = AsyncMock()
    made.ref.uuid = new_uuid()
    return made


def begin(pairings: Pairings, session: Any, attempt_id: str = "") -> Attempt:
    request = pb.PairRequest(account_id=ACCOUNT, attempt_id=attempt_id)

    def spawn(_name: str, work: Coroutine[Any, Any, None]) -> None:
        asyncio.create_task(work)  # noqa: RUF006 - the loop of the test ends it

    return pairings.begin(session, request, 60.0, spawn)


async def test_a_pairing_whose_account_leaves_says_how_to_go_on(pairings: Pairings, unpaired: Any) -> None:
    attempt = begin(pairings, unpaired)

    async def follow() -> list[pb.PairResponse]:
        return [step async for step in attempt.follow()]

    following = asyncio.create_task(follow())
    await eventually(lambda: attempt.task is not None)
    pairings.forget(unpaired)
    with pytest.raises(GoingAway) as ended:
        await following
    assert ended.value.resume_token == attempt.id
    assert ended.value.retry_after


async def test_a_pairing_goes_on_under_its_id_at_the_new_owner(pairings: Pairings, unpaired: Any) -> None:
    attempt = begin(pairings, unpaired)
    assert begin(Pairings(SessionSettings()), unpaired, attempt.id).id == attempt.id


async def test_a_pairing_goes_on_when_its_shard_comes_back(pairings: Pairings, unpaired: Any) -> None:
    attempt = begin(pairings, unpaired)
    pairings.forget(unpaired)
    assert begin(pairings, unpaired, attempt.id).id == attempt.id


async def test_what_is_no_attempt_id_names_no_attempt(pairings: Pairings, unpaired: Any) -> None:
    assert begin(pairings, unpaired, "anything").id.startswith("pai_")
