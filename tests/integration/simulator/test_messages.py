"""Messages and receipts on the simulated network, from clients and to them."""

from __future__ import annotations

import pytest

from mesh_simulator.accounts.account import Behaviour, Refusal
from mesh_simulator.checker import check
from mesh_simulator.network import Network
from sessionmesh.simnet.v1 import wire_pb2 as wire
from tests.support.eventually import eventually
from tests.support.simulated_network import ALICE, BOB, SOMEBODY, Connect, logged_in, register


async def test_a_message_is_acknowledged_and_delivered(network: Network, connect: Connect) -> None:
    _, paired = register(network, ALICE)
    client = await logged_in(connect, paired)
    client.send("M1", 0, SOMEBODY)
    assert (await client.expect("ack")).ack.id == "M1"
    receipt = (await client.expect("receipt")).receipt
    assert (receipt.id, receipt.kind) == ("M1", wire.RECEIPT_KIND_DELIVERED)
    assert check(network.ledger.read()).delivered == 1


async def test_a_message_that_comes_again_is_acknowledged_and_not_shown_again(
    network: Network, connect: Connect
) -> None:
    _, paired = register(network, ALICE)
    client = await logged_in(connect, paired)
    client.send("M1", 0, SOMEBODY)
    assert not (await client.expect("ack")).ack.duplicate
    client.send("M1", 1, SOMEBODY)
    assert (await client.expect("ack")).ack.duplicate
    verdict = check(network.ledger.read())
    assert verdict.clean
    assert verdict.sent == 1


@pytest.mark.parametrize(
    ("position", "reason"),
    [(5, wire.REJECT_REASON_RATCHET_REUSED), (4, wire.REJECT_REASON_RATCHET_BACK)],
)
async def test_a_ratchet_position_used_up_is_refused_and_recorded(
    network: Network, connect: Connect, position: int, reason: wire.RejectReason.ValueType
) -> None:
    _, paired = register(network, ALICE)
    client = await logged_in(connect, paired)
    client.send("M1", 5, SOMEBODY)
    await client.expect("ack")
    client = await logged_in(connect, paired)
    client.send("M2", position, SOMEBODY)
    assert (await client.expect("reject")).reject.reason == reason
    verdict = check(network.ledger.read())
    assert (verdict.ratchet_reuse, verdict.sent) == (1, 1)


async def test_a_gap_in_the_ratchet_is_legal(network: Network, connect: Connect) -> None:
    _, paired = register(network, ALICE)
    client = await logged_in(connect, paired)
    client.send("M1", 5, SOMEBODY)
    client.send("M2", 64, SOMEBODY)
    await client.expect("ack")
    await client.expect("ack")
    assert check(network.ledger.read()).clean


@pytest.mark.parametrize(
    ("to", "content", "blob_refs", "reason"),
    [
        ("phone:123", b"", (), wire.REJECT_REASON_UNKNOWN_RECIPIENT),
        ("group:nobody", b"", (), wire.REJECT_REASON_UNKNOWN_RECIPIENT),
        ("hidden:1", b"", (), wire.REJECT_REASON_UNKNOWN_RECIPIENT),
        (SOMEBODY, bytes(256 * 1024 + 1), (), wire.REJECT_REASON_TOO_LARGE),
        (SOMEBODY, b"", ("no such blob",), wire.REJECT_REASON_UNKNOWN_BLOB),
    ],
)
async def test_a_message_that_cannot_go_is_refused(
    network: Network,
    connect: Connect,
    to: str,
    content: bytes,
    blob_refs: tuple[str, ...],
    reason: wire.RejectReason.ValueType,
) -> None:
    _, paired = register(network, ALICE)
    client = await logged_in(connect, paired)
    client.send("M1", 0, to, content, blob_refs)
    assert (await client.expect("reject")).reject.reason == reason


async def test_more_than_the_limit_is_refused(network: Network, connect: Connect) -> None:
    account, paired = register(network, ALICE)
    account.behaviour = Behaviour(messages_per_minute=2)
    client = await logged_in(connect, paired)
    for counter in range(3):
        client.send(f"M{counter}", counter, SOMEBODY)
    reject = (await client.expect("reject")).reject
    assert (reject.id, reject.reason) == ("M2", wire.REJECT_REASON_RATE_LIMITED)
    assert 0 < reject.retry_after_ms <= 30_000


async def test_people_read_and_answer_when_they_are_told_to(network: Network, connect: Connect) -> None:
    account, paired = register(network, ALICE)
    account.behaviour = Behaviour(delivered_delay=0, read_delay=0, auto_reply="thank you")
    client = await logged_in(connect, paired)
    client.send("M1", 0, SOMEBODY)
    await client.expect_where(lambda frame: frame.receipt.kind == wire.RECEIPT_KIND_READ)
    inbound = (await client.expect("inbound")).inbound
    assert inbound.sender == SOMEBODY
    assert wire.Content.FromString(inbound.content).text == "thank you"


async def test_messages_that_people_refuse_come_back_with_the_reason_and_the_code(
    network: Network, connect: Connect
) -> None:
    account, paired = register(network, ALICE)
    account.behaviour = Behaviour(
        refusals=(
            Refusal(f"hidden:{network.directory.reveal_hidden_id(BOB)}", wire.REJECT_REASON_BLOCKED, 0),
            Refusal("", wire.REJECT_REASON_WINDOW_CLOSED, 131047),
        )
    )
    client = await logged_in(connect, paired)
    client.send("M1", 0, f"phone:{BOB}")
    client.send("M2", 1, SOMEBODY)
    blocked, closed = (await client.expect("reject")).reject, (await client.expect("reject")).reject
    assert (blocked.id, blocked.reason, blocked.code) == ("M1", wire.REJECT_REASON_BLOCKED, 0)
    assert (closed.id, closed.reason, closed.code) == ("M2", wire.REJECT_REASON_WINDOW_CLOSED, 131047)


async def test_the_first_acknowledgement_on_a_connection_says_who_the_recipient_is(
    network: Network, connect: Connect
) -> None:
    _, paired = register(network, ALICE)
    client = await logged_in(connect, paired)
    client.send("M1", 0, SOMEBODY)
    client.send("M2", 1, SOMEBODY)
    first, second = (await client.expect("ack")).ack, (await client.expect("ack")).ack
    phone = SOMEBODY.removeprefix("phone:")
    assert first.recipient == wire.Identity(
        phone=phone, user_id=phone[1:], hidden_id=network.directory.reveal_hidden_id(phone)
    )
    assert not second.HasField("recipient")
    client = await logged_in(connect, paired)
    client.send("M2", 2, SOMEBODY)
    again = (await client.expect("ack")).ack
    assert (again.duplicate, again.recipient) == (True, first.recipient)


async def test_receipts_wait_for_an_account_that_is_away(network: Network, connect: Connect) -> None:
    account, paired = register(network, ALICE)
    network.receipts.issue(account, "M1", wire.RECEIPT_KIND_DELIVERED, "")
    client = await logged_in(connect, paired)
    assert (await client.expect("receipt")).receipt.id == "M1"


async def test_receipts_come_again_until_acknowledged(network: Network, connect: Connect) -> None:
    account, paired = register(network, ALICE)
    for message_id in ("M1", "M2"):
        network.receipts.issue(account, message_id, wire.RECEIPT_KIND_DELIVERED, "")
    client = await logged_in(connect, paired, receipt_acks=True)
    first = (await client.expect("receipt")).receipt
    client.write(wire.Frame(receipt_ack=wire.ReceiptAck(sequence=first.sequence)))
    await eventually(lambda: len(account.receipts) == 1)
    client = await logged_in(connect, paired, receipt_acks=True)
    assert (await client.expect("receipt")).receipt.id == "M2"


async def test_an_inbound_message_is_offered_again_until_acknowledged(
    network: Network, connect: Connect
) -> None:
    account, paired = register(network, ALICE)
    client = await logged_in(connect, paired)
    network.inbound.offer(account, wire.Inbound(id="IN1", sender=SOMEBODY, chat=SOMEBODY))
    network.flush()
    assert not (await client.expect("inbound")).inbound.again
    client = await connect()
    assert (await client.log_in(paired)).pending_inbound == 1
    assert (await client.expect("inbound")).inbound.again
    client.write(wire.Frame(inbound_ack=wire.InboundAck(id="IN1")))
    await eventually(lambda: not account.inbound)
    client = await connect()
    assert (await client.log_in(paired)).pending_inbound == 0
    assert check(network.ledger.read()).inbound_unacked == 0


async def test_accounts_write_to_each_other(network: Network, connect: Connect) -> None:
    _, paired = register(network, ALICE)
    _, paired_bob = register(network, BOB)
    alice, bob = await logged_in(connect, paired), await logged_in(connect, paired_bob)
    alice.send("M1", 0, f"phone:{BOB}", b"hello")
    await alice.expect("ack")
    inbound = (await bob.expect("inbound")).inbound
    assert (inbound.id, inbound.sender, inbound.content) == ("M1", f"phone:{ALICE}", b"hello")
    assert not alice.unread("receipt")
    bob.write(wire.Frame(inbound_ack=wire.InboundAck(id="M1")))
    assert (await alice.expect("receipt")).receipt.kind == wire.RECEIPT_KIND_DELIVERED
    read = wire.Receipt(id="M1", kind=wire.RECEIPT_KIND_READ, chat=inbound.chat)
    bob.write(wire.Frame(receipt=read))
    assert (await alice.expect("receipt")).receipt.kind == wire.RECEIPT_KIND_READ


async def test_typing_is_passed_on(network: Network, connect: Connect) -> None:
    _, paired = register(network, ALICE)
    _, paired_bob = register(network, BOB)
    alice, bob = await logged_in(connect, paired), await logged_in(connect, paired_bob)
    alice.write(wire.Frame(typing=wire.Typing(chat=f"phone:{BOB}", state=wire.TYPING_STATE_TYPING)))
    assert (await bob.expect("typing")).typing.sender == f"phone:{ALICE}"
