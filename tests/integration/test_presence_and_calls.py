"""Who is online and who calls, through a real node on the simulated network."""

from __future__ import annotations

from typing import Any

import grpc.aio
import pytest
import pytest_asyncio
from google.protobuf.field_mask_pb2 import FieldMask

from mesh_core.rpc.server.status import from_rpc_error
from mesh_simulator.faults.faults import FaultKind
from mesh_simulator.ledger.records import Kind
from mesh_simulator.messages.presence import Online
from sessionmesh.simnet.v1 import wire_pb2 as wire
from sessionmesh.v1 import call_pb2, call_pb2_grpc, presence_pb2, presence_pb2_grpc, session_pb2
from tests.support.eventually import eventually
from tests.support.message_acts import received
from tests.support.session_node_stage import Account, NodeProcess, Stage

pytestmark = pytest.mark.asyncio(loop_scope="module")

ADA, NOBODY = "+4915112345701", "+4915112345703"
ADDRESS = f"phone:{ADA}"
SEEN = 1_700_000_000_000_000


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def node(stage: Stage) -> NodeProcess:
    stage.network.directory.unregistered.add(NOBODY)
    return await stage.start_node()


async def ask(stage: Stage, node: NodeProcess, account: Account, method: str, **fields: Any) -> Any:
    calls = method == "RejectCall"
    stub: Any = (
        call_pb2_grpc.CallServiceStub(node.channel)
        if calls
        else presence_pb2_grpc.PresenceServiceStub(node.channel)
    )
    request = getattr(call_pb2 if calls else presence_pb2, f"{method}Request")(
        account_id=account.id, **fields
    )
    return await getattr(stub, method)(request, metadata=stage.metadata, timeout=20)


async def refused(stage: Stage, node: NodeProcess, account: Account, method: str, **fields: Any) -> list[str]:
    """Code, reason and, where there is one, field of the error that a call is answered with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ask(stage, node, account, method, **fields)
    error = from_rpc_error(caught.value)
    named = [caught.value.code().name, error.reason, getattr(error, "field", "")]
    return [part for part in named if part]


def show(stage: Stage, *, online: bool, last_seen: int = 0) -> None:
    stage.network.presences.show(ADA, Online(online, last_seen))
    stage.network.flush()


def shows_online(stage: Stage, account: Account) -> bool:
    return stage.network.presences.online(stage.network.directory.by_phone[account.phone])


def place_call(stage: Stage, account: Account) -> str:
    calls, directory = stage.network.calls, stage.network.directory
    call_id = calls.place(directory.by_phone[account.phone], ADDRESS, "", video=True)
    stage.network.flush()
    return call_id


# --- presence


@pytest.mark.read_back("SetPresence")
async def test_an_account_shows_as_online_until_its_connection_ends(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)
    assert not shows_online(stage, account)
    await ask(stage, node, account, "SetPresence", state=presence_pb2.PRESENCE_STATE_AVAILABLE)
    assert shows_online(stage, account)
    await ask(stage, node, account, "SetPresence", state=presence_pb2.PRESENCE_STATE_UNAVAILABLE)
    assert not shows_online(stage, account)


@pytest.mark.read_back("WatchPresence")
async def test_whoever_is_watched_is_told_as_they_come_and_go(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)
    show(stage, online=False, last_seen=SEEN)

    watched = await ask(stage, node, account, "WatchPresence", address=ADA)

    assert watched.presence.person.address == ADDRESS
    assert watched.presence.state == presence_pb2.PRESENCE_STATE_UNAVAILABLE
    assert watched.presence.last_seen_time.ToMicroseconds() == SEEN
    assert 0 < watched.watch_for.seconds <= 900
    show(stage, online=True)
    event = await received(
        stage,
        account,
        "presence.updated",
        lambda told: told.presence.presence.state == presence_pb2.PRESENCE_STATE_AVAILABLE,
    )
    assert event.presence.presence.person.phone == ADA


async def test_who_cannot_be_watched_says_why(stage: Stage, node: NodeProcess) -> None:
    account, foreign = await stage.paired(node), await stage.of_another_tenant()
    unpaired = await stage.create_account()

    async def said(about: Account, address: str) -> list[str]:
        return await refused(stage, node, about, "WatchPresence", address=address)

    invalid = ["INVALID_ARGUMENT", "INVALID_FIELD", "address"]
    assert await said(account, "") == invalid
    assert await said(account, "group:1") == invalid
    assert await said(account, NOBODY) == ["FAILED_PRECONDITION", "UNKNOWN_PERSON"]
    assert await said(unpaired, ADA) == ["FAILED_PRECONDITION", "NOT_PAIRED"]
    assert await said(foreign, ADA) == ["NOT_FOUND", "RESOURCE_NOT_FOUND"]
    invalid[-1] = "state"
    assert await refused(stage, node, account, "SetPresence") == invalid
    assert await refused(stage, node, account, "SetPresence", state=99) == invalid


# --- calls


@pytest.mark.read_back("RejectCall")
async def test_a_call_rings_until_it_is_rejected(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)
    network = stage.network.directory.by_phone[account.phone]
    call_id = place_call(stage, account)
    offered = (await received(stage, account, "call.offered")).call
    assert (offered.call_id, offered.caller.address, offered.video) == (call_id, ADDRESS, True)
    assert stage.network.calls.ringing(network) == 1

    for _ in range(2):
        await ask(stage, node, account, "RejectCall", call_id=call_id, caller=offered.caller.address)

    assert stage.network.calls.ringing(network) == 0
    ended = (await received(stage, account, "call.ended")).call
    assert ended.end_cause == call_pb2.CALL_END_CAUSE_REJECTED
    assert ended.start_time == offered.start_time
    assert not ended.rejected_by_settings


async def test_a_call_that_came_while_nobody_was_connected_is_told_after_the_next_login(
    stage: Stage, node: NodeProcess
) -> None:
    account = await stage.paired(node)
    network = stage.network.directory.by_phone[account.phone]
    stage.network.faults.inject(FaultKind.DROP_CONNECTION, network, 0.0, None)
    call_id = place_call(stage, account)
    stage.network.calls.end(network, call_id, wire.CALL_END_MISSED)
    stage.network.flush()
    ended = (await received(stage, account, "call.ended")).call
    assert (ended.call_id, ended.end_cause) == (call_id, call_pb2.CALL_END_CAUSE_MISSED)
    await eventually(lambda: not network.notices)


async def test_calls_that_cannot_be_rejected_say_why(stage: Stage, node: NodeProcess) -> None:
    account, unpaired = await stage.paired(node), await stage.create_account()

    async def said(about: Account, **fields: str) -> list[str]:
        return await refused(stage, node, about, "RejectCall", **fields)

    invalid = ["INVALID_ARGUMENT", "INVALID_FIELD"]
    assert await said(account, caller=ADA) == [*invalid, "call_id"]
    assert await said(account, call_id="C" * 129, caller=ADA) == [*invalid, "call_id"]
    assert await said(account, call_id="C1") == [*invalid, "caller"]
    assert await said(account, call_id="C1", caller="group:1") == [*invalid, "caller"]
    assert await said(unpaired, call_id="C1", caller=ADA) == ["FAILED_PRECONDITION", "NOT_PAIRED"]


# --- by the session's settings


async def with_settings(stage: Stage, node: NodeProcess, **given: Any) -> Account:
    """An account that is connected, with these settings."""
    account = await stage.paired(node)
    request = session_pb2.UpdateSessionSettingsRequest(
        account_id=account.id,
        settings=session_pb2.SessionSettings(**given),
        update_mask=FieldMask(paths=[*given]),
    )
    await node.sessions.UpdateSessionSettings(request, metadata=stage.metadata, timeout=20)
    return account


async def test_an_account_whose_settings_say_so_shows_as_online_over_reconnects(
    stage: Stage, node: NodeProcess
) -> None:
    account = await with_settings(stage, node, show_online=True)
    await eventually(lambda: shows_online(stage, account))
    network = stage.network.directory.by_phone[account.phone]
    first = network.client
    stage.network.faults.inject(FaultKind.DROP_CONNECTION, network, 0.0, None)
    await eventually(lambda: network.client not in (None, first))
    await eventually(lambda: shows_online(stage, account))


async def test_calls_are_rejected_and_their_callers_written_to_where_the_settings_say_so(
    stage: Stage, node: NodeProcess
) -> None:
    account = await with_settings(stage, node, reject_calls=True, reject_calls_text="Write to me")
    first = place_call(stage, account)
    ended = (await received(stage, account, "call.ended")).call
    assert (ended.call_id, ended.end_cause, ended.rejected_by_settings) == (
        first,
        call_pb2.CALL_END_CAUSE_REJECTED,
        True,
    )
    await eventually(lambda: stage.records(Kind.ACCEPTED, account))
    second = place_call(stage, account)
    await received(stage, account, "call.ended", lambda told: told.call.call_id == second)
    await received(stage, account, "message.sent")
    (written,) = stage.records(Kind.ACCEPTED, account)
    assert written.peer == ADDRESS


async def test_what_comes_is_read_or_not_taken_as_the_settings_say(stage: Stage, node: NodeProcess) -> None:
    account = await with_settings(stage, node, auto_read=True, ignore_groups=True)
    network = stage.network.directory.by_phone[account.phone]
    group = stage.network.directory.create_group(
        "120363000000000001", "All", {account.phone: True, ADA: False}
    )
    content = wire.Content(text="hello").SerializeToString()
    for network_id, chat in (("IN1", f"group:{group.group_id}"), ("IN2", ADDRESS)):
        message = wire.Inbound(id=network_id, sender=ADDRESS, chat=chat, content=content)
        stage.network.inbound.offer(network, message)
    stage.network.flush()
    came = (await received(stage, account, "message.received")).message.message
    assert came.network_message_id == "IN2"
    await eventually(lambda: not network.inbound)
    await eventually(lambda: [one.id for one in stage.records(Kind.READ_REPORTED, account)] == ["IN2"])
