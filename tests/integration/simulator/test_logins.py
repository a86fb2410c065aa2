"""Logins on the simulated network: who is let in, what replaces what, and what counts as an overlap."""

from __future__ import annotations

import asyncio

import pytest

from mesh_core.framing import encode
from mesh_simulator.accounts.account import Behaviour
from mesh_simulator.checker import check
from mesh_simulator.ledger.records import Kind
from mesh_simulator.network import Network
from sessionmesh.simnet.v1 import wire_pb2 as wire
from tests.support.eventually import eventually
from tests.support.simulated_network import (
    ALICE,
    SOMEBODY,
    Connect,
    logged_in,
    login_frame,
    records_of,
    register,
)


async def test_a_new_login_replaces_the_old_one(network: Network, connect: Connect) -> None:
    account, paired = register(network, ALICE)
    old = await logged_in(connect, paired)
    new = await logged_in(connect, paired)
    assert (await old.expect("closing")).closing.reason == wire.CLOSING_REASON_REPLACED
    async with asyncio.timeout(5):
        await old.closed.wait()
    new.write(wire.Frame(ping=wire.Ping()))
    await new.expect("pong")
    assert account.client is not None
    assert [record.connection for record in records_of(network, Kind.REPLACED)] == [1]
    assert check(network.ledger.read()).clean


async def test_a_frame_from_a_replaced_session_is_an_overlap(network: Network, connect: Connect) -> None:
    account, paired = register(network, ALICE)
    old = await logged_in(connect, paired)
    await logged_in(connect, paired)
    await old.expect("closing")
    old.send("LATE", 0, SOMEBODY)
    await eventually(lambda: "LATE" in account.known_message_ids)
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
    await eventually(lambda: "IN TIME" in account.known_message_ids)
    assert check(network.ledger.read()).overlaps == 0


async def test_frames_sent_with_the_login_wait_for_it(network: Network, connect: Connect) -> None:
    _, paired = register(network, ALICE)
    client = await connect()
    send = wire.Frame(send=wire.Send(id="M1", counter=0, to=SOMEBODY))
    client.write(login_frame(paired), send)
    await client.expect("login_ok")
    assert (await client.expect("ack")).ack.id == "M1"


async def test_a_client_is_told_what_is_restricted_at_every_login_and_when_it_changes(
    network: Network, connect: Connect
) -> None:
    account, paired = register(network, ALICE)
    client = await logged_in(connect, paired)
    assert not client.restrictions.restrictions
    restriction = wire.Restriction(kind=wire.RESTRICTION_KIND_NEW_CHATS, remaining=0)
    network.directory.set_own_behaviour(account, Behaviour(restrictions=(restriction,)))
    network.flush()
    assert list((await client.expect("restrictions")).restrictions.restrictions) == [restriction]
    client = await logged_in(connect, paired)
    assert list(client.restrictions.restrictions) == [restriction]
    network.directory.set_own_behaviour(account, None)
    network.flush()
    assert not (await client.expect("restrictions")).restrictions.restrictions


async def test_a_wrong_secret_is_refused(network: Network, connect: Connect) -> None:
    _, paired = register(network, ALICE)
    paired.secret = bytes(32)
    client = await connect()
    client.write(login_frame(paired))
    assert (await client.expect("login_refused")).login_refused.reason == wire.LOGIN_REFUSAL_BAD_CREDENTIALS
    async with asyncio.timeout(5):
        await client.closed.wait()


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
    async with asyncio.timeout(5):
        await client.closed.wait()
