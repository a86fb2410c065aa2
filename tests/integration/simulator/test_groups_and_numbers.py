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
    receipt = (await alice.expect("member_receipts")).member_receipts
    assert [*receipt.participants] == [SOMEBODY]
    assert (await bob.expect("inbound")).inbound.chat == chat
    bob.write(wire.Frame(inbound_ack=wire.InboundAck(id="M1")))
    receipt = (await alice.expect("member_receipts")).member_receipts
    assert [*receipt.participants] == [f"phone:{BOB}"]


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
    assert refused.error.reason == wire.QUERY_ERROR_REASON_NOT_AN_ADMIN


async def test_a_number_check_reveals_ids_that_can_be_written_to(network: Network, connect: Connect) -> None:
    _, paired = register(network, ALICE)
    network.directory.unregistered = {"+4915199999999"}
    network.directory.usernames = {"+4915112345678": "some.body"}
    client = await logged_in(connect, paired)
    phones = ["+4915112345678", "+4915199999999"]
    answer = await ask(client, wire.Query(id=7, number_check=wire.NumberCheck(phones=phones)))
    known, unknown = answer.number_check.numbers
    assert (answer.id, known.registered, unknown.registered) == (7, True, False)
    assert known.username == "some.body"
    client.send("M1", 0, f"hidden:{known.hidden_id}")
    client.send("M2", 1, f"user:{known.user_id}")
    client.send("M3", 2, f"username:{known.username}")
    for _ in range(3):
        assert (await client.expect("ack")).ack.recipient.phone == "+4915112345678"


async def test_a_hidden_number_is_shown_to_nobody_else(network: Network, connect: Connect) -> None:
    account, paired = register(network, ALICE)
    _, paired_bob = register(network, BOB)
    alice, bob = await logged_in(connect, paired), await logged_in(connect, paired_bob)
    network.directory.hidden = {ALICE}
    network.directory.usernames = {ALICE: "alice"}
    hidden = f"hidden:{account.hidden_id}"
    identity = wire.Identity(hidden_id=account.hidden_id, username="alice")

    subject = wire.CreateGroup(subject="Us", members=[hidden])
    group = (await ask(bob, wire.Query(create_group=subject))).group
    assert [(member.address, member.identity.phone) for member in group.members] == [
        (f"phone:{BOB}", BOB),
        (hidden, ""),
    ]
    seen_by_alice = (await ask(alice, wire.Query(get_group=wire.GetGroup(group_id=group.group_id)))).group
    assert seen_by_alice.members[1].address == f"phone:{ALICE}"

    alice.send("M1", 0, f"group:{group.group_id}", b"hello")
    inbound = (await bob.expect("inbound")).inbound
    assert (inbound.sender, inbound.identity) == (hidden, identity)

    bob.send("M2", 0, f"group:{group.group_id}", b"hello")
    await alice.expect("inbound")
    alice.write(wire.Frame(inbound_ack=wire.InboundAck(id="M2")))
    receipt = (await bob.expect("member_receipts")).member_receipts
    known = wire.KnownParticipant(participant=hidden, identity=identity)
    assert ([*receipt.participants], [*receipt.known]) == ([hidden], [known])

    alice.write(wire.Frame(typing=wire.Typing(chat=f"phone:{BOB}", state=wire.TYPING_STATE_TYPING)))
    typing = (await bob.expect("typing")).typing
    assert (typing.chat, typing.sender, typing.identity) == (hidden, hidden, identity)
