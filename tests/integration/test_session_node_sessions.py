"""Sessions of real nodes: pairing, connecting, losing the connection, moving to another node."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator

import grpc.aio
import pytest
import pytest_asyncio

from mesh_core.rpc.server.status import from_rpc_error
from mesh_simulator.faults.faults import FaultKind
from mesh_simulator.ledger.records import Kind
from sessionmesh.v1 import message_pb2
from sessionmesh.v1 import session_pb2 as pb
from tests.conftest import Databases, LoopThread
from tests.support.eventually import eventually
from tests.support.session_node_stage import (
    NodeProcess,
    Stage,
    fresh_database,
    open_stage,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def stage(
    databases: Databases, server_loop: LoopThread, etcd: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Stage]:
    """One network and one tenant for the whole module: tests make accounts of their own."""
    with fresh_database(databases, server_loop) as url:
        async with open_stage(url, etcd, tmp_path_factory.mktemp("nodes")) as opened:
            yield opened


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def node(stage: Stage) -> NodeProcess:
    return await stage.start_node()


async def test_pairing_by_qr_shows_a_picture_then_connects(stage: Stage, node: NodeProcess) -> None:
    account = await stage.create_account()

    steps = await stage.pair(node, account)

    assert [step.WhichOneof("step") for step in steps] == ["qr", "paired"]
    assert steps[0].qr.png.startswith(b"\x89PNG")
    assert steps[0].qr.terminal
    assert len({step.attempt_id for step in steps}) == 1
    session = await stage.until_state(node, account, pb.SESSION_STATE_CONNECTED)
    assert session.phone == account.phone
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


async def test_logging_out_ends_the_pairing_on_the_network(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)

    request = pb.LogoutRequest(account_id=account.id, request_id=secrets.token_hex(8))
    await node.sessions.Logout(request, metadata=stage.metadata)

    session = await stage.until_state(node, account, pb.SESSION_STATE_LOGGED_OUT)
    assert not session.paired
    await eventually(lambda: stage.records(Kind.LOGGED_OUT, account))


async def test_a_watcher_sees_every_change_of_state(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)
    watching = node.sessions.WatchSession(
        pb.WatchSessionRequest(account_id=account.id), metadata=stage.metadata
    )
    first = await watching.read()

    request = pb.DisconnectRequest(account_id=account.id, request_id=secrets.token_hex(8))
    await node.sessions.Disconnect(request, metadata=stage.metadata)
    second = await watching.read()

    assert [first.session.state, second.session.state] == [
        pb.SESSION_STATE_CONNECTED,
        pb.SESSION_STATE_PAUSED,
    ]


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
    request = pb.DisconnectRequest(account_id=account.id, request_id=secrets.token_hex(8))
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
