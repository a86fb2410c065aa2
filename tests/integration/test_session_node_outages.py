"""A real network that fails for everybody, or for one account: who is to blame, and who comes back when."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import pytest_asyncio

from mesh_simulator.faults.faults import FaultKind
from sessionmesh.v1 import event_pb2
from sessionmesh.v1 import session_pb2 as pb
from tests.support.eventually import eventually
from tests.support.relay import Relay, relay_to
from tests.support.session_node_stage import Account, NodeProcess, Stage

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def way(stage: Stage) -> AsyncIterator[Relay]:
    """The node's way to the network."""
    async with relay_to(stage.network.address) as relay:
        yield relay


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def node(stage: Stage, way: Relay) -> NodeProcess:
    """One that quarantines an account at its second failure."""
    return await stage.start_node(
        MESH_SIMNET_ADDRESS=way.url, MESH_SESSION_KEEPALIVE_SECONDS="3", MESH_SESSION_FAILURES_PER_HOUR="1"
    )


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def accounts(stage: Stage, node: NodeProcess) -> list[Account]:
    return [await stage.paired(node) for _ in range(3)]


async def refuse(stage: Stage, _way: Relay) -> Callable[[], Awaitable[None]]:
    fault = stage.inject(FaultKind.REFUSE_LOGINS)
    stage.inject(FaultKind.DROP_CONNECTION)

    async def end() -> None:
        stage.network.faults.clear(fault)

    return end


async def cut(_stage: Stage, way: Relay) -> Callable[[], Awaitable[None]]:
    await way.cut()
    return way.open


async def causes(stage: Stage, account: Account) -> list[tuple[int, int]]:
    """The states that the account's events told of, with their causes."""
    bodies = [body for type_, body in await stage.events(account) if type_ == "session.state_changed"]
    sessions = [event_pb2.Event.FromString(body).session.session for body in bodies]
    return [(session.state, session.cause) for session in sessions]


@pytest.mark.slow
@pytest.mark.parametrize("fail", [refuse, cut])
async def test_nobody_is_to_blame_for_a_network_that_fails_and_all_come_back(
    stage: Stage,
    node: NodeProcess,
    way: Relay,
    accounts: list[Account],
    fail: Callable[..., Awaitable[Callable[[], Awaitable[None]]]],
) -> None:
    before = {account.id: len(await causes(stage, account)) for account in accounts}
    mend = await fail(stage, way)

    async def failed_twice() -> bool:  # its connection was lost, and it could not log in again
        seen = [(await causes(stage, account))[before[account.id] :] for account in accounts]
        tries = [[state for state, _ in each].count(pb.SESSION_STATE_CONNECTING) for each in seen]
        held = [each[-1:] == [(pb.SESSION_STATE_BACKOFF, pb.SESSION_CAUSE_NETWORK_FAILING)] for each in seen]
        return min(tries) > 0 and False not in held

    await eventually(failed_twice, 90, "two failures of each account")
    await mend()
    for account in accounts:
        await stage.until_state(node, account, pb.SESSION_STATE_CONNECTED)
        told = [cause for _, cause in await causes(stage, account)]
        assert pb.SESSION_CAUSE_QUARANTINED not in told
    await eventually(lambda: node.log.says("the network works again"))


async def test_an_account_that_fails_alone_is_quarantined_and_connects_when_somebody_says_so(
    stage: Stage, node: NodeProcess, accounts: list[Account]
) -> None:
    bad = await stage.paired(node)
    fault = stage.inject(FaultKind.REFUSE_LOGINS, bad)
    stage.inject(FaultKind.DROP_CONNECTION, bad)

    async def quarantined() -> bool:
        return bool((await stage.session(node, bad)).cause == pb.SESSION_CAUSE_QUARANTINED)

    await eventually(quarantined)
    for account in accounts:
        assert (await stage.session(node, account)).state == pb.SESSION_STATE_CONNECTED
    stage.network.faults.clear(fault)
    await node.sessions.Connect(pb.ConnectRequest(account_id=bad.id), metadata=stage.metadata)
    await stage.until_state(node, bad, pb.SESSION_STATE_CONNECTED)
