"""A linked device's connection through the sidecar: what the session is told of it, and what the sidecar."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mesh_session_node.drivers.interface.content import OutgoingMessage
from mesh_session_node.drivers.interface.outcomes import (
    BlobUnavailable,
    ConnectionEnded,
    End,
    Failure,
    Receipt,
)
from mesh_session_node.drivers.interface.state import RowChange
from sessionmesh.internal.v1 import linked_device_pb2 as pb
from tests.support.eventually import eventually
from tests.support.sidecar_world import Account, HeldRows, InProcess, SidecarWorld, sidecar_world


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SidecarWorld]:
    async with sidecar_world(tmp_path, monkeypatch, process=InProcess) as world:
        yield world


@pytest.fixture
async def account(world: SidecarWorld) -> Account:
    return await world.account()


async def test_the_rows_of_every_login_come_with_it_and_no_others(world: SidecarWorld) -> None:
    account = Account(world, "acc_1")
    account.rows.rows = {"login/device": b"d", "session/1": b"s"}
    await account.connect()
    opened = await eventually(lambda: world.told("open"))
    assert [(row.key, row.value) for row in opened[0].open.rows] == [("login/device", b"d")]


async def test_an_account_whose_rows_cannot_be_read_does_not_log_in(world: SidecarWorld) -> None:
    account = Account(world, "acc_1")
    account.rows.unavailable = True
    with pytest.raises(ConnectionEnded, match="cannot be read"):
        await account.connect()
    assert world.told("open") == []


async def test_an_account_that_moved_does_not_log_in(world: SidecarWorld) -> None:
    account = Account(world, "acc_1")
    account.events.allowed = False
    with pytest.raises(ConnectionEnded, match="moved"):
        await account.connect()
    assert world.told("open") == []


async def test_an_account_with_too_much_for_its_logins_does_not_log_in(
    world: SidecarWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mesh_session_node.drivers.whatsapp_web.driver.MAX_ANSWER_BYTES", 100)
    account = Account(world, "acc_1")
    account.rows.rows = {"login/device": b"d", "login/history/1": bytes(100)}
    with pytest.raises(ConnectionEnded, match="too much") as ended:
        await account.connect()
    assert (ended.value.end, world.told("open")) == (End.STATE_UNUSABLE, [])


async def test_an_account_that_asks_for_too_much_at_once_loses_its_connection_alone(
    world: SidecarWorld, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mesh_session_node.drivers.whatsapp_web.connection.MAX_ANSWER_BYTES", 100)
    other = await world.account("acc_2")
    account.rows.rows = {"peer/1/session/1": bytes(60), "peer/1/session/2": bytes(60)}
    account.has_said(read_rows=pb.ReadRows(sequence=1, prefixes=["peer/1/"]))
    await eventually(lambda: account.events.ends)
    assert account.events.ends == [End.LOST]
    await other.link.check_numbers(["+4916"])


async def test_rows_are_read_for_the_sidecar(account: Account) -> None:
    account.rows.rows = {"a": b"1", "b": b"2", "c/1": b"3"}
    account.has_said(read_rows=pb.ReadRows(sequence=7, keys=["a", "x"], prefixes=["c/"]))
    answers = await eventually(lambda: account.told("rows_read"))
    assert (answers[0].rows_read.sequence, answers[0].rows_read.failed) == (7, False)
    assert {row.key: row.value for row in answers[0].rows_read.rows} == {"a": b"1", "c/1": b"3"}


async def test_the_sidecar_is_told_that_rows_cannot_be_read(account: Account) -> None:
    account.rows.unavailable = True
    account.has_said(read_rows=pb.ReadRows(sequence=7, keys=["a"]))
    answers = await eventually(lambda: account.told("rows_read"))
    assert answers[0].rows_read.failed


async def test_a_message_that_was_sent_before_is_read_for_the_sidecar(account: Account) -> None:
    account.events.messages = {"3EB01": OutgoingMessage("3EB01", "phone:+4916", b"hello")}
    account.has_said(read_message=pb.ReadMessage(sequence=7, network_message_id="3EB01"))
    (answer,) = await eventually(lambda: account.told("message_read"))
    assert answer.message_read == pb.MessageRead(sequence=7, recipient="phone:+4916", message=b"hello")


async def test_the_sidecar_is_told_of_a_message_that_is_not_kept(account: Account) -> None:
    account.has_said(read_message=pb.ReadMessage(sequence=7, network_message_id="3EB01"))
    (answer,) = await eventually(lambda: account.told("message_read"))
    assert answer.message_read == pb.MessageRead(sequence=7)


async def test_the_sidecar_is_told_that_a_message_cannot_be_read(account: Account) -> None:
    account.events.unavailable = True
    account.has_said(read_message=pb.ReadMessage(sequence=7, network_message_id="3EB01"))
    (answer,) = await eventually(lambda: account.told("message_read"))
    assert answer.message_read == pb.MessageRead(sequence=7, failed=True)


@pytest.mark.parametrize("outcome", [True, False], ids=["stored", "refused"])
async def test_the_sidecar_is_told_what_became_of_rows_and_not_before(
    account: Account, outcome: bool
) -> None:
    changes = [pb.StateRowChange(key="a", value=b"1"), pb.StateRowChange(key="b")]
    account.has_said(write_rows=pb.WriteRows(sequence=3, changes=changes))
    await eventually(lambda: account.rows.writes)
    (written, stored), *_ = account.rows.writes
    assert written == [RowChange("a", b"1"), RowChange("b", None)]
    await account.link.check_numbers(["+4916"])  # all that was said before has been heard
    assert account.told("rows_settled") == []
    stored.set_result(outcome)
    settled = await eventually(lambda: account.told("rows_settled"))
    assert (settled[0].rows_settled.sequence, settled[0].rows_settled.stored) == (3, outcome)


async def test_a_message_brings_its_rows_and_is_settled_when_it_is_acknowledged(account: Account) -> None:
    came = pb.IncomingMessage(
        sequence=5,
        network_message_id="IN1",
        chat="phone:+4916",
        sender="phone:+4916",
        changes=[pb.StateRowChange(key="session/1", value=b"later")],
    )
    came.content.text.body = "hello"
    came.time.FromMicroseconds(1_700_000_000_000_001)
    account.has_said(incoming=came)
    await eventually(lambda: account.events.incoming)
    (message,) = account.events.incoming
    assert (message.network_id, message.content.text.body) == ("IN1", "hello")
    assert message.time == 1_700_000_000_000_001
    assert message.changes == [RowChange("session/1", b"later")]
    assert account.told("rows_settled") == []
    assert message.offered_as is not None
    account.link.acknowledge(message.offered_as)
    settled = await eventually(lambda: account.told("rows_settled"))
    assert (settled[0].rows_settled.sequence, settled[0].rows_settled.stored) == (5, True)


async def test_a_message_is_sent_under_its_id_and_its_acknowledgement_told(account: Account) -> None:
    account.link.send(OutgoingMessage("3EB0AA", "phone:+4916", b"message"))
    await eventually(lambda: account.events.acks)
    (told,) = account.told("send")
    assert (told.send.network_message_id, told.send.recipient, told.send.message) == (
        "3EB0AA",
        "phone:+4916",
        b"message",
    )
    assert account.events.acks == ["3EB0AA"]


async def test_a_message_that_did_not_leave_may_be_sent_again(account: Account) -> None:
    not_sent = pb.MessageRejected(network_message_id="3EB0AA", reason=pb.DEVICE_REJECTION_NOT_SENT)
    account.has_said(rejected=not_sent)
    await eventually(lambda: account.events.rejects)
    assert account.events.rejects[0].failure is Failure.NOT_SENT


async def test_receipts_of_many_members_come_at_once(account: Account) -> None:
    known = pb.KnownMember(member="hidden:8", identity=pb.DeviceIdentity(hidden_id="8", phone="+491701"))
    told = pb.MessageReceipt(
        network_message_ids=["A"],
        receipt=pb.DEVICE_RECEIPT_READ,
        sequence=3,
        members=["hidden:7", "hidden:8"],
        member_times=[5, 6],
        known=[known],
    )
    account.has_said(receipt=told)
    await eventually(lambda: account.events.receipts)
    first, second = account.events.receipts
    assert (first.network_id, first.receipt, first.member, first.identity) == (
        "A",
        Receipt.READ,
        "hidden:7",
        None,
    )
    assert (second.member, second.sequence) == ("hidden:8", 3)
    assert second.identity is not None
    assert (second.identity.phone, account.events.times) == ("+491701", [5, 6])


async def test_receipts_of_several_messages_are_acknowledged_by_the_last(account: Account) -> None:
    told = pb.MessageReceipt(network_message_ids=["A", "B"], receipt=pb.DEVICE_RECEIPT_READ, sequence=9)
    account.has_said(receipt=told)
    await eventually(lambda: account.events.receipts)
    told_of = [(one.network_id, one.receipt, one.sequence) for one in account.events.receipts]
    assert told_of == [("A", Receipt.READ, 0), ("B", Receipt.READ, 9)]
    account.link.acknowledge_receipts(9)
    stored = await eventually(lambda: account.told("receipts_stored"))
    assert stored[0].receipts_stored.sequence == 9


async def test_a_sign_of_life_of_the_network_is_heard(account: Account) -> None:
    account.link.heard = 0.0
    account.link.ping()
    await eventually(lambda: account.link.heard)


@pytest.mark.parametrize(
    ("said", "end"),
    [
        (pb.DEVICE_END_REPLACED, End.REPLACED),
        (pb.DEVICE_END_BANNED, End.BANNED),
        (pb.DEVICE_END_CLIENT_EXPIRED, End.CLIENT_EXPIRED),
        (pb.DEVICE_END_STATE_UNUSABLE, End.STATE_UNUSABLE),
        (99, End.LOST),
    ],
)
async def test_an_end_is_told_as_what_it_is_and_closed(
    account: Account, said: pb.DeviceEnd.ValueType, end: End
) -> None:
    account.has_said(ended=pb.DeviceEnded(end=said, detail="why"))
    await eventually(lambda: account.events.ends)
    await account.link.closed()
    assert (account.events.ends, account.link.ended and account.link.ended.detail) == ([end], "why")


async def test_nothing_is_told_of_a_connection_that_was_aborted(account: Account) -> None:
    account.link.abort()
    account.link.send(OutgoingMessage("3EB0AA", "phone:+4916", b""))
    await account.link.closed()
    assert (account.events.ends, account.told("send")) == ([], [])


async def test_what_waits_to_be_written_when_a_connection_closes_never_is(account: Account) -> None:
    account.link.send(OutgoingMessage("3EB0AA", "phone:+4916", b""))
    account.link.abort()
    await account.link.closed()
    assert account.told("send") == []


async def test_a_question_of_a_connection_that_ends_is_answered_with_that(account: Account) -> None:
    account.link.abort()
    with pytest.raises(ConnectionEnded):
        await account.link.check_numbers(["+4916"])


async def pieces(*data: bytes) -> AsyncIterator[bytes]:
    for piece in data:
        yield piece


async def test_a_file_is_stored_in_pieces_and_read_in_pieces(account: Account) -> None:
    blob = await account.link.upload("image", pieces(b"one", b"two"))
    assert (blob.size, blob.sha256) == (6, b"s" * 32)
    assert [piece async for piece in account.link.fetch(b"file")] == [b"onetwo"]


async def test_a_file_that_the_network_refuses_or_lacks_is_unavailable(account: Account) -> None:
    with pytest.raises(BlobUnavailable, match="refuses"):
        await account.link.upload("image", pieces(b"refused"))
    with pytest.raises(BlobUnavailable, match="no such file"):
        [piece async for piece in account.link.fetch(b"gone")]


async def test_what_the_store_says_of_a_file_is_what_the_upload_raises(account: Account) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"one"
        raise LookupError("the store lost it")

    with pytest.raises(LookupError):
        await account.link.upload("image", broken())


async def test_a_file_of_a_connection_that_ends_can_be_tried_again(account: Account) -> None:
    async def ended() -> AsyncIterator[bytes]:
        account.link.abort()
        yield b"one"

    with pytest.raises(ConnectionEnded):
        await account.link.upload("image", ended())


async def test_a_file_that_is_read_in_part_is_given_up(account: Account) -> None:
    await account.link.upload("image", pieces(b"one"))
    reading = account.link.fetch(b"file")
    assert await anext(reading) == b"one"
    await reading.aclose()  # type: ignore[attr-defined]  # it is a generator
    await eventually(lambda: account.told("give_up"))


async def test_rows_of_another_connection_are_not_touched(world: SidecarWorld, account: Account) -> None:
    other = await world.account("acc_2")
    account.has_said(write_rows=pb.WriteRows(sequence=1, changes=[pb.StateRowChange(key="k", value=b"v")]))
    await eventually(lambda: account.rows.writes)
    assert isinstance(other.rows, HeldRows)
    assert other.rows.writes == []
