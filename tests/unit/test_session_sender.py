"""How messages leave: stored first, in their order, as fast as the limits allow, once."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from mesh_core.errors import FailedPrecondition, NotOwner, ResourceExhausted, Unavailable
from mesh_session_node.drivers.interface.outcomes import Failure
from mesh_session_node.journal import REFUSED, OutboundMessage
from mesh_session_node.outbound.in_flight import MAX_IN_FLIGHT_BYTES
from mesh_session_node.outbound.outgoing import Outgoing
from mesh_session_node.store.accounts import SendLimits
from sessionmesh.v1 import message_pb2 as pb
from sessionmesh.v1 import session_pb2
from tests.support.memory_host import OneAccount
from tests.support.memory_journal import Clock


def after(seconds: float) -> Timestamp:
    return Timestamp(seconds=int(time.time() + seconds))


# Accepting


async def test_a_message_is_sent_when_it_is_stored_and_not_before(account: OneAccount) -> None:
    await account.connected()
    account.accept("hello")
    assert account.on_the_network == []
    await account.journal.commit()
    assert account.on_the_network == ["hello"]


async def test_a_message_is_stored_as_queued_under_its_request_id(account: OneAccount) -> None:
    await account.connected()
    out = account.accept("hello", priority=pb.PRIORITY_HIGH)
    [row] = account.journal.waiting
    assert isinstance(row, OutboundMessage)
    assert (row.id, row.request_id, row.priority) == (out.uuid, "hello", pb.PRIORITY_HIGH)
    assert row.event.type == "message.queued"
    assert row.network_id == out.network_id


async def test_an_account_without_a_pairing_accepts_nothing(account: OneAccount) -> None:
    with pytest.raises(FailedPrecondition) as refused:
        account.accept()
    assert refused.value.reason == "NOT_PAIRED"


async def test_a_message_that_is_refused_by_the_fence_is_not_sent(account: OneAccount) -> None:
    await account.connected()
    account.accept()
    await account.journal.commit(REFUSED)
    assert account.on_the_network == []
    assert account.shown.counters.queued == 0


async def test_a_full_journal_refuses_and_leaves_no_trace(account: OneAccount) -> None:
    account.limit(outbox=1)
    await account.connected()
    account.journal.full = True
    with pytest.raises(Unavailable):
        account.accept()
    account.journal.full = False
    account.accept()  # its place in the outbox is free


async def test_a_message_that_is_stored_after_the_pairing_ended_fails(account: OneAccount) -> None:
    await account.connected()
    out = account.accept()
    account.session.log_out()
    await account.journal.commit()
    [change] = account.changes(out)
    assert (change.status, change.failure) == (
        pb.MESSAGE_STATUS_FAILED,
        pb.FAILURE_REASON_ACCOUNT_CLOSED,
    )


# Order


async def test_messages_wait_for_the_connection_and_go_in_the_order_of_acceptance(
    account: OneAccount,
) -> None:
    account.load(session_pb2.SESSION_STATE_CONNECTED)
    for text in ("one", "two", "three"):
        await account.send(text)
    assert account.on_the_network == []
    await account.dial()
    assert account.on_the_network == ["one", "two", "three"]


async def test_what_is_urgent_goes_first(account: OneAccount) -> None:
    account.load(session_pb2.SESSION_STATE_CONNECTED)
    await account.send("news", priority=pb.PRIORITY_LOW)
    await account.send("hello")
    await account.send("code 123", priority=pb.PRIORITY_HIGH)
    await account.dial()
    assert account.on_the_network == ["code 123", "hello", "news"]


async def test_a_message_does_not_overtake_one_that_waits(account: OneAccount, clock: Clock) -> None:
    account.limit(per_minute=1)
    await account.connected()
    for text in ("one", "two", "three"):
        await account.send(text)
    assert account.on_the_network == ["one"]
    for _ in range(2):
        await clock.skip(70)
    assert account.on_the_network == ["one", "two", "three"]


async def test_a_scheduled_message_waits_until_it_is_due(account: OneAccount, clock: Clock) -> None:
    await account.connected()
    await account.send("tomorrow", schedule_time=after(3600))
    await account.send("now")
    assert account.on_the_network == ["now"]
    await clock.skip(3601)
    assert account.on_the_network == ["now", "tomorrow"]


async def test_a_message_that_expires_while_it_waits_is_never_sent(account: OneAccount, clock: Clock) -> None:
    account.load(session_pb2.SESSION_STATE_CONNECTED)
    out = await account.send("late", expire_time=after(60))
    await clock.skip(61)
    await account.dial()
    assert account.on_the_network == []
    assert account.statuses(out) == [pb.MESSAGE_STATUS_EXPIRED]


async def test_a_message_expires_while_the_account_is_offline(account: OneAccount, clock: Clock) -> None:
    account.load(session_pb2.SESSION_STATE_PAUSED)
    out = await account.send("late", expire_time=after(60))
    await clock.skip(61)
    account.tick()
    assert account.statuses(out) == [pb.MESSAGE_STATUS_EXPIRED]
    assert account.shown.counters.queued == 0


async def test_the_network_has_no_more_than_a_window_unacknowledged(account: OneAccount) -> None:
    account.limit(per_minute=9999)
    await account.connected(positions=2000)
    for number in range(513):
        account.accept(str(number))
    await account.journal.commit()
    assert len(account.on_the_network) == 512
    account.driver.link.answer()
    assert account.on_the_network[-1] == "512"


async def test_the_network_has_no_more_than_some_bytes_unacknowledged(account: OneAccount) -> None:
    account.limit(per_minute=9999)
    await account.connected()
    for _ in range(40):
        account.accept("x" * 64_000)
    await account.journal.commit()
    window = len(account.on_the_network)
    assert (window - 1) * 64_000 < MAX_IN_FLIGHT_BYTES <= window * 64_100
    account.driver.link.answer()
    assert len(account.on_the_network) == 40


async def test_what_a_broken_connection_had_does_not_count(account: OneAccount) -> None:
    account.limit(per_minute=9999)
    await account.connected()
    for _ in range(40):
        account.accept("x" * 64_000)
    await account.journal.commit()
    assert account.session.sender.in_flight.full
    account.driver.link.end()
    assert not account.session.sender.in_flight.full


# Limits


@pytest.mark.parametrize(("limit", "wait"), [("per_minute", 66), ("per_hour", 3901), ("per_day", 93_601)])
async def test_over_a_limit_messages_wait(account: OneAccount, clock: Clock, limit: str, wait: float) -> None:
    account.limit(**{limit: 1})
    await account.connected()
    await account.send("one")
    await account.send("two")
    assert account.on_the_network == ["one"]
    await clock.skip(wait)
    assert account.on_the_network == ["one", "two"]


async def test_a_higher_limit_holds_from_the_next_message_on(account: OneAccount) -> None:
    account.limit(per_minute=1)
    await account.connected()
    await account.send("one")
    await account.send("two")
    account.session.refresh(replace(account.account, limits=SendLimits(10, 100, 100, 100)))
    await account.send("three")
    assert account.on_the_network == ["one", "two", "three"]


async def test_what_another_node_sent_counts(account: OneAccount) -> None:
    account.limit(per_minute=3)
    account.load(session_pb2.SESSION_STATE_CONNECTED)
    account.session.sender.recall(2, age=10.0)
    await account.dial()
    await account.send("one")
    await account.send("two")
    assert account.on_the_network == ["one"]


@pytest.mark.parametrize("where", ["accepted", "waiting", "with the network"])
async def test_a_full_outbox_refuses_wherever_its_messages_are(account: OneAccount, where: str) -> None:
    account.limit(outbox=2)
    if where == "with the network":
        await account.connected()
    else:
        account.load(session_pb2.SESSION_STATE_CONNECTED)
    account.accept("one")
    account.accept("two")
    if where != "accepted":
        await account.journal.commit()
    with pytest.raises(ResourceExhausted) as refused:
        account.accept("three")
    assert refused.value.reason == "OUTBOX_FULL"
    assert refused.value.retry_after


async def test_an_acknowledged_message_makes_room(account: OneAccount) -> None:
    account.limit(outbox=1)
    await account.connected()
    await account.send("one")
    account.driver.link.answer()
    await account.send("two")
    assert account.on_the_network == ["one", "two"]


# Why a message waits


async def test_a_message_says_why_it_waits(account: OneAccount, clock: Clock) -> None:
    def reason(out: Outgoing) -> str:
        return pb.WaitReason.Name(account.session.sender.wait_reason(out.uuid))

    account.limit(per_minute=2)
    account.load(session_pb2.SESSION_STATE_CONNECTED)
    first, second = await account.send("one"), await account.send("two")
    later = await account.send("three", schedule_time=after(3600))
    assert reason(first) == "WAIT_REASON_NOT_CONNECTED"
    assert reason(later) == "WAIT_REASON_SCHEDULED"
    await account.dial()
    assert reason(first) == "WAIT_REASON_UNSPECIFIED"  # the network has it
    third = await account.send("four")
    assert reason(third) == "WAIT_REASON_SEND_LIMITS"
    await clock.skip(66)
    account.driver.link.reject(second.network_id, Failure.RATE_LIMITED, retry_after=30.0)
    assert reason(second) == "WAIT_REASON_NETWORK"


async def test_a_message_waits_for_its_file_and_its_chat_for_the_message(account: OneAccount) -> None:
    await account.connected()
    picture, caption = await account.send("cat.png"), await account.send("this is my cat")
    assert account.session.sender.wait_reason(picture.uuid) == pb.WAIT_REASON_MEDIA
    assert account.session.sender.wait_reason(caption.uuid) == pb.WAIT_REASON_ORDER


# Ends of connections


async def test_what_was_not_acknowledged_is_sent_again_under_the_same_id(account: OneAccount) -> None:
    await account.connected()
    first, second = await account.send("one"), await account.send("two")
    account.driver.link.ack(first.network_id)
    account.driver.link.end()
    account.session.connect()
    await account.dial()
    assert [message.network_id for message in account.driver.link.sent] == [second.network_id]


async def test_what_is_sent_again_keeps_its_place_before_later_messages(account: OneAccount) -> None:
    await account.connected()
    await account.send("one")
    account.driver.link.end()
    await account.send("two")
    account.session.connect()
    await account.dial()
    assert account.on_the_network == ["one", "one", "two"]


async def test_what_another_node_left_is_sent_before_what_is_new(account: OneAccount) -> None:
    account.load(session_pb2.SESSION_STATE_CONNECTED)
    left = await account.send("left")
    account.take_over(left)
    await account.send("new")
    await account.dial()
    await account.journal.commit()
    assert account.on_the_network == ["left", "new"]


async def test_who_waits_for_a_message_of_an_account_that_leaves_asks_its_owner(account: OneAccount) -> None:
    await account.connected()
    out = await account.send("hello")
    waiter = account.session.sender.waiters.add(out.uuid)
    account.session.close()
    assert waiter.done()
    with pytest.raises(NotOwner):
        waiter.result()
    assert account.shown.counters.queued == 0
