"""What each fault of the simulated network does, and how it ends."""

from __future__ import annotations

import asyncio

import pytest

from mesh_simulator.checker import check
from mesh_simulator.faults.faults import FaultKind
from mesh_simulator.network import Network
from sessionmesh.simnet.v1 import wire_pb2 as wire
from tests.support.eventually import eventually
from tests.support.simulated_network import ALICE, SOMEBODY, Connect, logged_in, login_frame, register


async def test_a_dropped_connection_can_log_in_again(network: Network, connect: Connect) -> None:
    account, paired = register(network, ALICE)
    client = await logged_in(connect, paired)
    network.faults.inject(FaultKind.DROP_CONNECTION, account, 0, None)
    async with asyncio.timeout(5):
        await client.closed.wait()
    await logged_in(connect, paired)


async def test_logins_are_refused_for_a_while(network: Network, connect: Connect) -> None:
    _, paired = register(network, ALICE)
    fault_id = network.faults.inject(FaultKind.REFUSE_LOGINS, None, 0, None)
    client = await connect()
    client.write(login_frame(paired))
    assert (await client.expect("login_refused")).login_refused.reason == wire.LOGIN_REFUSAL_TRY_LATER
    assert network.faults.clear(fault_id)
    await logged_in(connect, paired)


async def test_a_fault_ends_after_its_duration(network: Network) -> None:
    account, _ = register(network, ALICE)
    network.faults.inject(FaultKind.LOSE_ACKS, account, 0, 0.02)
    assert account.effects is not None
    await eventually(lambda: account.effects is None)


async def test_a_lost_ack_is_made_up_by_sending_again(network: Network, connect: Connect) -> None:
    account, paired = register(network, ALICE)
    client = await logged_in(connect, paired)
    fault_id = network.faults.inject(FaultKind.LOSE_ACKS, account, 0, None)
    client.send("M1", 0, SOMEBODY)
    await client.expect("receipt")
    assert check(network.ledger.read()).unacked == 1
    network.faults.clear(fault_id)
    client.send("M1", 1, SOMEBODY)
    assert (await client.expect("ack")).ack.duplicate
    verdict = check(network.ledger.read())
    assert (verdict.unacked, verdict.clean) == (0, True)


async def test_a_late_ack_comes_after_the_receipt(network: Network, connect: Connect) -> None:
    account, paired = register(network, ALICE)
    client = await logged_in(connect, paired)
    network.faults.inject(FaultKind.DELAY_ACKS, account, 0.1, None)
    client.send("M1", 0, SOMEBODY)
    await eventually(lambda: client.unread_kinds() == ["receipt", "ack"])


async def test_a_stalled_connection_goes_on_where_it_stood(network: Network, connect: Connect) -> None:
    account, paired = register(network, ALICE)
    client = await logged_in(connect, paired)
    fault_id = network.faults.inject(FaultKind.STALL, account, 0, None)
    network.inbound.offer(account, wire.Inbound(id="IN1", sender=SOMEBODY, chat=SOMEBODY))
    network.flush()
    client.send("M1", 0, SOMEBODY)
    with pytest.raises(TimeoutError):
        await client.expect_where(lambda _: True, timeout=0.1)
    network.faults.clear(fault_id)
    await client.expect("inbound")
    await client.expect("ack")


@pytest.mark.parametrize(
    ("kind", "amount"), [(FaultKind.SLOW, 0.02), (FaultKind.BANDWIDTH, 1000.0)], ids=["slow", "narrow"]
)
async def test_traffic_that_is_held_back_keeps_its_order(
    network: Network, connect: Connect, kind: FaultKind, amount: float
) -> None:
    account, paired = register(network, ALICE)
    client = await logged_in(connect, paired)
    network.faults.inject(kind, account, amount, None)
    for number in range(3):
        client.send(f"M{number}", number, SOMEBODY)
    ids = [(await client.expect("ack")).ack.id for _ in range(3)]
    assert ids == ["M0", "M1", "M2"]


async def test_a_banned_account_is_out(network: Network, connect: Connect) -> None:
    account, paired = register(network, ALICE)
    client = await logged_in(connect, paired)
    network.faults.inject(FaultKind.BAN, account, 0, None)
    assert (await client.expect("closing")).closing.reason == wire.CLOSING_REASON_BANNED
    again = await connect()
    again.write(login_frame(paired))
    assert (await again.expect("login_refused")).login_refused.reason == wire.LOGIN_REFUSAL_BANNED
    assert network.faults.clear_all(account) == 1
    await logged_in(connect, paired)


async def test_a_dropped_inbound_ack_makes_the_message_come_again(network: Network, connect: Connect) -> None:
    account, paired = register(network, ALICE)
    fault_id = network.faults.inject(FaultKind.DROP_INBOUND_ACKS, account, 0, None)
    network.inbound.offer(account, wire.Inbound(id="IN1", sender=SOMEBODY, chat=SOMEBODY))
    client = await logged_in(connect, paired)
    client.write(wire.Frame(inbound_ack=wire.InboundAck(id="IN1")), wire.Frame(ping=wire.Ping()))
    await client.expect("pong")
    network.faults.clear(fault_id)
    client = await logged_in(connect, paired)
    assert (await client.expect("inbound")).inbound.again
