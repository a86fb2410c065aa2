"""Accounts that move from node to node, and connections that fall silent; each test has nodes of its own."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from mesh_simulator.accounts.account import Behaviour
from mesh_simulator.faults.faults import FaultKind
from mesh_simulator.ledger.records import Kind
from sessionmesh.simnet.v1 import wire_pb2 as wire
from sessionmesh.v1 import chat_pb2, chat_pb2_grpc, event_pb2, message_pb2
from sessionmesh.v1 import session_pb2 as pb
from tests.support.eventually import eventually
from tests.support.node_owners import owner_of
from tests.support.session_node_stage import RECIPIENT, Account, NodeProcess, Stage, open_stage, text_request

pytestmark = pytest.mark.slow
ADA = f"phone:{RECIPIENT}"


@pytest.fixture
async def stage(postgres_url: str, etcd: str, tmp_path: Path) -> AsyncIterator[Stage]:
    async with open_stage(postgres_url, etcd, tmp_path) as opened:
        yield opened


async def test_a_session_that_hears_nothing_is_not_connected(stage: Stage) -> None:
    node = await stage.start_node(MESH_SESSION_KEEPALIVE_SECONDS="1")
    account = await stage.paired(node)

    stalled = stage.inject(FaultKind.STALL, account)

    session = await stage.until_state(node, account, pb.SESSION_STATE_BACKOFF)
    assert session.cause == pb.SESSION_CAUSE_KEEPALIVE_TIMED_OUT
    stage.network.faults.clear(stalled)


@pytest.mark.parametrize("way", ["drained", "killed"])
async def test_another_node_takes_accounts_over_with_their_unsent_messages(stage: Stage, way: str) -> None:
    nodes = [await stage.start_node(), await stage.start_node()]
    account = await stage.create_account()
    owner = await owner_of(stage, nodes, account.id)
    await stage.pair(owner, account)
    await stage.until_state(owner, account, pb.SESSION_STATE_CONNECTED)
    other = nodes[1 - nodes.index(owner)]
    losing = stage.inject(FaultKind.LOSE_ACKS, account)
    message = await stage.send(owner, account, "in between")
    await eventually(lambda: stage.records(Kind.ACCEPTED, account))
    stage.network.faults.clear(losing)
    tomorrow = text_request(account)
    tomorrow.schedule_time.FromSeconds(int(time.time()) + 86_400)
    scheduled = (await owner.messages.SendMessage(tomorrow, metadata=stage.metadata)).message

    if way == "drained":
        assert await owner.stop() == 0
    else:
        await owner.kill()

    await stage.until_status(other, account, message.id, message_pb2.MESSAGE_STATUS_DELIVERED)
    after = await stage.send(other, account, "afterwards")
    await stage.until_status(other, account, after.id, message_pb2.MESSAGE_STATUS_DELIVERED)
    session = await stage.until_state(other, account, pb.SESSION_STATE_CONNECTED)
    assert session.epoch > 1
    cancel = message_pb2.CancelMessageRequest(account_id=account.id, message_id=scheduled.id)
    cancelled = (await other.messages.CancelMessage(cancel, metadata=stage.metadata)).message
    assert cancelled.status == message_pb2.MESSAGE_STATUS_CANCELLED
    verdict = stage.verdict()
    assert verdict.clean, verdict
    moved = [
        event_pb2.Event.FromString(body).session.session.cause
        for type_, body in await stage.events(account)
        if type_ == "session.state_changed"
    ]
    assert pb.SESSION_CAUSE_MOVED in moved


async def test_what_is_known_of_a_session_goes_with_it(stage: Stage) -> None:
    nodes = [await stage.start_node(), await stage.start_node()]
    account = await stage.create_account()
    owner = await owner_of(stage, nodes, account.id)
    await stage.pair(owner, account)
    await stage.until_state(owner, account, pb.SESSION_STATE_CONNECTED)
    restriction = wire.Restriction(kind=wire.RESTRICTION_KIND_GROUPS, message="for a while")
    stage.on_network(account).behave_as(Behaviour(restrictions=(restriction,)))
    stage.receive(account, wire.Content(text="hello"))

    async def known() -> pb.Session | None:
        session = await stage.session(owner, account)
        return session if session.HasField("last_inbound_time") and session.restrictions else None

    before = await eventually(known)
    assert await owner.stop() == 0
    other = nodes[1 - nodes.index(owner)]
    after = await stage.until_state(other, account, pb.SESSION_STATE_CONNECTED)

    assert after.epoch > before.epoch
    assert after.self == before.self
    assert after.restrictions == before.restrictions
    assert after.last_inbound_time == before.last_inbound_time
    assert after.counters.received == before.counters.received == 1


async def test_a_node_answers_for_the_accounts_of_another_one(stage: Stage) -> None:
    nodes = [await stage.start_node(), await stage.start_node()]
    account = await stage.create_account()
    owner = await owner_of(stage, nodes, account.id)
    other = nodes[1 - nodes.index(owner)]
    await stage.pair(owner, account)
    await stage.until_state(other, account, pb.SESSION_STATE_CONNECTED)

    message = await stage.send(other, account, "by way of another node")
    await stage.until_status(owner, account, message.id, message_pb2.MESSAGE_STATUS_DELIVERED)

    forged = (*stage.metadata, ("x-google-rls-data", "epoch=999999"), ("x-mesh-hop", "1"))
    for node in nodes:
        request = pb.GetSessionRequest(account_id=account.id)
        answer = await node.sessions.GetSession(request, metadata=forged, timeout=5)
        assert answer.session.account_id == account.id


async def test_what_comes_to_a_node_whose_clock_is_behind_counts_as_unread(stage: Stage) -> None:
    first = await stage.start_node()
    account = await stage.paired(first)
    await stage.database.execute(  # by an owner whose clock was ahead
        "INSERT INTO message (id, account, epoch, direction, origin, status, chat, content, network_time)"
        " VALUES (uuid_at(now() + interval '2 minutes'), $1, 1, 2, 0, 0, $2, '', now() - interval '1 hour')",
        account.uuid,
        ADA,
    )
    assert (await chat_with(stage, first, account)).unread_count == 1
    assert await first.stop() == 0
    second = await stage.start_node()
    await stage.until_state(second, account, pb.SESSION_STATE_CONNECTED)

    network_id = stage.receive(account, wire.Content(text="hello"))

    async def came() -> bool:
        found = "SELECT true FROM message WHERE account = $1 AND network_id = $2"
        return bool(await stage.database.fetchval(found, account.uuid, network_id))

    await eventually(came)
    assert (await chat_with(stage, second, account)).unread_count == 2


async def test_a_change_of_a_chat_whose_node_was_killed_is_stored_when_it_is_asked_for_again(
    stage: Stage,
) -> None:
    first = await stage.start_node()
    account = await stage.paired(first)
    stage.receive(account, wire.Content(text="hello"))
    await eventually(lambda: chat_with(stage, first, account))
    update = chat_pb2.UpdateChatRequest(account_id=account.id)
    update.chat.address, update.chat.pinned = ADA, True
    update.update_mask.paths.append("pinned")
    stub = chat_pb2_grpc.ChatServiceStub(first.channel)
    async with stage.database.acquire() as connection, connection.transaction():
        await connection.execute("LOCK TABLE node_journal IN SHARE MODE")  # nothing is stored
        call = stub.UpdateChat(update, metadata=stage.metadata, timeout=20)
        await eventually(lambda: f"pin/{ADA}" in (stage.on_network(account).app_state or {}))
        await first.kill()
    call.cancel()
    second = await stage.start_node()
    await stage.until_state(second, account, pb.SESSION_STATE_CONNECTED)

    again = await stage.owned(
        lambda: chat_pb2_grpc.ChatServiceStub(second.channel).UpdateChat(update, metadata=stage.metadata)
    )
    assert again.chat.pinned
    assert (await chat_with(stage, second, account)).pinned


async def chat_with(stage: Stage, node: NodeProcess, account: Account) -> Any:
    request = chat_pb2.ListChatsRequest(account_id=account.id)
    stub = chat_pb2_grpc.ChatServiceStub(node.channel)
    found = (await stage.owned(lambda: stub.ListChats(request, metadata=stage.metadata, timeout=20))).chats
    return found[0] if found else None
