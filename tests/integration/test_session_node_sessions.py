"""Sessions of real nodes: pairing, connecting, losing the connection, moving to another node."""

from __future__ import annotations

import importlib
import json
import pkgutil
import secrets
from collections.abc import Iterator
from typing import Any

import grpc.aio
import pytest
import pytest_asyncio

import sessionmesh.v1
from mesh_core.rpc.auth import new_api_key
from mesh_core.rpc.server.status import from_rpc_error
from mesh_simulator.accounts.account import Behaviour
from mesh_simulator.faults.faults import FaultKind
from mesh_simulator.ledger.records import Kind
from sessionmesh.simnet.v1 import wire_pb2 as wire
from sessionmesh.v1 import event_pb2, message_pb2
from sessionmesh.v1 import session_pb2 as pb
from tests.support.eventually import eventually
from tests.support.session_node_stage import (
    Account,
    NodeProcess,
    Stage,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

NO_NEW_CHATS = wire.Restriction(kind=wire.RESTRICTION_KIND_NEW_CHATS, remaining=3)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def node(stage: Stage) -> NodeProcess:
    return await stage.start_node(MESH_SESSION_KEEPALIVE_SECONDS="3")


@pytest.mark.slow
@pytest.mark.read_back("Pair")
async def test_pairing_by_qr_shows_a_picture_then_connects(stage: Stage, node: NodeProcess) -> None:
    account = await stage.create_account()

    steps = await stage.pair(node, account)

    assert [step.WhichOneof("step") for step in steps] == ["qr", "paired"]
    assert steps[0].qr.png.startswith(b"\x89PNG")
    assert steps[0].qr.terminal
    assert len({step.attempt_id for step in steps}) == 1
    session = await stage.until_state(node, account, pb.SESSION_STATE_CONNECTED)
    assert (session.self.address, session.self.phone) == (f"phone:{account.phone}", account.phone)
    on_network = stage.on_network(account)
    assert (session.self.user_id, session.self.hidden_id) == (on_network.user_id, on_network.hidden_id)
    assert session.paired
    types = [type_ for type_, _ in await stage.events(account)]
    assert types[:2] == ["session.state_changed", "session.pairing"]


async def test_a_paired_account_cannot_be_paired_again(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)

    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stage.pair(node, account)

    assert from_rpc_error(refused.value).reason == "ALREADY_PAIRED"


async def test_pairing_by_code_shows_eight_letters(stage: Stage, node: NodeProcess) -> None:
    account = await stage.create_account()
    await stage.until_state(node, account, pb.SESSION_STATE_NEW)

    request = pb.PairRequest(
        account_id=account.id,
        request_id=secrets.token_hex(8),
        method=pb.PAIR_METHOD_CODE,
        phone=account.phone,
    )
    steps = []
    async for step in node.sessions.Pair(request, metadata=stage.metadata):
        steps.append(step.WhichOneof("step"))
        if step.HasField("code"):
            stage.network.pairing.accept(step.code.code, account.phone)
            stage.network.flush()

    assert steps == ["code", "paired"]


@pytest.mark.slow
async def test_a_pairing_that_nobody_accepts_times_out_and_may_be_watched_by_two(
    stage: Stage, node: NodeProcess
) -> None:
    account = await stage.create_account()
    await stage.until_state(node, account, pb.SESSION_STATE_NEW)
    request = pb.PairRequest(account_id=account.id, request_id=secrets.token_hex(8))
    request.timeout.seconds = 2

    first = node.sessions.Pair(request, metadata=stage.metadata)
    begun = await first.read()
    second = node.sessions.Pair(request, metadata=stage.metadata)
    seen = await second.read()

    assert seen.attempt_id == begun.attempt_id
    last = await second.read()
    assert last.WhichOneof("step") == "timed_out"
    await stage.until_state(node, account, pb.SESSION_STATE_NEW)


@pytest.mark.read_back("ListDisconnects")
async def test_a_lost_connection_is_made_again_and_recorded(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)

    stage.inject(FaultKind.DROP_CONNECTION, account)

    await eventually(lambda: len(stage.records(Kind.LOGIN, account)) == 2)
    await stage.until_state(node, account, pb.SESSION_STATE_CONNECTED)
    listing = pb.ListDisconnectsRequest(account_id=account.id)
    ends = (await node.sessions.ListDisconnects(listing, metadata=stage.metadata)).disconnects
    assert [end.cause for end in ends] == [pb.SESSION_CAUSE_CONNECTION_LOST]


async def test_a_banned_account_fails_what_waits(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)
    stage.inject(FaultKind.LOSE_ACKS, account)
    message = await stage.send(node, account)

    stage.inject(FaultKind.BAN, account)

    await stage.until_state(node, account, pb.SESSION_STATE_BANNED)
    failed = await stage.until_status(node, account, message.id, message_pb2.MESSAGE_STATUS_FAILED)
    assert failed.failure == message_pb2.FAILURE_REASON_ACCOUNT_CLOSED
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stage.send(node, account)
    assert from_rpc_error(refused.value).reason == "NOT_PAIRED"


@pytest.mark.read_back("Logout")
async def test_logging_out_ends_the_pairing_on_the_network(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)

    request = pb.LogoutRequest(account_id=account.id, request_id=secrets.token_hex(8))
    await node.sessions.Logout(request, metadata=stage.metadata)

    session = await stage.until_state(node, account, pb.SESSION_STATE_LOGGED_OUT)
    assert not session.paired
    await eventually(lambda: stage.records(Kind.LOGGED_OUT, account))


@pytest.mark.read_back("WatchSession")
async def test_a_watcher_sees_every_change_of_state(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)
    watching = node.sessions.WatchSession(
        pb.WatchSessionRequest(account_id=account.id), metadata=stage.metadata
    )
    first = await watching.read()

    request = pb.DisconnectRequest(account_id=account.id)
    await node.sessions.Disconnect(request, metadata=stage.metadata)
    second = await watching.read()

    assert [first.session.state, second.session.state] == [
        pb.SESSION_STATE_CONNECTED,
        pb.SESSION_STATE_PAUSED,
    ]


@pytest.mark.read_back("ListSessions")
async def test_sessions_are_listed_with_counts_by_any_node(stage: Stage, node: NodeProcess) -> None:
    connected, unpaired = await stage.paired(node), await stage.create_account()

    async def listed() -> dict[str, int] | None:
        answer = await node.sessions.ListSessions(
            pb.ListSessionsRequest(page_size=1000), metadata=stage.metadata
        )
        states = {session.account_id: session.state for session in answer.sessions}
        counts = {count.state: count.count for count in answer.counts}
        assert sum(counts.values()) == len(states)
        return states if states[connected.id] == pb.SESSION_STATE_CONNECTED else None

    states = await eventually(listed)
    assert states[unpaired.id] == pb.SESSION_STATE_NEW


async def test_a_key_of_some_accounts_lists_and_counts_these_only(stage: Stage, node: NodeProcess) -> None:
    mine, other = await stage.create_account(), await stage.create_account()
    key_id, key, digest = new_api_key()
    await stage.database.execute(
        "INSERT INTO api_key (id, tenant, hash, scopes, role, account_ids) VALUES ($1, $2, $3, $4, 1, $5)",
        key_id,
        stage.tenant,
        digest,
        ["READ"],
        [mine.uuid],
    )
    limited = (("authorization", f"Bearer {key}"),)

    answer = await node.sessions.ListSessions(pb.ListSessionsRequest(), metadata=limited)

    assert [session.account_id for session in answer.sessions] == [mine.id]
    assert [(count.state, count.count) for count in answer.counts] == [(pb.SESSION_STATE_NEW, 1)]
    request = pb.GetSessionRequest(account_id=other.id)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await node.sessions.GetSession(request, metadata=limited)
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.read_back("GetSession")
async def test_a_listed_session_is_the_one_that_its_owner_shows(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)
    stage.on_network(account).behave_as(Behaviour(restrictions=(NO_NEW_CHATS,)))
    stage.receive(account, wire.Content(text="hello"))

    async def listed() -> pb.Session | None:
        answer = await node.sessions.ListSessions(
            pb.ListSessionsRequest(page_size=1000), metadata=stage.metadata
        )
        [session] = [session for session in answer.sessions if session.account_id == account.id]
        return session if session.HasField("last_inbound_time") and session.restrictions else None

    stored, shown = await eventually(listed), await stage.session(node, account)
    for field in ("self", "restrictions", "last_inbound_time", "state", "node_id", "epoch"):
        assert getattr(stored, field) == getattr(shown, field)
    assert stored.self.hidden_id == stage.on_network(account).hidden_id
    [restriction] = stored.restrictions
    assert (restriction.kind, restriction.remaining) == (pb.RESTRICTION_KIND_NEW_CHATS, 3)


async def test_restrictions_of_the_network_are_an_event(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)
    stage.on_network(account).behave_as(Behaviour(restrictions=(NO_NEW_CHATS,)))
    stage.network.flush()

    async def told() -> list[event_pb2.Event]:
        events = [event_pb2.Event.FromString(body) for _, body in await stage.events(account)]
        return [event for event in events if event.type == "session.restrictions_changed"]

    [event] = await eventually(told)
    assert event.session.session.restrictions == (await stage.session(node, account)).restrictions


@pytest.mark.read_back("Connect", "Disconnect")
async def test_connecting_and_disconnecting_twice_is_as_good_as_once(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)
    disconnect, connect = (
        pb.DisconnectRequest(account_id=account.id),
        pb.ConnectRequest(account_id=account.id),
    )
    for _ in range(2):
        answer = await node.sessions.Disconnect(disconnect, metadata=stage.metadata)
        assert answer.session.state == pb.SESSION_STATE_PAUSED
    for _ in range(2):
        await node.sessions.Connect(connect, metadata=stage.metadata)
    await stage.until_state(node, account, pb.SESSION_STATE_CONNECTED)
    assert len(stage.records(Kind.LOGIN, account)) == 2


async def test_a_repeated_logout_does_not_end_a_pairing_made_since(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)
    request = pb.LogoutRequest(account_id=account.id, request_id=secrets.token_hex(8))
    await node.sessions.Logout(request, metadata=stage.metadata)
    await stage.pair(node, account)
    await stage.until_state(node, account, pb.SESSION_STATE_CONNECTED)

    answer = await node.sessions.Logout(request, metadata=stage.metadata)

    assert answer.session.paired


async def test_nothing_goes_out_of_an_account_with_a_limit_of_zero(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)
    await limit(stage, node, account, per_hour=0)
    message = await stage.send(node, account)
    assert message.status == message_pb2.MESSAGE_STATUS_QUEUED

    await limit(stage, node, account)

    await stage.until_status(node, account, message.id, message_pb2.MESSAGE_STATUS_DELIVERED)


async def limit(stage: Stage, node: NodeProcess, account: Account, **limits: int) -> None:
    """Give the account these limits of its own, and no others."""
    await stage.database.execute(
        "UPDATE account SET settings = $2, version = version + 1 WHERE id = $1",
        account.uuid,
        json.dumps({"send_limits": limits}),
    )
    await stage.refresh(node, account)


async def test_what_is_not_served_of_accounts_says_so(stage: Stage, node: NodeProcess) -> None:
    account = await stage.create_account()
    request = pb.GetSessionRequest(account_id=account.id).SerializeToString()
    channel: Any = node.channel
    answers = {}
    for path in unserved():
        call = channel.unary_stream(path)(request, metadata=stage.metadata, timeout=10)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call.read()
        answers[path] = refused.value.code(), from_rpc_error(refused.value).reason
    assert set(answers.values()) == {(grpc.StatusCode.UNIMPLEMENTED, "NOT_SERVED")}, answers


SERVED = (
    "CallService",
    "ChannelService",
    "ChatService",
    "CommunityService",
    "ContactService",
    "GroupService",
    "MessageService",
    "PresenceService",
    "ProfileService",
    "SessionService",
)
"""Services of which a session-node has methods."""


def unserved() -> Iterator[str]:
    """The methods of services that are only about accounts, without those that a session-node has."""
    names = [module.name for module in pkgutil.iter_modules(sessionmesh.v1.__path__)]
    for name in filter(lambda name: name.endswith("_pb2"), names):
        services = importlib.import_module(f"sessionmesh.v1.{name}").DESCRIPTOR.services_by_name
        for service in services.values():
            about_accounts = all(
                "account_id" in method.input_type.fields_by_name for method in service.methods
            )
            if about_accounts and service.name not in SERVED:
                yield from (f"/{service.full_name}/{method.name}" for method in service.methods)


async def test_a_session_follows_its_accounts_desired_state(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)

    await stage.database.execute("UPDATE account SET desired_state = 2 WHERE id = $1", account.uuid)
    await stage.refresh(node, account)
    assert (await stage.session(node, account)).state == pb.SESSION_STATE_PAUSED

    await stage.database.execute("UPDATE account SET desired_state = 1 WHERE id = $1", account.uuid)
    await stage.refresh(node, account)
    await stage.until_state(node, account, pb.SESSION_STATE_CONNECTED)


async def test_a_session_that_was_disconnected_stays_so_when_its_account_is_refreshed(
    stage: Stage, node: NodeProcess
) -> None:
    account = await stage.paired(node)
    request = pb.DisconnectRequest(account_id=account.id)
    await node.sessions.Disconnect(request, metadata=stage.metadata)

    await stage.refresh(node, account)

    assert (await stage.session(node, account)).state == pb.SESSION_STATE_PAUSED


async def test_a_deleted_account_leaves_the_network_and_takes_no_calls(
    stage: Stage, node: NodeProcess
) -> None:
    account = await stage.paired(node)

    await stage.database.execute("UPDATE account SET delete_time = now() WHERE id = $1", account.uuid)
    await stage.refresh(node, account)

    await eventually(lambda: stage.records(Kind.CLOSED, account))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stage.session(node, account)
    assert from_rpc_error(refused.value).reason == "RESOURCE_DELETED"
