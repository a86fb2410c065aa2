"""SimulatorService as operators and tests of other parts use it, and the simulator as a process."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from mesh_simulator.checker import check
from mesh_simulator.ledger.records import Kind, Record
from sessionmesh.simnet.v1 import wire_pb2 as wire
from sessionmesh.simulator.v1 import simulator_pb2 as api
from tests.support.eventually import eventually
from tests.support.simulated_client import SimulatedClient
from tests.support.simulated_network import ALICE, BOB, SOMEBODY
from tests.support.simulator_operator import Operator


async def test_nobody_without_a_key_may_call(operator: Operator) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await operator.stub.GetNetworkStats(api.GetNetworkStatsRequest())
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.read_back("AcceptPairing")
async def test_a_person_accepts_a_pairing(operator: Operator) -> None:
    client = await SimulatedClient.open(operator.network)
    client.write(wire.Frame(pair_start=wire.PairStart(method=wire.PAIR_METHOD_QR)))
    qr = (await client.expect("pair_code")).pair_code.qr
    accepted = await operator.stub.AcceptPairing(
        api.AcceptPairingRequest(qr=qr, phone=ALICE), metadata=operator.metadata
    )
    assert accepted.account.paired
    assert (await client.expect("paired")).paired.phone == ALICE
    client.abort()


@pytest.mark.read_back("CreateNetworkAccount", "ListNetworkAccounts")
async def test_accounts_are_listed_in_pages(operator: Operator) -> None:
    for number in range(5):
        request = api.CreateNetworkAccountRequest(phone=f"+1555000000{number}")
        await operator.stub.CreateNetworkAccount(request, metadata=operator.metadata)
    listing, phones = api.ListNetworkAccountsRequest(page_size=2), []
    while True:
        page = await operator.stub.ListNetworkAccounts(listing, metadata=operator.metadata)
        phones.append([account.phone[-1] for account in page.accounts])
        if not page.next_page_token:
            break
        listing.page_token = page.next_page_token
    assert phones == [["0", "1"], ["2", "3"], ["4"]]


async def test_an_account_exists_once(operator: Operator) -> None:
    await operator.paired(ALICE)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await operator.paired(ALICE)
    assert refused.value.code() is grpc.StatusCode.ALREADY_EXISTS


@pytest.mark.read_back("InjectMessage", "IssueCredential")
async def test_somebody_writes_to_an_account(operator: Operator) -> None:
    client = await operator.client(ALICE)
    injected = await operator.stub.InjectMessage(
        api.InjectMessageRequest(phone=ALICE, sender=SOMEBODY, text="hello", push_name="Some Body"),
        metadata=operator.metadata,
    )
    inbound = (await client.expect("inbound")).inbound
    assert (inbound.id, inbound.push_name) == (injected.network_message_id, "Some Body")
    assert wire.Content.FromString(inbound.content).text == "hello"
    client.abort()


@pytest.mark.read_back("PutNetworkBlob", "CreateNetworkGroup")
async def test_somebody_sends_a_picture_to_a_group(operator: Operator) -> None:
    client = await operator.client(ALICE)
    blob = await operator.stub.PutNetworkBlob(
        api.PutNetworkBlobRequest(data=b"picture"), metadata=operator.metadata
    )
    created = await operator.stub.CreateNetworkGroup(
        api.CreateNetworkGroupRequest(subject="Us", members=[BOB, ALICE]), metadata=operator.metadata
    )
    assert list(created.group.admins) == [BOB]
    content = wire.Content(blob=wire.Blob(ref=blob.ref, mime="image/jpeg"))
    await operator.stub.InjectMessage(
        api.InjectMessageRequest(
            phone=ALICE,
            sender=f"phone:{BOB}",
            chat=created.group.address,
            encoded=content.SerializeToString(),
        ),
        metadata=operator.metadata,
    )
    inbound = (await client.expect("inbound")).inbound
    assert inbound.chat == created.group.address
    fetch = wire.BlobGet(transfer=1, ref=wire.Content.FromString(inbound.content).blob.ref)
    client.write(wire.Frame(blob_get=fetch))
    assert (await client.expect("blob_chunk")).blob_chunk.data == b"picture"
    client.abort()


@pytest.mark.read_back("ChangeNetworkGroupMembers")
async def test_who_left_a_group_can_write_in_it_no_more(operator: Operator) -> None:
    client = await operator.client(ALICE)
    created = await operator.stub.CreateNetworkGroup(
        api.CreateNetworkGroupRequest(subject="Us", members=[BOB, ALICE]), metadata=operator.metadata
    )
    client.send("M1", 0, created.group.address)
    await client.expect("ack")
    left = api.ChangeNetworkGroupMembersRequest(group=created.group.address, remove=[ALICE])
    changed = await operator.stub.ChangeNetworkGroupMembers(left, metadata=operator.metadata)
    assert list(changed.group.members) == [BOB]
    client.send("M2", 1, created.group.address)
    assert (await client.expect("reject")).reject.reason == wire.REJECT_REASON_NOT_A_MEMBER
    client.abort()


@pytest.mark.read_back("GetNetworkAccount")
async def test_an_account_shows_whether_it_is_connected(operator: Operator) -> None:
    async def connected() -> bool:
        asked = api.GetNetworkAccountRequest(phone=ALICE)
        found = await operator.stub.GetNetworkAccount(asked, metadata=operator.metadata)
        return found.account.connected

    async def gone() -> bool:
        return not await connected()

    client = await operator.client(ALICE)
    assert await connected()
    client.abort()
    await eventually(gone, what="the account disconnected")


async def test_somebody_answers_a_message_and_repeats_it(operator: Operator) -> None:
    client = await operator.client(ALICE)
    quoted = api.QuotedMessage(network_message_id="M1", text="how are you?")
    await operator.inject(phone=ALICE, sender=SOMEBODY, text="well", quoted=quoted)
    content = wire.Content.FromString((await client.expect("inbound")).inbound.content)
    assert content.text == "well"
    assert (content.context.reply_to, content.context.reply_to_sender) == ("M1", f"phone:{ALICE}")
    assert wire.Content.FromString(content.context.quoted).text == "how are you?"
    client.abort()


async def test_the_accounts_own_phone_writes_to_somebody(operator: Operator) -> None:
    client = await operator.client(ALICE)
    await operator.inject(phone=ALICE, from_own_device=True, chat=SOMEBODY, text="from my phone")
    inbound = (await client.expect("inbound")).inbound
    assert (inbound.from_me, inbound.sender, inbound.chat) == (True, f"phone:{ALICE}", SOMEBODY)
    assert inbound.identity.phone == SOMEBODY.removeprefix("phone:")
    client.abort()


@pytest.mark.read_back("SetNetwork")
async def test_somebody_with_a_hidden_number_writes(operator: Operator) -> None:
    client = await operator.client(ALICE)
    network = api.SetNetworkRequest(hidden_phones=[BOB], usernames={BOB: "bob.b"})
    await operator.stub.SetNetwork(network, metadata=operator.metadata)
    await operator.inject(phone=ALICE, sender="username:bob.b", text="guess who")
    inbound = (await client.expect("inbound")).inbound
    assert inbound.identity == wire.Identity(hidden_id=inbound.identity.hidden_id, username="bob.b")
    assert inbound.sender == inbound.chat == f"hidden:{inbound.identity.hidden_id}"
    client.abort()


@pytest.mark.parametrize(
    ("field", "injected"),
    [
        ("sender", {"text": "x"}),
        ("sender", {"text": "x", "sender": "group:1"}),
        ("sender", {"text": "x", "sender": "hidden:1"}),
        ("sender", {"text": "x", "sender": SOMEBODY, "from_own_device": True}),
        ("chat", {"text": "x", "from_own_device": True}),
        ("chat", {"text": "x", "sender": SOMEBODY, "chat": SOMEBODY}),
        ("content", {"sender": SOMEBODY}),
        ("encoded", {"sender": SOMEBODY, "encoded": b"\xff"}),
        ("network_message_id", {"text": "x", "sender": SOMEBODY, "network_message_id": "a\0b"}),
        ("quoted.network_message_id", {"text": "x", "sender": SOMEBODY, "quoted": api.QuotedMessage()}),
        (
            "quoted.sender",
            {
                "text": "x",
                "sender": SOMEBODY,
                "quoted": api.QuotedMessage(network_message_id="M1", sender="4915112345678"),
            },
        ),
    ],
)
async def test_a_message_that_nobody_can_have_written_is_refused(
    operator: Operator, field: str, injected: dict[str, Any]
) -> None:
    await operator.paired(ALICE)
    with pytest.raises(grpc.aio.AioRpcError, match=f"{field}: ") as refused:
        await operator.inject(phone=ALICE, **injected)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("field", "behaviour"),
    [
        ("behaviour.read_after", api.NetworkBehaviour(read_after=Duration(seconds=-1))),
        ("behaviour.refusals[0].reason", api.NetworkBehaviour(refusals=[api.NetworkRefusal()])),
        (
            "behaviour.refusals[0].recipient",
            api.NetworkBehaviour(
                refusals=[api.NetworkRefusal(recipient="bob", reason=wire.REJECT_REASON_BLOCKED)]
            ),
        ),
        (
            "behaviour.restrictions[0].until_us",
            api.NetworkBehaviour(restrictions=[wire.Restriction(until_us=2**64 - 1)]),
        ),
    ],
)
async def test_a_behaviour_that_cannot_be_is_refused(
    operator: Operator, field: str, behaviour: api.NetworkBehaviour
) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match=re.escape(f"{field}: ")) as refused:
        await operator.stub.SetBehaviour(
            api.SetBehaviourRequest(behaviour=behaviour), metadata=operator.metadata
        )
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.read_back("SetBehaviour")
async def test_behaviour_is_set_for_one_account_or_for_all(operator: Operator) -> None:
    alice, bob = await operator.client(ALICE), await operator.client(BOB)
    own = api.NetworkBehaviour(delivered_after=Duration(), read_after=Duration())
    await operator.stub.SetBehaviour(
        api.SetBehaviourRequest(phone=ALICE, behaviour=own), metadata=operator.metadata
    )
    everybody = api.NetworkBehaviour(messages_per_minute=1)
    await operator.stub.SetBehaviour(api.SetBehaviourRequest(behaviour=everybody), metadata=operator.metadata)
    alice.send("M1", 0, SOMEBODY)
    await alice.expect_where(lambda frame: frame.receipt.kind == wire.RECEIPT_KIND_READ)
    bob.send("M1", 0, SOMEBODY)
    bob.send("M2", 1, SOMEBODY)
    assert (await bob.expect("reject")).reject.reason == wire.REJECT_REASON_RATE_LIMITED
    alice.abort()
    bob.abort()


@pytest.mark.read_back("InjectFault", "ClearFaults")
async def test_a_fault_begins_and_ends(operator: Operator) -> None:
    client = await operator.client(ALICE)
    fault = await operator.stub.InjectFault(
        api.InjectFaultRequest(kind=api.FAULT_KIND_LOSE_ACKS), metadata=operator.metadata
    )
    client.send("M1", 0, SOMEBODY)
    await client.expect("receipt")
    assert not client.unread("ack")
    cleared = await operator.stub.ClearFaults(
        api.ClearFaultsRequest(fault_id=fault.fault_id), metadata=operator.metadata
    )
    assert cleared.cleared == 1
    client.send("M1", 1, SOMEBODY)
    assert (await client.expect("ack")).ack.duplicate
    client.abort()


async def test_a_fault_without_its_measure_is_refused(operator: Operator) -> None:
    for kind in (api.FAULT_KIND_UNSPECIFIED, api.FAULT_KIND_SLOW, api.FAULT_KIND_BANDWIDTH):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await operator.stub.InjectFault(api.InjectFaultRequest(kind=kind), metadata=operator.metadata)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_what_only_the_protocol_of_whatsapp_has_is_unsupported(operator: Operator) -> None:
    for method, request in (
        ("InjectFault", api.InjectFaultRequest(kind=api.FAULT_KIND_GARBAGE)),
        ("SetNetwork", api.SetNetworkRequest(passkey_phones=[ALICE])),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await getattr(operator.stub, method)(request, metadata=operator.metadata)
        assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION


def record_of(message: api.LedgerRecord) -> Record:
    """A record that `ExportLedger` sent, as the checker takes it."""
    return Record(
        Kind(message.kind),
        message.time.ToMicroseconds(),
        message.connection,
        message.account,
        message.counter,
        message.code,
        message.digest,
        message.id,
        message.peer,
    )


@pytest.mark.read_back("ExportLedger", "GetVerdict")
async def test_the_exported_ledger_judges_as_the_network_does(operator: Operator) -> None:
    client = await operator.client(ALICE)
    client.send("M1", 0, SOMEBODY)
    client.send("M2", 0, SOMEBODY)
    await client.expect("receipt")
    records = [
        record_of(record)
        async for export in operator.stub.ExportLedger(api.ExportLedgerRequest(), metadata=operator.metadata)
        for record in export.records
    ]
    judged, answered = check(records), await operator.verdict()
    assert (judged.sent, judged.delivered, judged.ratchet_reuse) == (1, 1, 1)
    assert (answered.sent, answered.delivered, answered.ratchet_reuse, answered.clean) == (1, 1, 1, False)
    client.abort()


async def test_the_verdict_knows_what_callers_were_promised(operator: Operator) -> None:
    call = api.CallerRecord(request_id="r1", network_message_id="M9", acknowledge_time=Timestamp(seconds=1))
    assert (await operator.verdict(call)).lost == 1


@pytest.mark.read_back("GetNetworkStats")
async def test_stats_count_what_happened(operator: Operator) -> None:
    client = await operator.client(ALICE)
    client.send("M1", 0, SOMEBODY)
    await client.expect("receipt")
    stats = await operator.stub.GetNetworkStats(api.GetNetworkStatsRequest(), metadata=operator.metadata)
    assert (stats.accounts, stats.connected, stats.accepted, stats.acked, stats.receipts) == (1, 1, 1, 1, 1)
    assert stats.address == operator.network
    client.abort()


@asynccontextmanager
async def process(state: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """A simulator of its own that accepts pairings, and the address of its network."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "mesh_simulator",
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(sys.path),
            "MESH_SIMULATOR_LISTEN": "127.0.0.1:0",
            "MESH_SIMULATOR_STATE": str(state),
            "MESH_SIMULATOR_ACCEPT_AFTER_SECONDS": "0",
            "MESH_TELEMETRY_LOG_FORMAT": "json",
        },
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    try:
        async for line in process.stderr:
            event = json.loads(line)
            if event["event"] == "simulated network ready":
                break
        yield process, event["network"]
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_the_process_ends_well_on_a_signal(tmp_path: Path) -> None:
    async with process(tmp_path) as (simulator, address):
        client = await SimulatedClient.open(address)
        simulator.send_signal(signal.SIGTERM)
        assert (await client.expect("closing")).closing.reason == wire.CLOSING_REASON_SHUTDOWN
        client.abort()
        assert await simulator.wait() == 0


async def test_a_killed_process_forgets_nothing_that_it_told(tmp_path: Path) -> None:
    async with process(tmp_path) as (simulator, address):
        client = await SimulatedClient.open(address)
        client.write(wire.Frame(pair_start=wire.PairStart(method=wire.PAIR_METHOD_QR, phone=ALICE)))
        paired = (await client.expect("paired")).paired
        await client.log_in(paired)
        client.send("M1", 5, SOMEBODY)
        await client.expect("ack")
        simulator.kill()
        await client.closed.wait()
        client.abort()
    async with process(tmp_path) as (_, address):
        client = await SimulatedClient.open(address)
        await client.log_in(paired)
        assert (await client.expect("receipt")).receipt.id == "M1"
        client.send("M1", 5, SOMEBODY)
        assert (await client.expect("reject")).reject.reason == wire.REJECT_REASON_RATCHET_REUSED
        client.send("M1", 6, SOMEBODY)
        assert (await client.expect("ack")).ack.duplicate
        client.abort()
