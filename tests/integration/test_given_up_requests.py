"""Requests that go on when their callers give up: of one account only so many at once."""

from __future__ import annotations

import asyncio
import secrets

import grpc.aio
import pytest
import pytest_asyncio

from mesh_core.rpc.server.status import from_rpc_error
from mesh_session_node.calls.account_call import MAX_ANSWERING
from mesh_simulator.faults.faults import FaultKind
from sessionmesh.v1 import group_pb2, group_pb2_grpc
from tests.support.eventually import eventually
from tests.support.group_acts import ADA, EVE, made
from tests.support.session_node_stage import Account, NodeProcess, Stage

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def node(stage: Stage) -> NodeProcess:
    return await stage.start_node()


async def added(stage: Stage, node: NodeProcess, account: Account, group: str, person: str) -> str:
    """What becomes of adding somebody, for a caller who waits for a second: "" when it is done."""
    request = group_pb2.ChangeGroupMembersRequest(
        account_id=account.id,
        request_id=secrets.token_hex(8),
        group=group,
        members=[f"phone:{person}"],
        action=group_pb2.GROUP_MEMBER_ACTION_ADD,
    )
    groups = group_pb2_grpc.GroupServiceStub(node.channel)
    try:
        await groups.ChangeGroupMembers(request, metadata=stage.metadata, timeout=1)
    except grpc.aio.AioRpcError as error:
        return from_rpc_error(error).reason or error.code().name
    return ""


async def test_more_requests_than_an_account_may_have_at_once_are_refused_though_nobody_waits_for_the_others(
    stage: Stage, node: NodeProcess
) -> None:
    account, other = await stage.paired(node), await stage.paired(node)
    group = (await made(stage, node, account, ADA)).address
    of_other = (await made(stage, node, other, ADA)).address
    stalled = stage.inject(FaultKind.STALL, account)
    given_up = await asyncio.gather(*[added(stage, node, account, group, EVE) for _ in range(MAX_ANSWERING)])
    assert {*given_up} == {"DEADLINE_EXCEEDED"}, "the network says nothing"

    assert await added(stage, node, account, group, EVE) == "RATE_LIMITED"
    assert await added(stage, node, other, of_other, EVE) == "", "another account has its own"

    assert stage.network.faults.clear(stalled)

    async def has_room() -> bool:
        return await added(stage, node, account, group, EVE) == ""

    await eventually(has_room, 60)
