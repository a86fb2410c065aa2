"""Receipts: stored as statuses, in memory for a while, looked up after that."""

from __future__ import annotations

from typing import Any, cast

import pytest

from mesh_core.ids import new_uuid
from mesh_session_node.drivers.interface.content import Identity, network_id_of
from mesh_session_node.drivers.interface.outcomes import MemberReceipts, Receipt
from mesh_session_node.journal import Event, ReceiptPart, StatusChange
from mesh_session_node.outbound import confirmations
from mesh_session_node.outbound.receipts import LateReceipts, ReceiptAcks
from sessionmesh.internal.v1 import receipt_record_pb2
from sessionmesh.v1 import event_pb2
from sessionmesh.v1 import message_pb2 as pb
from sessionmesh.v1.common_pb2 import Person
from tests.support.memory_host import OneAccount
from tests.support.memory_journal import Clock

MEMBER = "phone:+4915100000009"


async def test_a_receipt_is_stored_with_its_time_and_event(account: OneAccount) -> None:
    await account.connected()
    out = await account.send()
    account.driver.link.ack(out.network_id)
    account.driver.link.receipt(out.network_id, at=1_700_000_000_000_000)
    change = account.changes(out)[-1]
    assert (change.status, change.time) == (pb.MESSAGE_STATUS_DELIVERED, 1_700_000_000_000_000)
    assert change.event is not None
    assert change.event.type == "message.delivered"


@pytest.mark.parametrize(
    ("receipt", "status"),
    [(Receipt.READ, pb.MESSAGE_STATUS_READ), (Receipt.PLAYED, pb.MESSAGE_STATUS_PLAYED)],
)
async def test_a_delivered_message_is_read_or_played_later(
    account: OneAccount, receipt: Receipt, status: int
) -> None:
    await account.connected()
    out = await account.send()
    account.driver.link.ack(out.network_id)
    account.driver.link.receipt(out.network_id)
    account.driver.link.receipt(out.network_id, receipt)
    assert account.statuses(out) == [pb.MESSAGE_STATUS_SENT, pb.MESSAGE_STATUS_DELIVERED, status]
    assert account.receipts.late == []


async def test_a_receipt_that_comes_again_beside_a_new_one_is_told_once(account: OneAccount) -> None:
    await account.connected()
    out = await account.send()
    account.driver.link.ack(out.network_id)
    for receipt in (Receipt.DELIVERED, Receipt.DELIVERED, Receipt.READ):
        account.driver.link.receipt(out.network_id, receipt)
    assert account.statuses(out)[1:] == [pb.MESSAGE_STATUS_DELIVERED, pb.MESSAGE_STATUS_READ]


async def test_a_receipt_before_the_acknowledgement_stands_for_it(account: OneAccount) -> None:
    await account.connected()
    out = await account.send()
    account.driver.link.receipt(out.network_id)
    assert account.statuses(out) == [pb.MESSAGE_STATUS_SENT, pb.MESSAGE_STATUS_DELIVERED]
    account.driver.link.ack(out.network_id)
    assert account.shown.counters.sent == 1


async def told(account: OneAccount, clock: Clock) -> list[event_pb2.MessageStatusEvent]:
    """What events tell of members, once what is held of them is stored."""
    await clock.skip(2)
    return [
        event_pb2.Event.FromString(row.body).message_status
        for row in account.stored(Event)
        if row.type in ("message.delivered", "message.read", "message.played")
    ]


def parts(account: OneAccount) -> list[tuple[int, list[str], list[int]]]:
    """What is stored of members: status, addresses, times."""
    found = [receipt_record_pb2.ReceiptPart.FromString(row.receipts) for row in account.stored(ReceiptPart)]
    return [(part.status, [*part.members], [*part.times]) for part in found]


async def test_a_receipt_of_one_member_names_it(account: OneAccount, clock: Clock) -> None:
    await account.connected()
    out = await account.send()
    account.driver.link.ack(out.network_id)
    identity = Identity("+4915100000009", "9")
    account.driver.link.receipt(out.network_id, member=MEMBER, at=5, identity=identity)
    [event] = await told(account, clock)
    who = Person(address=MEMBER, phone="+4915100000009", user_id="9")
    assert (event.message_id, event.status, event.member) == (out.id, pb.MESSAGE_STATUS_DELIVERED, who)
    [member] = event.members
    assert (member.member, member.status_time.ToMicroseconds()) == (who, 5)
    assert parts(account) == [(pb.MESSAGE_STATUS_DELIVERED, [MEMBER], [5])]


async def test_what_many_members_confirm_is_one_row_and_few_events(account: OneAccount, clock: Clock) -> None:
    await account.connected()
    out = await account.send()
    account.driver.link.ack(out.network_id)
    members = [f"phone:+49151{number:08}" for number in range(600)]
    for at in range(0, 600, 100):
        account.driver.link.receipts(members[at : at + 100], out.network_id, at=at + 1)
    events = await told(account, clock)
    assert [len(event.members) for event in events] == [256, 256, 88]
    named = [one for event in events for one in event.members]
    assert [one.member.address for one in named] == members
    assert [one.member.phone for one in named[:2]] == ["+4915100000000", "+4915100000001"]
    assert [one.status_time.ToMicroseconds() for one in named] == [at // 100 * 100 + 1 for at in range(600)]
    assert not any(event.HasField("member") for event in events)
    [(status, stored, times)] = parts(account)
    assert (status, stored, times[-1]) == (pb.MESSAGE_STATUS_DELIVERED, members, 501)
    assert account.statuses(out) == [pb.MESSAGE_STATUS_SENT, pb.MESSAGE_STATUS_DELIVERED]


async def test_members_are_told_beyond_those_whose_pieces_are_kept(
    account: OneAccount, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confirmations, "MAX_SHOWN", 2)
    await account.connected()
    out = await account.send()
    account.driver.link.ack(out.network_id)
    account.driver.link.receipts(["user:1", "user:2"], out.network_id)
    await told(account, clock)
    account.driver.link.receipts(["user:2", "user:1", "user:3"], out.network_id, Receipt.READ)
    [_, event] = await told(account, clock)
    assert [one.member.address for one in event.members] == ["user:2", "user:1", "user:3"]


async def test_of_each_member_the_highest_status_counts(account: OneAccount, clock: Clock) -> None:
    await account.connected()
    out = await account.send()
    account.driver.link.ack(out.network_id)
    account.driver.link.receipts(["user:1", "user:2", "user:3"], out.network_id)
    account.driver.link.receipts(["user:2"], out.network_id, Receipt.READ)
    account.driver.link.receipts(["user:2", "user:2", "user:4", "user:4"], out.network_id)
    events = await told(account, clock)
    named = [(event.status, [one.member.address for one in event.members]) for event in events]
    assert named == [
        (pb.MESSAGE_STATUS_DELIVERED, ["user:1", "user:3", "user:4"]),
        (pb.MESSAGE_STATUS_READ, ["user:2"]),
    ]


async def test_what_a_member_confirms_again_is_told_once(account: OneAccount, clock: Clock) -> None:
    await account.connected()
    out = await account.send()
    account.driver.link.ack(out.network_id)
    account.driver.link.receipts(["user:1", "user:2"], out.network_id, Receipt.READ)
    await told(account, clock)
    for receipt in (Receipt.DELIVERED, Receipt.READ, Receipt.PLAYED):
        account.driver.link.receipts(["user:1", "user:2"], out.network_id, receipt)
    events = await told(account, clock)
    assert [event.status for event in events] == [pb.MESSAGE_STATUS_READ, pb.MESSAGE_STATUS_PLAYED]
    assert len(parts(account)) == 2


async def test_what_comes_of_a_message_for_long_is_not_held_for_ever(
    account: OneAccount, clock: Clock
) -> None:
    await account.connected()
    out = await account.send()
    account.driver.link.ack(out.network_id)
    for number in range(40):
        account.driver.link.receipt(out.network_id, member=f"user:{number}")
        await clock.skip(0.05)
    assert parts(account)


async def test_what_is_held_is_stored_before_somebody_else_has_the_account(account: OneAccount) -> None:
    await account.connected()
    out = await account.send()
    account.driver.link.ack(out.network_id)
    account.driver.link.receipt(out.network_id, member="user:1")
    assert not parts(account)
    account.session.close()
    assert [members for _, members, _ in parts(account)] == [["user:1"]]


async def test_each_member_of_a_group_is_heard_after_one_has_read_the_message(
    account: OneAccount, clock: Clock
) -> None:
    await account.connected()
    out = await account.send()
    account.driver.link.ack(out.network_id)
    for member in ("user:1", "user:2", "user:3"):
        account.driver.link.receipt(out.network_id, Receipt.READ, member=member)
    [event] = await told(account, clock)
    assert [one.member.address for one in event.members] == ["user:1", "user:2", "user:3"]
    assert account.receipts.late == []


async def test_members_of_a_message_from_long_ago_are_heard_without_looking_it_up(
    account: OneAccount, clock: Clock
) -> None:
    await account.connected()
    out = await account.send()
    account.driver.link.ack(out.network_id)
    account.driver.link.receipt(out.network_id, member="user:1")
    await clock.skip(21)
    account.tick()
    account.driver.link.receipt(out.network_id, Receipt.READ, member="user:1")
    assert [event.status for event in await told(account, clock)] == [
        pb.MESSAGE_STATUS_DELIVERED,
        pb.MESSAGE_STATUS_READ,
    ]
    assert account.receipts.late == []


async def test_a_receipt_of_a_message_from_long_ago_is_looked_up(account: OneAccount, clock: Clock) -> None:
    await account.connected()
    out = await account.send()
    account.driver.link.ack(out.network_id)
    await clock.skip(19)
    account.tick()
    account.driver.link.receipt(out.network_id)
    assert account.receipts.late == []
    await clock.skip(2)
    account.tick()
    account.driver.link.receipt(out.network_id, Receipt.READ)
    assert account.receipts.late == [(out.network_id, Receipt.READ, "")]


async def test_a_receipt_of_a_message_that_an_earlier_process_sent_is_looked_up(account: OneAccount) -> None:
    await account.connected()
    account.driver.link.receipt("3EB0ABC", member=MEMBER)
    assert account.receipts.late == [("3EB0ABC", Receipt.DELIVERED, MEMBER)]


async def test_a_read_message_is_forgotten(account: OneAccount) -> None:
    await account.connected()
    out = await account.send()
    account.driver.link.ack(out.network_id)
    account.driver.link.receipt(out.network_id, Receipt.READ)
    account.driver.link.receipt(out.network_id, Receipt.PLAYED)
    assert account.receipts.late == [(out.network_id, Receipt.PLAYED, "")]


async def test_of_many_delivered_messages_the_next_are_not_kept_for_being_read(account: OneAccount) -> None:
    await account.connected()
    sent = [await account.send(str(number)) for number in range(33)]
    account.driver.link.answer()
    for out in sent:
        account.driver.link.receipt(out.network_id)
    for out in sent:
        account.driver.link.receipt(out.network_id, Receipt.READ)
    assert [network_id for network_id, *_ in account.receipts.late] == [sent[0].network_id]


async def test_receipts_are_acknowledged_to_the_network_once_and_upwards(account: OneAccount) -> None:
    await account.connected()
    out = await account.send()
    account.driver.link.ack(out.network_id)
    for sequence in (1, 2, 2, 1, 3):
        account.driver.link.receipt(out.network_id, sequence=sequence)
    assert account.receipts.stored == [1, 2, 3]


async def test_a_receipt_is_stored_after_the_connection_has_ended_and_come_again(account: OneAccount) -> None:
    await account.connected()
    out = await account.send()
    account.driver.link.ack(out.network_id)
    account.driver.link.end()
    account.session.connect()
    await account.dial()
    account.driver.link.receipt(out.network_id)
    assert [row.status for row in account.stored(StatusChange)] == [
        pb.MESSAGE_STATUS_SENT,
        pb.MESSAGE_STATUS_DELIVERED,
    ]


# Beside the session: late ones, and their acknowledgement


async def test_a_late_receipt_is_stored_for_the_message_that_is_looked_up(account: OneAccount) -> None:
    await account.connected()
    out = await account.send()
    account.messages.add(out.uuid, out.network_id, pb.DIRECTION_OUTBOUND, out.request.SerializeToString())
    late = LateReceipts(cast("Any", account.messages))
    account.host.spawn("late receipts", late.run())
    late.add(account.session.sender.in_flight, out.network_id, Receipt.READ, 5)
    await account.settle()
    [change] = account.changes(out)
    assert (change.status, change.time) == (pb.MESSAGE_STATUS_READ, 5)
    assert change.event is not None
    assert event_pb2.Event.FromString(change.event.body).message_status.message_id == out.id


async def test_late_receipts_of_members_are_told_where_they_say_more_than_is_stored(
    account: OneAccount, clock: Clock
) -> None:
    await account.connected()
    out = await account.send()
    account.messages.add(out.uuid, out.network_id, pb.DIRECTION_OUTBOUND, out.request.SerializeToString())
    stored = {out.uuid: [(pb.MESSAGE_STATUS_DELIVERED, ["user:1"]), (pb.MESSAGE_STATUS_READ, ["user:2"])]}
    account.messages.receipts.heard.return_value = stored
    late = LateReceipts(cast("Any", account.messages))
    account.host.spawn("late receipts", late.run())
    for receipt in (Receipt.DELIVERED, Receipt.READ):
        members = ["user:1", "user:2"] if receipt is Receipt.READ else ["user:1", "user:2", "user:3"]
        confirmed = MemberReceipts(out.network_id, receipt, members, [5] * len(members), {})
        late.add(account.session.sender.in_flight, out.network_id, receipt, 5, confirmed)
    await account.settle()
    await clock.skip(0.2)
    events = await told(account, clock)
    assert [(event.status, [one.member.address for one in event.members]) for event in events] == [
        (pb.MESSAGE_STATUS_DELIVERED, ["user:3"]),
        (pb.MESSAGE_STATUS_READ, ["user:1"]),
    ]


@pytest.mark.parametrize(
    "network_id", ["SOMEBODY ELSE'S", network_id_of(new_uuid())], ids=["not one of ours", "unknown"]
)
async def test_a_late_receipt_of_a_message_that_is_not_the_accounts_is_ignored(
    account: OneAccount, network_id: str
) -> None:
    await account.connected()
    late = LateReceipts(cast("Any", account.messages))
    account.host.spawn("late receipts", late.run())
    late.add(account.session.sender.in_flight, network_id, Receipt.READ, 5)
    await account.settle()
    assert account.stored(StatusChange) == []


async def test_late_receipts_wait_for_the_database(account: OneAccount, clock: Clock) -> None:
    await account.connected()
    out = await account.send()
    account.messages.add(out.uuid, out.network_id, pb.DIRECTION_OUTBOUND, out.request.SerializeToString())
    account.messages.unavailable = True
    late = LateReceipts(cast("Any", account.messages))
    account.host.spawn("late receipts", late.run())
    late.add(account.session.sender.in_flight, out.network_id, Receipt.READ, 5)
    await clock.skip(1.1)
    account.messages.unavailable = False
    await clock.skip(1.1)
    await clock.skip(1.1)
    assert account.statuses(out) == [pb.MESSAGE_STATUS_READ]


async def test_receipts_are_acknowledged_once_they_are_stored(account: OneAccount, clock: Clock) -> None:
    await account.connected()
    acks = ReceiptAcks(cast("Any", account.journal), LateReceipts(cast("Any", account.messages)))
    account.host.spawn("receipt acknowledgements", acks.run())
    acks.posted(account.session.context, 6)
    acks.posted(account.session.context, 7)
    await account.settle()
    assert account.driver.link.receipts_stored == 0
    await clock.skip(1.1)
    assert account.driver.link.receipts_stored == 7


async def test_late_receipts_are_not_acknowledged_before_they_are_stored(
    account: OneAccount, clock: Clock
) -> None:
    await account.connected()
    out = await account.send()
    account.messages.add(out.uuid, out.network_id, pb.DIRECTION_OUTBOUND, out.request.SerializeToString())
    account.messages.unavailable = True
    late = LateReceipts(cast("Any", account.messages))
    acks = ReceiptAcks(cast("Any", account.journal), late)
    account.host.spawn("late receipts", late.run())
    account.host.spawn("receipt acknowledgements", acks.run())
    late.add(account.session.sender.in_flight, out.network_id, Receipt.READ, 5)
    acks.posted(account.session.context, 7)
    await account.settle()
    await clock.skip(1.1)
    assert account.driver.link.receipts_stored == 0
    account.messages.unavailable = False
    await clock.skip(1.1)
    await clock.skip(1.1)
    assert account.statuses(out) == [pb.MESSAGE_STATUS_READ]
    assert account.driver.link.receipts_stored == 7


async def test_receipts_of_an_account_that_is_offline_are_not_acknowledged(
    account: OneAccount, clock: Clock
) -> None:
    await account.connected()
    acks = ReceiptAcks(cast("Any", account.journal), LateReceipts(cast("Any", account.messages)))
    account.host.spawn("receipt acknowledgements", acks.run())
    acks.posted(account.session.context, 7)
    account.driver.link.end()
    await clock.skip(1.1)
    assert account.driver.link.receipts_stored == 0
