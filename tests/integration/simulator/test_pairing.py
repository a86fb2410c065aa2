"""How a client of the simulated network pairs."""

from __future__ import annotations

import pytest

from mesh_core.errors import InvalidField, NotFound
from mesh_simulator.network import Network
from sessionmesh.simnet.v1 import wire_pb2 as wire
from tests.support.simulated_client import SimulatedClient
from tests.support.simulated_network import (
    ALICE,
    BOB,
    SOMEBODY,
    Connect,
    logged_in,
    login_frame,
    register,
    running,
    settings,
)


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
