"""Presence is told of the people whom somebody watches, at a bounded rate; a call is told once."""

from __future__ import annotations

import asyncio

import pytest
from google.protobuf.message import Message

from mesh_core.errors import ResourceExhausted
from mesh_session_node.context import presence
from mesh_session_node.context.presence import MAX_WATCHES, WATCH_SECONDS, Watch, Watches
from mesh_session_node.drivers.interface.content import Identity
from mesh_session_node.drivers.interface.notices import CallEnded, CallOffered, PresenceShown, TypingShown
from mesh_session_node.inbound import presence as inbound_presence
from mesh_session_node.journal import AccountRecord, Event
from sessionmesh.v1 import call_pb2, event_pb2, message_pb2, presence_pb2
from tests.support.memory_host import OneAccount
from tests.support.memory_journal import Clock

ADA, BEA = "phone:+4915100000009", "phone:+4915100000010"
TIME = 1_700_000_000_000_000
LONG = 60.0
"""Seconds that no test takes by itself, however busy the machine is."""


def watch(account: OneAccount, address: str) -> Watch:
    context = account.session.context
    if context.watches is None:
        context.watches = Watches()
    return context.watches.add(address, account.host.loop.time())


async def events(account: OneAccount, field: str = "presence") -> list[Message]:
    """What has been told, with all that waits stored."""
    await account.settle()
    while account.journal.waiting:
        await account.journal.commit()
    told = [event_pb2.Event.FromString(row.body) for row in account.stored(Event)]
    return [getattr(event, field) for event in told if event.HasField(field)]  # type: ignore[arg-type]


async def shown(account: OneAccount) -> list[presence_pb2.Presence]:
    return [one.presence for one in await events(account)]  # type: ignore[attr-defined]


def told(account: OneAccount, *notices: PresenceShown | TypingShown | CallOffered | CallEnded) -> None:
    for notice in notices:
        account.driver.link.notify(notice)


def online(address: str = ADA, *, available: bool = True, **fields: int) -> PresenceShown:
    return PresenceShown(address, available, identity=Identity(hidden_id="8"), **fields)


async def test_who_is_watched_is_told_and_nobody_else(account: OneAccount) -> None:
    await account.connected()
    told(account, online())
    watch(account, ADA)
    told(account, online(), online(BEA))
    (one,) = await shown(account)
    assert (one.person.address, one.person.hidden_id) == (ADA, "8")
    assert one.state == presence_pb2.PRESENCE_STATE_AVAILABLE


async def test_a_person_is_known_by_each_of_their_names(account: OneAccount) -> None:
    await account.connected()
    watch(account, "hidden:8")
    told(account, online(ADA))
    (one,) = await shown(account)
    assert one.person.phone == "+4915100000009"


async def test_what_has_not_changed_is_not_told_again(account: OneAccount) -> None:
    await account.connected()
    watch(account, ADA)
    told(account, online(), online())
    assert len(await shown(account)) == 1


async def test_changes_within_a_second_are_told_as_they_are_at_its_end(
    account: OneAccount, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbound_presence, "OF_A_PERSON_SECONDS", LONG)
    await account.connected()
    watch(account, ADA)
    told(account, online())
    assert len(await shown(account)) == 1
    for state in (message_pb2.TYPING_STATE_TYPING, message_pb2.TYPING_STATE_PAUSED):
        told(account, TypingShown(ADA, ADA, state))
    told(account, online(available=False, last_seen=TIME))
    assert len(await shown(account)) == 1
    await clock.skip(LONG)
    _, one = await shown(account)
    assert one.state == presence_pb2.PRESENCE_STATE_UNAVAILABLE
    assert one.last_seen_time.ToMicroseconds() == TIME
    assert not one.typing


async def test_who_writes_is_there(account: OneAccount) -> None:
    await account.connected()
    watch(account, ADA)
    told(account, TypingShown("group:1", ADA, message_pb2.TYPING_STATE_RECORDING))
    (one,) = await shown(account)
    assert (one.state, one.typing, one.chat) == (
        presence_pb2.PRESENCE_STATE_AVAILABLE,
        message_pb2.TYPING_STATE_RECORDING,
        "group:1",
    )


async def test_an_account_is_told_of_so_many_people_at_once_and_of_the_rest_later(
    account: OneAccount, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "BURST", 3)
    monkeypatch.setattr(presence, "OF_AN_ACCOUNT_SECONDS", LONG)
    await account.connected()
    people = [f"phone:+49151000001{number:02}" for number in range(8)]
    for person in people:
        watch(account, person)
    told(account, *[PresenceShown(person, online=True) for person in people])
    assert len(await shown(account)) == 3
    for so_far in range(4, 9):
        await clock.skip(LONG)
        assert len(await shown(account)) == so_far
    assert sorted(one.person.address for one in await shown(account)) == people


async def test_nothing_is_told_of_an_account_that_has_left(
    account: OneAccount, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbound_presence, "OF_A_PERSON_SECONDS", LONG)
    await account.connected()
    one = watch(account, ADA)
    told(account, online())
    assert len(await shown(account)) == 1
    told(account, online(available=False))
    await account.settle()
    assert one.timer is not None
    account.session.close()
    await clock.skip(LONG)
    assert one.timer is None
    assert len(await shown(account)) == 1


def test_an_account_watches_so_many_and_then_no_more_until_some_have_ended() -> None:
    watches = Watches()
    for number in range(MAX_WATCHES):
        watches.add(f"phone:+4915100{number:06}", 0.0)
    watches.add("phone:+4915100000000", 0.0)
    with pytest.raises(ResourceExhausted) as refused:
        watches.add("hidden:9", 10.0)
    assert (refused.value.reason, refused.value.retry_after) == ("QUOTA_EXCEEDED", WATCH_SECONDS - 10.0)
    watches.add("hidden:9", WATCH_SECONDS)
    assert [one.address for one in watches.present(WATCH_SECONDS)] == ["hidden:9"]


def test_a_watch_ends_by_itself() -> None:
    watches = Watches()
    watches.add(ADA, 0.0)
    assert watches.of([BEA, ADA], WATCH_SECONDS - 1) is not None
    assert watches.of([BEA, ADA], WATCH_SECONDS) is None


# --- calls


async def test_a_call_is_told_once_however_often_the_network_says_it(account: OneAccount) -> None:
    await account.connected()
    offered = CallOffered("C1", ADA, TIME, video=True)
    ended = CallEnded("C1", ADA, TIME + 1, call_pb2.CALL_END_CAUSE_MISSED)
    for notice in (offered, offered, ended, ended, offered):
        told(account, notice)
        await events(account)
    first, last = await events(account, "call")
    assert not first.HasField("end_time")
    assert last.video  # type: ignore[attr-defined]
    assert last.start_time.ToMicroseconds() == TIME  # type: ignore[attr-defined]
    assert last.end_time.ToMicroseconds() == TIME + 1  # type: ignore[attr-defined]
    (record,) = {row.key: row for row in account.stored(AccountRecord)}.values()
    assert (record.member, record.time) == (ADA, TIME)


async def test_a_call_that_ends_while_it_is_rejected_here_ends_once(account: OneAccount) -> None:
    await account.connected()
    told(account, CallOffered("C1", ADA, TIME))
    await events(account)
    session, calls = account.session.context, account.host.calls

    async def reject() -> int:
        async with calls.turn_of(session, "C1"):
            return len(await calls.rejected(session, "C1"))

    told(account, CallEnded("C1", ADA, TIME + 1, call_pb2.CALL_END_CAUSE_MISSED))
    await account.settle()
    rejecting = asyncio.create_task(reject())
    await account.settle()
    await account.journal.commit()
    assert await rejecting == 0


async def test_a_call_that_was_rejected_here_ended_so(account: OneAccount) -> None:
    await account.connected()
    told(account, CallOffered("C1", ADA, TIME))
    await events(account)
    rows = await account.host.calls.rejected(account.session.context, "C1")
    account.journal.post(account.session.context.ref, *rows)
    told(account, CallEnded("C1", ADA, TIME + 1, call_pb2.CALL_END_CAUSE_MISSED))
    _, last = await events(account, "call")
    assert last.end_cause == call_pb2.CALL_END_CAUSE_REJECTED  # type: ignore[attr-defined]
    assert await account.host.calls.rejected(account.session.context, "C2") == ()
