"""One group, changed by two accounts at once: what each has stored in the end is what the network has."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

import grpc.aio
import pytest
import pytest_asyncio

from sessionmesh.v1 import group_pb2
from tests.support.eventually import eventually
from tests.support.group_acts import ADA, BOB, EVE, ask, group_id, made, roles
from tests.support.session_node_stage import Account, NodeProcess, Stage

pytestmark = pytest.mark.asyncio(loop_scope="module")
ADD, REMOVE, PROMOTE, DEMOTE = 1, 2, 3, 4
CALLS = 40
REFUSALS = (
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def node(stage: Stage) -> NodeProcess:
    return await stage.start_node()


@pytest.mark.parametrize("seed", [2, 3])
async def test_two_administrators_who_change_a_group_at_once_have_what_the_network_has(
    stage: Stage, node: NodeProcess, seed: int
) -> None:
    dice = Random(seed)
    one, other = await stage.paired(node), await stage.paired(node)
    group = (await made(stage, node, one, ADA, BOB, other.phone)).address
    promote = {"group": group, "action": PROMOTE, "members": [other.phone]}
    await ask(stage, node, one, "ChangeGroupMembers", **promote)

    def rename(account: Account) -> Coroutine[Any, Any, Any]:
        wanted = {"address": group, "name": f"Name {dice.randrange(1000)}"}
        return ask(stage, node, account, "UpdateGroup", group=wanted, update_mask={"paths": ["name"]})

    def change(account: Account) -> Coroutine[Any, Any, Any]:
        fields = {
            "action": dice.choice([ADD, REMOVE, PROMOTE, DEMOTE]),
            "members": [dice.choice([ADA, BOB, EVE])],
        }
        return ask(stage, node, account, "ChangeGroupMembers", group=group, **fields)

    def reset(account: Account) -> Coroutine[Any, Any, Any]:
        return ask(stage, node, account, "ResetGroupInvite", group=group)

    async def tried(act: Callable[[Account], Coroutine[Any, Any, Any]], account: Account) -> None:
        try:
            await act(account)
        except grpc.aio.AioRpcError as error:
            if error.code() not in REFUSALS:
                raise

    acts = [(dice.choice([rename, change, change, reset]), dice.choice([one, other])) for _ in range(CALLS)]
    await asyncio.gather(*(tried(act, account) for act, account in acts))

    there = stage.network.directory.groups[group_id(group)]

    async def agree() -> bool:
        return [await _known(stage, node, account, group) for account in (one, other)] == [
            (there.subject, len(there.members), dict(there.members))
        ] * 2

    await eventually(agree, what="what the network has")
    invite = await ask(stage, node, one, "GetGroupInvite", group=group)
    assert (
        invite.code
        == there.invite_code
        == (await ask(stage, node, other, "GetGroupInvite", group=group)).code
    )


async def _known(stage: Stage, node: NodeProcess, account: Account, group: str) -> tuple[object, ...]:
    shown: group_pb2.Group = (await ask(stage, node, account, "GetGroup", group=group)).group
    members = await roles(stage, node, account, group)
    return shown.name, shown.member_count, {who: role != "MEMBER" for who, role in members.items()}
