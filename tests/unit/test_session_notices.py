"""What the network tells beside messages is taken in its order, stored first and acknowledged then."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any, get_args

import pytest
from structlog.testing import capture_logs

from mesh_session_node.drivers.interface.content import Identity
from mesh_session_node.drivers.interface.notices import (
    CallEnded,
    CallOffered,
    Notice,
    TypingShown,
    UnknownNotice,
)
from mesh_session_node.drivers.interface.outcomes import End
from mesh_session_node.inbound import notices
from mesh_session_node.inbound.fitting_notices import BOUNDS
from mesh_session_node.journal import REFUSED, Event, Poison
from sessionmesh.v1 import call_pb2, event_pb2, message_pb2, session_pb2
from tests.support.memory_host import OneAccount, of_another_tenant

ADA = "phone:+4915100000009"
TIME = 1_700_000_000_000_000


def offered(call_id: str = "C1") -> CallOffered:
    return CallOffered(call_id, ADA, TIME, video=True, identity=Identity(hidden_id="8"))


def typing() -> TypingShown:
    return TypingShown(ADA, ADA, message_pb2.TYPING_STATE_TYPING)


def waiting_calls(account: OneAccount) -> list[str]:
    """The ids of the calls whose events wait to be stored."""
    return [event_of(row).call.call_id for row in account.journal.waiting if isinstance(row, Event)]


def event_of(row: Event) -> event_pb2.Event:
    return event_pb2.Event.FromString(row.body)


class Taker:
    """Does with every notice what a test says, and remembers them."""

    def __init__(self, does: Callable[[Any], Sequence[Event]] | None = None) -> None:
        self.taken: list[Notice] = []
        self._does = does

    def turn(self, _session: object, _notice: Notice) -> AbstractAsyncContextManager[object]:
        return nullcontext()

    async def take(self, _session: object, notice: Notice) -> Sequence[Event]:
        self.taken.append(notice)
        return () if self._does is None else self._does(notice)


def taking(account: OneAccount, kind: type, taker: Taker) -> None:
    account.host.notices._takers = {**account.host.notices._takers, kind: taker}


def test_every_kind_of_notice_has_its_bounds() -> None:
    assert {*BOUNDS} == {*get_args(Notice)}


async def test_a_call_is_an_event_and_is_acknowledged_once_that_is_stored(account: OneAccount) -> None:
    await account.connected()
    link = account.driver.link
    link.notify(offered(), 7)
    await account.settle()
    _call, row, _person = account.journal.waiting
    assert isinstance(row, Event)
    told = event_of(row)
    assert (told.type, told.call.call_id, told.call.video) == ("call.offered", "C1", True)
    assert (told.call.caller.address, told.call.caller.hidden_id) == (ADA, "8")
    assert told.call.start_time.ToMicroseconds() == TIME
    assert link.notices_stored == []
    await account.journal.commit()
    assert link.notices_stored == [7]


async def test_why_a_call_ended_is_in_its_event(account: OneAccount) -> None:
    await account.connected()
    account.driver.link.notify(CallEnded("C1", ADA, TIME, call_pb2.CALL_END_CAUSE_MISSED), 1)
    await account.settle()
    _call, row = account.journal.waiting
    assert isinstance(row, Event)
    told = event_of(row)
    assert (told.type, told.call.end_cause) == ("call.ended", call_pb2.CALL_END_CAUSE_MISSED)
    assert told.call.end_time.ToMicroseconds() == TIME


async def test_notices_are_stored_one_after_another(account: OneAccount) -> None:
    await account.connected()
    for sequence, call in enumerate(("C1", "C2", "C3"), 1):
        account.driver.link.notify(offered(call), sequence)
    for call in ("C1", "C2", "C3"):
        await account.settle()
        assert waiting_calls(account) == [call]
        await account.journal.commit()
    assert account.driver.link.notices_stored == [1, 2, 3]


async def test_nothing_else_changes_what_a_notice_is_about_until_it_is_stored(account: OneAccount) -> None:
    await account.connected()
    account.driver.link.notify(offered(), 1)
    await account.settle()
    turn = account.host.calls.turn_of(account.session.context, "C1")
    assert turn.locked()
    await account.journal.commit()
    await account.settle()
    assert not turn.locked()


async def test_a_notice_that_came_during_the_login_is_acknowledged(account: OneAccount) -> None:
    account.load(session_pb2.SESSION_STATE_CONNECTED)
    account.driver.on_login = lambda: account.driver.link.notify(offered(), 1)
    await account.dial()
    await account.settle()
    await account.journal.commit()
    assert account.driver.link.notices_stored == [1]


async def test_what_the_fence_refuses_is_not_acknowledged(account: OneAccount) -> None:
    await account.connected()
    account.driver.link.notify(offered(), 1)
    account.driver.link.notify(offered("C2"), 2)
    await account.settle()
    await account.journal.commit(REFUSED)
    assert waiting_calls(account) == []
    assert account.driver.link.notices_stored == []


async def test_nothing_is_acknowledged_over_another_connection(account: OneAccount) -> None:
    await account.connected()
    first = account.driver.link
    first.notify(offered(), 1)
    await account.settle()
    first.end(End.REPLACED)
    account.session.connect()
    await account.dial()
    await account.journal.commit()
    assert account.driver.link is not first
    assert account.driver.link.notices_stored == []


async def test_a_taker_that_fails_costs_that_notice_alone(account: OneAccount) -> None:
    await account.connected()

    def fail(_notice: Notice) -> Sequence[Event]:
        raise RuntimeError("a fault")

    taking(account, CallEnded, Taker(fail))
    with capture_logs() as logs:
        account.driver.link.notify(CallEnded("C1", ADA, TIME, call_pb2.CALL_END_CAUSE_MISSED), 1)
        account.driver.link.notify(offered("C2"), 2)
        await account.settle()
    assert [log["kind"] for log in logs if log["event"] == "a notice could not be taken"] == ["CallEnded"]
    assert waiting_calls(account) == ["C2"]
    await account.journal.commit()
    assert account.driver.link.notices_stored == [1, 2]


async def test_what_the_database_refuses_does_not_come_for_ever(account: OneAccount) -> None:
    await account.connected()
    account.driver.link.notify(offered(), 1)
    await account.settle()
    with capture_logs():
        await account.journal.commit(Poison(ValueError("bad data")))
    assert account.driver.link.notices_stored == [1]


async def test_what_nobody_takes_is_acknowledged(account: OneAccount) -> None:
    await account.connected()
    account.driver.link.notify(UnknownNotice("something new"), 3)
    await account.settle()
    assert account.driver.link.notices_stored == [3]


async def test_a_notice_that_cannot_be_made_fit_is_acknowledged(account: OneAccount) -> None:
    await account.connected()
    with capture_logs():
        account.driver.link.notify(CallOffered("C1", ADA, None), 1)  # type: ignore[arg-type]  # a fault
        await account.settle()
    assert account.driver.link.notices_stored == [1]


async def test_what_is_only_of_the_moment_gives_way(
    account: OneAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notices, "MAX_WAITING", 3)
    await account.connected()
    taker = Taker()
    taking(account, TypingShown, taker)
    for _ in range(5):
        account.driver.link.notify(typing())
    for sequence, call in enumerate(("C1", "C2"), 1):
        account.driver.link.notify(offered(call), sequence)
    await account.settle()
    await account.journal.commit()
    await account.journal.commit()
    assert len(taker.taken) == 1
    assert account.driver.link.notices_stored == [1, 2]


async def test_more_than_can_wait_is_told_again_by_a_new_connection(
    account: OneAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notices, "MAX_WAITING", 2)
    monkeypatch.setattr(notices, "_ASK_SECONDS", 0.0)
    await account.connected()
    link = account.driver.link
    with capture_logs():
        for sequence in range(1, 5):
            link.notify(offered(f"C{sequence}"), sequence)
        for _ in range(3):
            await account.settle()
            await account.journal.commit()
            link.notify(offered("behind"), 9)
    assert link.notices_stored == [1, 2]
    assert link.aborted
    await account.dial()
    account.driver.link.notify(offered("C3"), 1)
    await account.settle()
    assert waiting_calls(account) == ["C3"]


async def test_the_accounts_of_a_tenant_have_a_bound_that_leaves_room_for_others(
    account: OneAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notices, "MAX_WAITING_OF_ALL", 4)
    await account.connected()
    taker = Taker()
    taking(account, TypingShown, taker)
    other = of_another_tenant()
    shared = account.host.notices
    for _ in range(5):
        account.driver.link.notify(typing())
    shared.receive(other.session.context, typing(), 0)
    assert shared._all == 3
    await account.settle()
    await other.settle()
    assert len(taker.taken) == 3
    assert (shared._all, shared._of_tenants) == (0, {})
    assert not shared._queues
    await other.host.close()


async def test_a_full_journal_is_waited_for(account: OneAccount, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notices, "_RETRY_SECONDS", 0.0)
    await account.connected()
    account.journal.full = True
    with capture_logs():
        account.driver.link.notify(offered(), 1)
        await account.settle()
        account.journal.full = False
        await asyncio.sleep(0)
        await account.settle()
    assert waiting_calls(account) == ["C1"]
