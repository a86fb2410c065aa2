"""The simulated network over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from mesh_core.errors import InvalidField, NotFound
from mesh_core.framing import encode
from mesh_simulator.account import Account, Behaviour
from mesh_simulator.checker import check, read_ledger
from mesh_simulator.client import SimulatedClient
from mesh_simulator.faults import FaultKind
from mesh_simulator.network import Network
from mesh_simulator.records import Kind, Record
from mesh_simulator.settings import SimulatorSettings
from sessionmesh.simnet.v1 import wire_pb2 as wire
from tests.support.eventually import eventually

ALICE, BOB = "+15550000001", "+15550000002"
SOMEBODY = "phone:+4915112345678"


def settings(**changes: Any) -> SimulatorSettings:
    values = {"listen": "127.0.0.1:0", "delivered_after_seconds": 0.0, "linger_seconds": 0.2}
    return SimulatorSettings(**{**values, **changes})


@asynccontextmanager
async def running(network: Network) -> AsyncIterator[Network]:
    await network.start()
    timers = asyncio.create_task(network.wheel.run(), name="timers")
    yield network
    timers.cancel()
    await network.close()


@pytest.fixture
async def network() -> AsyncIterator[Network]:
    async with running(Network(settings())) as network:
        yield network


Connect = Callable[[], Awaitable[SimulatedClient]]


@pytest.fixture
async def connect(network: Network) -> AsyncIterator[Connect]:
    """Opens connections and drops them in the end."""
    clients: list[SimulatedClient] = []

    async def connect() -> SimulatedClient:
        clients.append(await SimulatedClient.open(network.address))
        return clients[-1]

    yield connect
    for client in clients:
        client.abort()


def register(network: Network, phone: str) -> tuple[Account, wire.Paired]:
    """An account with a credential, without the ceremony."""
    account = network.create_account(phone, "Somebody")
    return account, wire.Paired(user_id=account.user_id, phone=phone, secret=network.pairing.issue(account))


def kinds(network: Network, *wanted: Kind) -> list[Record]:
    return [record for record in network.ledger.read() if record.kind in wanted]


# Pairing


async def test_a_qr_pairing_gives_the_credential_that_logs_in(network: Network, connect: Connect) -> None:
    client = await connect()
    client.write(wire.Frame(pair_start=wire.PairStart(method=wire.PAIR_METHOD_QR)))
    code = (await client.expect("pair_code")).pair_code
    network.pairing.accept(code.qr, ALICE)
    network.flush()
    paired = (await client.expect("paired")).paired
    assert (await client.log_in(paired)).phone == ALICE


async def test_a_pairing_by_code_needs_the_phone_it_was_made_for(network: Network, connect: Connect) -> None:
    client = await connect()
    client.write(wire.Frame(pair_start=wire.PairStart(method=wire.PAIR_METHOD_CODE)))
    assert (await client.expect("pair_refused")).pair_refused.reason == wire.PAIR_REFUSAL_BAD_PHONE
    client.write(wire.Frame(pair_start=wire.PairStart(method=wire.PAIR_METHOD_CODE, phone=ALICE)))
    code = (await client.expect("pair_code")).pair_code.code
    with pytest.raises(InvalidField, match="another phone"):
        network.pairing.accept(code, BOB)
    network.pairing.accept(code, "")
    network.flush()
    assert (await client.expect("paired")).paired.phone == ALICE


async def test_a_qr_text_is_replaced_by_the_next_and_ends_with_the_attempt() -> None:
    async with running(Network(settings(qr_seconds=0.05, pair_timeout_seconds=0.12))) as network:
        client = await SimulatedClient.open(network.address)
        client.write(wire.Frame(pair_start=wire.PairStart(method=wire.PAIR_METHOD_QR)))
        first = (await client.expect("pair_code")).pair_code.qr
        second = (await client.expect("pair_code")).pair_code.qr
        assert first != second
        with pytest.raises(NotFound):
            network.pairing.accept(first, ALICE)
        await client.expect("pair_timeout")
        client.abort()


async def test_a_pairing_can_be_accepted_by_itself() -> None:
    async with running(Network(settings(accept_after_seconds=0.0))) as network:
        client = await SimulatedClient.open(network.address)
        client.write(wire.Frame(pair_start=wire.PairStart(method=wire.PAIR_METHOD_QR, phone=ALICE)))
        assert (await client.expect("paired")).paired.phone == ALICE
        client.abort()


async def test_pairing_anew_keeps_the_ratchet_and_ends_the_old_session(
    network: Network, connect: Connect
) -> None:
    _, paired = register(network, ALICE)
    old = await logged_in(connect, paired)
    old.send("M1", 41, SOMEBODY)
    await old.expect("ack")
    client = await connect()
    client.write(wire.Frame(pair_start=wire.PairStart(method=wire.PAIR_METHOD_CODE, phone=ALICE)))
    code = (await client.expect("pair_code")).pair_code.code
    network.pairing.accept(code, "")
    network.flush()
    assert (await client.expect("paired")).paired.counter == 42
    assert (await old.expect("closing")).closing.reason == wire.CLOSING_REASON_LOGGED_OUT
    await old.closed.wait()
    stale = await connect()
    stale.write(login_frame(paired))
    assert (await stale.expect("login_refused")).login_refused.reason == wire.LOGIN_REFUSAL_BAD_CREDENTIALS


# Logins


def login_frame(paired: wire.Paired, counter: int = 0) -> wire.Frame:
    return wire.Frame(login=wire.Login(user_id=paired.user_id, secret=paired.secret, counter=counter))


async def logged_in(connect: Connect, paired: wire.Paired, *, receipt_acks: bool = False) -> SimulatedClient:
    client = await connect()
    await client.log_in(paired, receipt_acks=receipt_acks)
    return client


async def test_a_new_login_replaces_the_old_one(network: Network, connect: Connect) -> None:
    account, paired = register(network, ALICE)
    old = await logged_in(connect, paired)
    new = await logged_in(connect, paired)
    assert (await old.expect("closing")).closing.reason == wire.CLOSING_REASON_REPLACED
    await asyncio.wait_for(old.closed.wait(), 5)
    new.write(wire.Frame(ping=wire.Ping()))
    await new.expect("pong")
    assert account.connection is not None
    assert [record.connection for record in kinds(network, Kind.REPLACED)] == [1]
    assert check(network.ledger.read()).clean


async def test_a_frame_from_a_replaced_session_is_an_overlap(network: Network, connect: Connect) -> None:
    account, paired = register(network, ALICE)
    old = await logged_in(connect, paired)
    await logged_in(connect, paired)
    await old.expect("closing")
    old.send("LATE", 0, SOMEBODY)
    await eventually(lambda: "LATE" in account.seen)
    assert check(network.ledger.read()).overlaps == 1


async def test_a_frame_that_arrived_before_the_new_login_is_not_an_overlap(
    network: Network, connect: Connect
) -> None:
    account, paired = register(network, ALICE)
    old = await logged_in(connect, paired)
    new = await connect()
    # Both are in the kernel when the network wakes up, and the login may well be heard first.
    new.write(login_frame(paired))
    old.send("IN TIME", 0, SOMEBODY)
    await new.expect("login_ok")
    await eventually(lambda: "IN TIME" in account.seen)
    assert check(network.ledger.read()).overlaps == 0


async def test_frames_sent_with_the_login_wait_for_it(network: Network, connect: Connect) -> None:
    _, paired = register(network, ALICE)
    client = await connect()
    send = wire.Frame(send=wire.Send(id="M1", counter=0, to=SOMEBODY))
    client.write(login_frame(paired), send)
    await client.expect("login_ok")
    assert (await client.expect("ack")).ack.id == "M1"


async def test_a_wrong_secret_is_refused(network: Network, connect: Connect) -> None:
    _, paired = register(network, ALICE)
    paired.secret = bytes(32)
    client = await connect()
    client.write(login_frame(paired))
    assert (await client.expect("login_refused")).login_refused.reason == wire.LOGIN_REFUSAL_BAD_CREDENTIALS
    await asyncio.wait_for(client.closed.wait(), 5)


async def test_a_logged_out_account_must_pair_again(network: Network, connect: Connect) -> None:
    _, paired = register(network, ALICE)
    client = await logged_in(connect, paired)
    client.write(wire.Frame(logout=wire.Logout()))
    assert (await client.expect("closing")).closing.reason == wire.CLOSING_REASON_LOGGED_OUT
    again = await connect()
    again.write(login_frame(paired))
    assert (await again.expect("login_refused")).login_refused.reason == wire.LOGIN_REFUSAL_LOGGED_OUT


@pytest.mark.parametrize(
    "nonsense",
    [
        encode(b"\xff\xff\xff"),
        (2 << 20).to_bytes(4, "big"),
        encode(b""),
        encode(wire.Frame(send=wire.Send(id="M1", to=SOMEBODY)).SerializeToString()),
    ],
    ids=["not a frame", "too large", "no kind", "not logged in"],
)
async def test_nonsense_closes_the_connection(connect: Connect, nonsense: bytes) -> None:
    client = await connect()
    client.write_raw(nonsense)
    assert (await client.expect("closing")).closing.reason == wire.CLOSING_REASON_PROTOCOL
    await asyncio.wait_for(client.closed.wait(), 5)


# Sending


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


# Receipts


async def test_receipts_wait_for_an_account_that_is_away(network: Network, connect: Connect) -> None:
    account, paired = register(network, ALICE)
    network.messages.receipt(account, "M1", wire.RECEIPT_KIND_DELIVERED, "")
    client = await logged_in(connect, paired)
    assert (await client.expect("receipt")).receipt.id == "M1"


async def test_receipts_come_again_until_acknowledged(network: Network, connect: Connect) -> None:
    account, paired = register(network, ALICE)
    for message_id in ("M1", "M2"):
        network.messages.receipt(account, message_id, wire.RECEIPT_KIND_DELIVERED, "")
    client = await logged_in(connect, paired, receipt_acks=True)
    first = (await client.expect("receipt")).receipt
    client.write(wire.Frame(receipt_ack=wire.ReceiptAck(sequence=first.sequence)))
    await eventually(lambda: len(account.receipts) == 1)
    client = await logged_in(connect, paired, receipt_acks=True)
    assert (await client.expect("receipt")).receipt.id == "M2"


# Receiving


async def test_an_inbound_message_is_offered_again_until_acknowledged(
    network: Network, connect: Connect
) -> None:
    account, paired = register(network, ALICE)
    client = await logged_in(connect, paired)
    network.messages.offer(account, wire.Inbound(id="IN1", sender=SOMEBODY, chat=SOMEBODY))
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


# Groups and numbers


async def ask(client: SimulatedClient, query: wire.Query) -> wire.Answer:
    client.write(wire.Frame(query=query))
    return (await client.expect("answer")).answer


async def test_a_group_message_reaches_every_member(network: Network, connect: Connect) -> None:
    _, paired = register(network, ALICE)
    _, paired_bob = register(network, BOB)
    alice, bob = await logged_in(connect, paired), await logged_in(connect, paired_bob)
    members = [f"phone:{BOB}", SOMEBODY]
    answer = await ask(alice, wire.Query(create_group=wire.CreateGroup(subject="Us", members=members)))
    chat = f"group:{answer.group.group_id}"
    alice.send("M1", 0, chat, b"hello")
    receipt = (await alice.expect("receipt")).receipt
    assert receipt.participant == SOMEBODY
    assert (await bob.expect("inbound")).inbound.chat == chat
    bob.write(wire.Frame(inbound_ack=wire.InboundAck(id="M1")))
    assert (await alice.expect("receipt")).receipt.participant == f"phone:{BOB}"


async def test_only_members_write_to_a_group_and_only_administrators_change_it(
    network: Network, connect: Connect
) -> None:
    _, paired = register(network, ALICE)
    _, paired_bob = register(network, BOB)
    alice, bob = await logged_in(connect, paired), await logged_in(connect, paired_bob)
    group_id = (await ask(alice, wire.Query(create_group=wire.CreateGroup(subject="Mine")))).group.group_id
    bob.send("M1", 0, f"group:{group_id}")
    assert (await bob.expect("reject")).reject.reason == wire.REJECT_REASON_NOT_A_MEMBER
    add = wire.ChangeMembers(group_id=group_id, add=[f"phone:{BOB}"])
    assert len((await ask(alice, wire.Query(change_members=add))).group.members) == 2
    remove = wire.ChangeMembers(group_id=group_id, remove=[f"phone:{ALICE}"])
    refused = await ask(bob, wire.Query(change_members=remove))
    assert refused.error.reason == wire.QUERY_ERROR_REASON_FORBIDDEN


async def test_a_number_check_reveals_ids_that_can_be_written_to(network: Network, connect: Connect) -> None:
    _, paired = register(network, ALICE)
    network.directory.unregistered = {"+4915199999999"}
    client = await logged_in(connect, paired)
    phones = ["+4915112345678", "+4915199999999"]
    answer = await ask(client, wire.Query(id=7, number_check=wire.NumberCheck(phones=phones)))
    known, unknown = answer.number_check.numbers
    assert (answer.id, known.registered, unknown.registered) == (7, True, False)
    client.send("M1", 0, f"hidden:{known.hidden_id}")
    client.send("M2", 1, f"user:{known.user_id}")
    await client.expect("ack")
    await client.expect("ack")


# Blobs


async def upload(client: SimulatedClient, data: bytes) -> wire.BlobStored:
    pieces = [data[at : at + 100_000] for at in range(0, len(data), 100_000)]
    for number, piece in enumerate(pieces, 1):
        put = wire.BlobPut(transfer=1, data=piece, last=number == len(pieces))
        client.write(wire.Frame(blob_put=put))
    return (await client.expect("blob_stored")).blob_stored


@pytest.mark.parametrize("offset", [0, 700_000, 1_000_000])
async def test_a_blob_comes_back_as_it_went(network: Network, connect: Connect, offset: int) -> None:
    _, paired = register(network, ALICE)
    client = await logged_in(connect, paired)
    data = bytes(range(250)) * 4000
    stored = await upload(client, data)
    assert (stored.size, stored.sha256) == (len(data), sha256(data).digest())
    client.write(wire.Frame(blob_get=wire.BlobGet(transfer=3, ref=stored.ref, offset=offset)))
    fetched = b""
    while True:
        chunk = (await client.expect("blob_chunk")).blob_chunk
        fetched += chunk.data
        if chunk.last:
            break
    assert fetched == data[offset:]


async def test_a_blob_above_the_limit_is_refused(connect: Connect) -> None:
    async with running(Network(settings(max_blob_bytes=1000))) as network:
        _, paired = register(network, ALICE)
        client = await SimulatedClient.open(network.address)
        await client.log_in(paired)
        client.write(wire.Frame(blob_put=wire.BlobPut(transfer=1, data=bytes(1001), last=True)))
        assert (await client.expect("blob_refused")).blob_refused.reason == wire.BLOB_REFUSAL_TOO_LARGE
        client.abort()


async def test_an_unknown_blob_is_refused(network: Network, connect: Connect) -> None:
    _, paired = register(network, ALICE)
    client = await logged_in(connect, paired)
    client.write(wire.Frame(blob_get=wire.BlobGet(transfer=1, ref="none")))
    assert (await client.expect("blob_refused")).blob_refused.fetch


# Faults


async def test_a_dropped_connection_can_log_in_again(network: Network, connect: Connect) -> None:
    account, paired = register(network, ALICE)
    client = await logged_in(connect, paired)
    network.inject_fault(FaultKind.DROP_CONNECTION, account, 0, None)
    await asyncio.wait_for(client.closed.wait(), 5)
    await logged_in(connect, paired)


async def test_logins_are_refused_for_a_while(network: Network, connect: Connect) -> None:
    _, paired = register(network, ALICE)
    fault_id = network.inject_fault(FaultKind.REFUSE_LOGINS, None, 0, None)
    client = await connect()
    client.write(login_frame(paired))
    assert (await client.expect("login_refused")).login_refused.reason == wire.LOGIN_REFUSAL_TRY_LATER
    assert network.clear_fault(fault_id)
    await logged_in(connect, paired)


async def test_a_fault_ends_after_its_duration(network: Network) -> None:
    account, _ = register(network, ALICE)
    network.inject_fault(FaultKind.LOSE_ACKS, account, 0, 0.02)
    assert account.effects is not None
    await eventually(lambda: account.effects is None)


async def test_a_lost_ack_is_made_up_by_sending_again(network: Network, connect: Connect) -> None:
    account, paired = register(network, ALICE)
    client = await logged_in(connect, paired)
    fault_id = network.inject_fault(FaultKind.LOSE_ACKS, account, 0, None)
    client.send("M1", 0, SOMEBODY)
    await client.expect("receipt")
    assert check(network.ledger.read()).unacked == 1
    network.clear_fault(fault_id)
    client.send("M1", 1, SOMEBODY)
    assert (await client.expect("ack")).ack.duplicate
    verdict = check(network.ledger.read())
    assert (verdict.unacked, verdict.clean) == (0, True)


async def test_a_late_ack_comes_after_the_receipt(network: Network, connect: Connect) -> None:
    account, paired = register(network, ALICE)
    client = await logged_in(connect, paired)
    network.inject_fault(FaultKind.DELAY_ACKS, account, 0.1, None)
    client.send("M1", 0, SOMEBODY)
    await client.expect("receipt")
    assert not client.unread("ack")
    await client.expect("ack")


async def test_a_stalled_connection_goes_on_where_it_stood(network: Network, connect: Connect) -> None:
    account, paired = register(network, ALICE)
    client = await logged_in(connect, paired)
    fault_id = network.inject_fault(FaultKind.STALL, account, 0, None)
    network.messages.offer(account, wire.Inbound(id="IN1", sender=SOMEBODY, chat=SOMEBODY))
    network.flush()
    client.send("M1", 0, SOMEBODY)
    with pytest.raises(TimeoutError):
        await client.expect_where(lambda _: True, timeout=0.1)
    network.clear_fault(fault_id)
    await client.expect("inbound")
    await client.expect("ack")


@pytest.mark.parametrize(
    ("kind", "amount"), [(FaultKind.SLOW, 0.1), (FaultKind.BANDWIDTH, 200.0)], ids=["slow", "narrow"]
)
async def test_traffic_is_held_back_in_order(
    network: Network, connect: Connect, kind: FaultKind, amount: float
) -> None:
    account, paired = register(network, ALICE)
    client = await logged_in(connect, paired)
    network.inject_fault(kind, account, amount, None)
    loop = asyncio.get_running_loop()
    began = loop.time()
    for number in range(3):
        client.send(f"M{number}", number, SOMEBODY)
    ids = [(await client.expect("ack")).ack.id for _ in range(3)]
    assert ids == ["M0", "M1", "M2"]
    assert loop.time() - began >= 0.1


async def test_a_banned_account_is_out(network: Network, connect: Connect) -> None:
    account, paired = register(network, ALICE)
    client = await logged_in(connect, paired)
    network.inject_fault(FaultKind.BAN, account, 0, None)
    assert (await client.expect("closing")).closing.reason == wire.CLOSING_REASON_BANNED
    again = await connect()
    again.write(login_frame(paired))
    assert (await again.expect("login_refused")).login_refused.reason == wire.LOGIN_REFUSAL_BANNED
    assert network.clear_faults(account) == 1
    await logged_in(connect, paired)


async def test_a_dropped_inbound_ack_makes_the_message_come_again(network: Network, connect: Connect) -> None:
    account, paired = register(network, ALICE)
    fault_id = network.inject_fault(FaultKind.DROP_INBOUND_ACKS, account, 0, None)
    network.messages.offer(account, wire.Inbound(id="IN1", sender=SOMEBODY, chat=SOMEBODY))
    client = await logged_in(connect, paired)
    client.write(wire.Frame(inbound_ack=wire.InboundAck(id="IN1")), wire.Frame(ping=wire.Ping()))
    await client.expect("pong")
    network.clear_fault(fault_id)
    client = await logged_in(connect, paired)
    assert (await client.expect("inbound")).inbound.again


# Restart


async def test_a_network_with_a_state_folder_goes_on_where_it_ended(tmp_path: Path) -> None:
    kept = settings(state=str(tmp_path), delivered_after_seconds=30.0)
    async with running(Network(kept)) as network:
        account, paired = register(network, ALICE)
        client = await SimulatedClient.open(network.address)
        await client.log_in(paired)
        blob = await upload(client, b"picture")
        client.send("M1", 5, SOMEBODY)
        await client.expect("ack")
        group_id = network.directory.create_group("g1", "Us", {ALICE: True}).group_id
        network.messages.offer(account, wire.Inbound(id="IN1", sender=SOMEBODY, chat=SOMEBODY))
        network.messages.offer(account, wire.Inbound(id="IN2", sender=SOMEBODY, chat=SOMEBODY))
        network.flush()
        await client.expect("inbound")
        client.write(wire.Frame(inbound_ack=wire.InboundAck(id="IN1")))
        await eventually(lambda: "IN1" not in account.inbound)
        client.abort()
    async with running(Network(settings(state=str(tmp_path)))) as network:
        client = await SimulatedClient.open(network.address)
        assert (await client.log_in(paired)).pending_inbound == 1
        assert (await client.expect("inbound")).inbound.id == "IN2"
        assert (await client.expect("receipt")).receipt.id == "M1"
        client.send("M1", 5, SOMEBODY)
        assert (await client.expect("reject")).reject.reason == wire.REJECT_REASON_RATCHET_REUSED
        client.send("M1", 6, f"group:{group_id}", blob_refs=(blob.ref,))
        assert (await client.expect("ack")).ack.duplicate
        client.send("M2", 7, f"group:{group_id}", blob_refs=(blob.ref,))
        assert not (await client.expect("ack")).ack.duplicate
        verdict = check(network.ledger.read())
        assert (verdict.sent, verdict.delivered, verdict.ratchet_reuse) == (2, 1, 1)
        client.abort()


async def test_what_was_acknowledged_is_on_disk(tmp_path: Path) -> None:
    async with running(Network(settings(state=str(tmp_path)))) as network:
        _, paired = register(network, ALICE)
        client = await SimulatedClient.open(network.address)
        await client.log_in(paired)
        client.send("M1", 0, SOMEBODY)
        await client.expect("ack")
        with (tmp_path / "ledger.bin").open("rb") as file:
            assert check(read_ledger(file)).sent == 1
        client.abort()
