"""What a session does by itself, as its account's settings say."""

from __future__ import annotations

import time
from typing import Any

import pytest

from mesh_session_node.context.account_settings import AccountSettings
from mesh_session_node.context.presence import Watches
from mesh_session_node.drivers.interface.content import Incoming
from mesh_session_node.drivers.interface.notices import CallEnded, CallOffered
from mesh_session_node.drivers.interface.outcomes import End, Refusal, Refused
from mesh_session_node.drivers.memory.actions import Act
from mesh_session_node.drivers.memory.rows import RowsDriver, first_rows
from mesh_session_node.inbound import by_settings
from mesh_session_node.inbound.calls import MAX_ANSWERED
from mesh_session_node.journal import DriverRow, Event, InboundMessage, OutboundMessage
from sessionmesh.v1 import call_pb2, content_pb2, event_pb2, message_pb2, session_pb2
from tests.support.eventually import eventually
from tests.support.memory_host import OneAccount, content_of

ADA, GROUP = "phone:+4915100000009", "group:1"


def settings(account: OneAccount, **given: Any) -> None:
    account.session.context.settings = AccountSettings(session_pb2.SessionSettings(**given))


async def connected(account: OneAccount, **given: Any) -> None:
    """Connected, with these settings."""
    account.load(session_pb2.SESSION_STATE_CONNECTED)
    settings(account, **given)
    await account.dial()
    await account.settle()


def acts(account: OneAccount, name: str) -> list[tuple[Any, ...]]:
    """What was done, over every connection."""
    return [act.arguments for link in account.driver.links for act in link.acts if act.name == name]


async def connect_again(account: OneAccount) -> None:
    account.driver.link.end(End.REPLACED)
    account.session.connect()
    await account.dial()
    await account.settle()


def came(network_id: str, chat: str = ADA, **fields: Any) -> Incoming:
    return Incoming(network_id, chat, ADA, "Ada", content_of("hello"), 1_700_000_000_000_000, **fields)


async def stored(account: OneAccount) -> None:
    await account.settle()
    while account.journal.waiting:
        await account.journal.commit()


# --- online


async def test_an_account_shows_as_online_after_each_login(account: OneAccount) -> None:
    await connected(account, show_online=True)
    assert acts(account, "show_online") == [(True,)]
    await connect_again(account)
    assert acts(account, "show_online") == [(True,), (True,)]


async def test_an_account_that_does_not_ask_for_it_says_nothing(account: OneAccount) -> None:
    await connected(account)
    assert acts(account, "show_online") == []


async def test_other_settings_show_at_once(account: OneAccount) -> None:
    await connected(account)
    settings(account, show_online=True)
    by_settings.show_online(account.session.context)
    await account.settle()
    settings(account)
    by_settings.show_online(account.session.context)
    await account.settle()
    assert acts(account, "show_online") == [(True,), (False,)]


async def test_who_is_watched_is_watched_after_the_next_login(account: OneAccount) -> None:
    await connected(account)
    watches = account.session.context.watches = Watches()
    now = account.host.loop.time()
    watches.add("hidden:1", now)
    watches.add("hidden:2", now).until = now
    await connect_again(account)
    assert acts(account, "watch_presence") == [("hidden:1",)]


async def test_one_who_cannot_be_watched_again_keeps_nobody_else_from_it(account: OneAccount) -> None:
    await connected(account, show_online=True)
    watches = account.session.context.watches = Watches()
    for address in ("phone:+4915100000404", "hidden:2"):
        watches.add(address, account.host.loop.time())
    await connect_again(account)
    assert acts(account, "watch_presence") == [("hidden:2",)]


# --- reading


async def test_what_comes_is_reported_as_read_together(account: OneAccount) -> None:
    await connected(account, auto_read=True)
    for message in (came("IN1"), came("IN2"), came("IN3", GROUP)):
        account.driver.link.receive(message)
    for message in (
        came("IN4", "status"),
        came("IN5", "channel:1"),
        came("IN6", history=True),
        came("IN7", from_account=True),
    ):
        account.driver.link.receive(message)
    await stored(account)
    await eventually(lambda: len(acts(account, "mark_read")) == 2)
    assert acts(account, "mark_read") == [
        (ADA, ADA, ("IN1", "IN2"), False),
        (GROUP, ADA, ("IN3",), False),
    ]


async def test_what_is_not_stored_is_not_read(account: OneAccount, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(by_settings, "_TOGETHER_SECONDS", 0.0)
    await connected(account, auto_read=True)
    account.driver.link.receive(came("IN1"))
    await account.settle()
    assert acts(account, "mark_read") == []


# --- what is not taken


@pytest.mark.parametrize(
    ("setting", "chat"),
    [("ignore_groups", GROUP), ("ignore_status", "status"), ("ignore_channels", "channel:1")],
)
async def test_what_an_account_does_not_take_is_acknowledged_and_not_stored(
    account: OneAccount, setting: str, chat: str
) -> None:
    await connected(account, **{setting: True})
    for message in (came("IN1", chat), came("IN2")):
        account.driver.link.receive(message)
    await stored(account)
    assert account.driver.link.acknowledged == ["IN1", "IN2"]
    assert [row.network_id for row in account.stored(InboundMessage)] == ["IN2"]
    assert account.session.context.counters.received == 1


async def test_what_came_with_a_message_that_is_not_taken_is_stored() -> None:
    account = OneAccount(driver=RowsDriver())
    try:
        state = account.driver.pair_at_once("+4915100000001")
        account.journal.post(
            account.session.context.ref,
            *[DriverRow(row.key, b"sealed:" + (row.value or b"")) for row in first_rows(state.stored)],
        )
        await connected(account, ignore_groups=True)
        account.driver.link.receive(came("IN1", GROUP))
        await account.settle()
        assert account.driver.link.acknowledged == []
        await stored(account)
        assert account.driver.link.acknowledged == ["IN1"]
        assert account.stored(InboundMessage) == []
        assert "receiving/group:1" in account.journal.driver_rows(account.session.context.ref)
    finally:
        await account.host.close()


# --- calls


def told(account: OneAccount) -> list[event_pb2.Event]:
    events = [event_pb2.Event.FromString(row.body) for row in account.stored(Event)]
    return [event for event in events if event.HasField("call")]


def offered(call_id: str = "C1", caller: str = ADA, seconds_ago: float = 0.0, group: str = "") -> CallOffered:
    return CallOffered(call_id, caller, int((time.time() - seconds_ago) * 1e6), group)


async def test_a_call_is_rejected_and_its_caller_written_to(account: OneAccount) -> None:
    await connected(account, reject_calls=True, reject_calls_text="Write to me")
    account.driver.link.notify(offered(), 1)
    await stored(account)
    assert acts(account, "reject_call") == [("C1", ADA)]
    first, last = told(account)
    assert (first.type, last.type) == ("call.offered", "call.ended")
    assert last.call.end_cause == call_pb2.CALL_END_CAUSE_REJECTED
    assert last.call.rejected_by_settings
    (message,) = account.stored(OutboundMessage)
    assert message.chat == ADA
    written = message_pb2.SendMessageRequest.FromString(message.content).content
    assert written == content_pb2.Content(text=content_pb2.TextContent(body="Write to me"))
    assert account.driver.link.notices_stored == [1]
    account.driver.link.notify(CallEnded("C1", ADA, 1, call_pb2.CALL_END_CAUSE_MISSED), 2)
    account.driver.link.notify(offered(), 3)
    await stored(account)
    assert (len(told(account)), len(acts(account, "reject_call"))) == (2, 1)


async def test_somebody_who_calls_often_is_written_to_under_one_request_id(account: OneAccount) -> None:
    await connected(account, reject_calls=True, reject_calls_text="Write to me")
    for call_id in ("C1", "C2"):
        account.driver.link.notify(offered(call_id))
        await stored(account)
    first, second = account.stored(OutboundMessage)
    assert (first.method, first.request_id) == (second.method, second.request_id)


async def test_a_flood_of_callers_is_not_all_written_to_nor_before_what_waits(account: OneAccount) -> None:
    await connected(account, reject_calls=True, reject_calls_text="Write to me")
    for number in range(MAX_ANSWERED + 5):
        account.driver.link.notify(offered(f"C{number}", f"phone:+49151{number:08}"))
        await stored(account)
    assert len(acts(account, "reject_call")) == MAX_ANSWERED + 5
    written = account.stored(OutboundMessage)
    assert len(written) == MAX_ANSWERED
    assert {message.priority for message in written} == {message_pb2.PRIORITY_LOW}


async def test_a_call_that_rings_no_more_or_is_a_groups_is_not_answered(account: OneAccount) -> None:
    await connected(account, reject_calls=True, reject_calls_text="Write to me")
    account.driver.link.notify(offered("C1", seconds_ago=120))
    account.driver.link.notify(offered("C2", group=GROUP))
    await stored(account)
    assert acts(account, "reject_call") == [("C2", ADA)]
    assert account.stored(OutboundMessage) == []


async def test_a_call_that_cannot_be_rejected_is_told_as_it_rings(account: OneAccount) -> None:
    await connected(account, reject_calls=True, reject_calls_text="Write to me")
    account.driver.link.refusal = Refused(Refusal.OTHER)
    account.driver.link.notify(offered(), 1)
    await stored(account)
    assert [event.type for event in told(account)] == ["call.offered"]
    assert account.stored(OutboundMessage) == []
    assert Act("reject_call", ("C1", ADA)) not in account.driver.link.acts
