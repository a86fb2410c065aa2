"""Groups and number checks on the simulated network."""

from __future__ import annotations

from mesh_simulator.network import Network
from sessionmesh.simnet.v1 import wire_pb2 as wire
from tests.support.simulated_client import SimulatedClient
from tests.support.simulated_network import ALICE, BOB, SOMEBODY, Connect, logged_in, register


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
