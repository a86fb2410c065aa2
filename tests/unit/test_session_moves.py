"""Streams of an account that changes hands: one being opened waits, an open one says where to go on."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any, cast
from unittest.mock import MagicMock

import pytest

from mesh_core.errors import GoingAway, NotFound, NotOwner
from mesh_core.ids import new_uuid
from mesh_core.ownership.keys import OwnerState
from mesh_core.ownership.view import Owner
from mesh_core.rpc.auth import Identity, Role, assume
from mesh_core.signal import Signal
from mesh_session_node.account.pairing import Attempt, Pairings
from mesh_session_node.account.session import Session
from mesh_session_node.calls.account_call import AccountCalls
from mesh_session_node.calls.sessions.session_service import SessionService
from mesh_session_node.drivers.memory.driver import MemoryDriver
from mesh_session_node.journal import REFUSED, Credential, SessionSnapshot
from mesh_session_node.node.lookup import AccountLookup
from mesh_session_node.node.registry import Registry
from mesh_session_node.store.accounts import NO_SESSION, SessionRow
from sessionmesh.v1 import session_pb2 as pb
from tests.support.at_once import AtOnce
from tests.support.memory_host import PHONE, SEALED, MemoryHost, account_row
from tests.support.memory_journal import turn


class OwnerLookup:
    """What node-1 has seen of etcd: `node` owns every shard."""

    def __init__(self) -> None:
        self.node: str | None = None
        self.changes = Signal()

    def owner(self, _shard: int) -> Owner | None:
        return None if self.node is None else Owner(self.node, "", 6, OwnerState.ACTIVE)


class Ownership:
    """node-1's part in ownership."""

    def __init__(self) -> None:
        self.owners = OwnerLookup()

    def owner(self, _shard: int) -> None:
        """A refusal names nobody."""

    def admits(self, _shard: int) -> bool:
        return self.owners.node == "node-1"

    def moves_to(self, node: str) -> None:
        self.owners.node = node
        self.owners.changes.notify()


@pytest.fixture
async def ownership() -> Ownership:
    return Ownership()


@pytest.fixture
async def node() -> MemoryHost:
    return MemoryHost(MemoryDriver())


@pytest.fixture
def session(node: MemoryHost) -> Session:
    return node.make(account_row(new_uuid()), 3, NO_SESSION, None)


@pytest.fixture
def lookup(session: Session, ownership: Ownership) -> AccountLookup:
    assume(Identity(Role.ADMIN, None, "test", frozenset()))
    registry = Registry(MagicMock())
    registry.add(session)
    return AccountLookup("node-1", registry, MagicMock(), cast("Any", ownership))


def context(seconds: float = 5.0) -> Any:
    return MagicMock(invocation_metadata=lambda: (), time_remaining=lambda: seconds)


async def test_a_stream_is_served_once_the_shard_has_come(
    lookup: AccountLookup, session: Session, ownership: Ownership
) -> None:
    opening = asyncio.create_task(lookup.for_stream(context(), session.id))
    await asyncio.wait([opening], timeout=0)
    assert not opening.done()
    ownership.moves_to("node-1")
    assert await opening is session


async def test_a_stream_is_refused_with_the_name_of_the_new_owner(
    lookup: AccountLookup, session: Session, ownership: Ownership
) -> None:
    opening = asyncio.create_task(lookup.for_stream(context(), session.id))
    await asyncio.wait([opening], timeout=0)
    ownership.moves_to("node-2")
    with pytest.raises(NotOwner) as refused:
        await opening
    assert (refused.value.owner, refused.value.epoch) == ("node-2", 6)


async def test_a_stream_is_refused_before_its_deadline_when_nobody_takes_the_shard(
    lookup: AccountLookup, session: Session
) -> None:
    with pytest.raises(NotOwner):
        await lookup.for_stream(context(seconds=0.05), session.id)


async def test_a_watch_of_a_session_that_leaves_says_so(
    lookup: AccountLookup, session: Session, ownership: Ownership
) -> None:
    ownership.moves_to("node-1")
    service = SessionService(AccountCalls(lookup, MagicMock()), MagicMock(), MagicMock(), MagicMock())
    watch = service.WatchSession(pb.WatchSessionRequest(account_id=session.id), context())
    assert (await anext(watch)).session.account_id == session.id
    session.close()
    with pytest.raises(GoingAway) as ended:
        await anext(watch)
    assert ended.value.retry_after


async def test_a_watch_ends_with_the_account(
    lookup: AccountLookup, session: Session, ownership: Ownership
) -> None:
    ownership.moves_to("node-1")
    service = SessionService(AccountCalls(lookup, MagicMock()), MagicMock(), MagicMock(), MagicMock())
    watch = service.WatchSession(pb.WatchSessionRequest(account_id=session.id), context())
    await anext(watch)
    session.refresh(replace(session.account, deleted=True))
    with pytest.raises(NotFound):
        await anext(watch)


async def test_a_watch_shows_a_change_that_happened_while_the_caller_was_slow(
    lookup: AccountLookup, session: Session, ownership: Ownership
) -> None:
    ownership.moves_to("node-1")
    service = SessionService(AccountCalls(lookup, MagicMock()), MagicMock(), MagicMock(), MagicMock())
    watch = service.WatchSession(pb.WatchSessionRequest(account_id=session.id), context())
    await anext(watch)
    session.pairing_begun()
    assert (await anext(watch)).session.state == pb.SESSION_STATE_PAIRING


# --- pairing


@pytest.fixture
def pairings(node: MemoryHost) -> Pairings:
    return Pairings(node.settings, AtOnce())


def begin(pairings: Pairings, session: Session, attempt_id: str = "") -> Attempt:
    request = pb.PairRequest(account_id=session.id, attempt_id=attempt_id)
    return pairings.begin(session, request, 60.0)


def next_owners(node: MemoryHost, session: Session) -> Session:
    """The session as the next owner of its shard makes it of what is stored."""
    rows = node.journal.rows
    stored = [row for row in rows if isinstance(row, SessionSnapshot)][-1]
    credentials = [row.blob for row in rows if isinstance(row, Credential)]
    row = SessionRow(state=cast("Any", stored.state), phone=stored.phone, push_name=stored.push_name)
    state = node.driver("memory").load(credentials[-1].removeprefix(SEALED)) if credentials else None
    return node.make(session.account, 4, row, state)


async def steps_of(attempt: Attempt) -> list[pb.PairResponse]:
    return [step async for step in attempt.follow()]


async def test_a_pairing_whose_account_leaves_says_how_to_go_on(pairings: Pairings, session: Session) -> None:
    attempt = begin(pairings, session)
    following = asyncio.create_task(steps_of(attempt))
    await asyncio.wait([following], timeout=0)
    session.close()
    pairings.forget(session)
    with pytest.raises(GoingAway) as ended:
        await following
    assert ended.value.resume_token == attempt.id
    assert ended.value.retry_after


async def test_a_pairing_goes_on_under_its_id_at_the_new_owner(
    pairings: Pairings, node: MemoryHost, session: Session
) -> None:
    attempt = begin(pairings, session)
    assert (
        begin(
            Pairings(node.settings, AtOnce()), node.make(session.account, 4, NO_SESSION, None), attempt.id
        ).id
        == attempt.id
    )


async def test_a_pairing_goes_on_when_its_shard_comes_back(
    pairings: Pairings, node: MemoryHost, session: Session
) -> None:
    attempt = begin(pairings, session)
    session.close()
    pairings.forget(session)
    assert begin(pairings, node.make(session.account, 4, NO_SESSION, None), attempt.id).id == attempt.id


async def test_a_pairing_that_was_stored_as_its_shard_left_is_one_at_the_new_owner(
    pairings: Pairings, node: MemoryHost, session: Session
) -> None:
    attempt = begin(pairings, session)
    await turn()
    node.driver("memory").pairing.accept(PHONE, "Shop")
    await turn()
    session.close()
    pairings.forget(session)
    await node.journal.commit()  # with the release of the shard
    with pytest.raises(GoingAway) as ended:
        await steps_of(attempt)
    there = next_owners(node, session)
    there.begin()
    assert (there.state, there.cause) == (pb.SESSION_STATE_CONNECTING, pb.SESSION_CAUSE_MOVED)
    assert there.paired
    [step] = await steps_of(begin(Pairings(node.settings, AtOnce()), there, ended.value.resume_token))
    assert step.attempt_id == attempt.id
    assert (step.paired.session.self.phone, step.paired.session.paired) == (PHONE, True)


async def test_a_pairing_that_was_not_stored_goes_on_at_the_new_owner(
    pairings: Pairings, node: MemoryHost, session: Session
) -> None:
    attempt = begin(pairings, session)
    await turn()
    node.driver("memory").pairing.accept(PHONE)
    await turn()
    session.close()
    pairings.forget(session)
    await node.journal.commit(REFUSED)
    there = next_owners(node, session)
    there.begin()
    assert there.state == pb.SESSION_STATE_NEW
    again = begin(Pairings(node.settings, AtOnce()), there, attempt.id)
    await turn()
    assert again.step is not None
    assert again.step.WhichOneof("step") == "qr"
