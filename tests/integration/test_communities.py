"""Communities of accounts, through a real node, on the simulated network."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_asyncio

from sessionmesh.simnet.v1 import wire_pb2 as wire
from sessionmesh.v1 import group_pb2
from tests.support.eventually import eventually
from tests.support.group_acts import ADA, BOB, ask, made, refused, somebody
from tests.support.message_acts import received
from tests.support.session_node_stage import Account, NodeProcess, Stage

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def node(stage: Stage) -> NodeProcess:
    return await stage.start_node()


@pytest_asyncio.fixture(loop_scope="module")
async def account(stage: Stage, node: NodeProcess) -> Account:
    return await stage.paired(node)


async def town(stage: Stage, node: NodeProcess, account: Account, **fields: Any) -> Any:
    return (await ask(stage, node, account, "CreateCommunity", **{"name": "Town", **fields})).community


async def groups_of(stage: Stage, node: NodeProcess, account: Account, community: str) -> dict[str, Any]:
    answer = await ask(stage, node, account, "ListCommunityGroups", community=community)
    return {one.address: one for one in answer.groups}


@pytest.mark.read_back("CreateCommunity", "GetCommunity", "ListCommunities")
async def test_a_community_is_made_with_its_group_for_announcements(
    stage: Stage, node: NodeProcess, account: Account
) -> None:
    community = await town(stage, node, account, description="All", join_approval=True, request_id="R1")
    assert (community.name, community.description, community.join_approval) == ("Town", "All", True)
    assert community.own_role == group_pb2.GROUP_ROLE_OWNER
    assert (
        await ask(stage, node, account, "GetCommunity", community=community.address)
    ).community == community
    assert [one.address for one in (await ask(stage, node, account, "ListCommunities")).communities] == [
        community.address
    ]
    announcing = (await ask(stage, node, account, "GetGroup", group=community.announcement_group)).group
    assert (announcing.community, announcing.community_announcements) == (community.address, True)
    listed = [one.address for one in (await ask(stage, node, account, "ListGroups")).groups]
    assert listed == [announcing.address]  # a community is a group too, and is not listed as one
    event = await received(stage, account, "community.joined")
    assert event.community.community.address == community.address
    assert (
        await town(stage, node, account, description="All", join_approval=True, request_id="R1") == community
    )


async def test_a_group_is_no_community(stage: Stage, node: NodeProcess, account: Account) -> None:
    group = (await made(stage, node, account, ADA)).address
    assert (await refused(stage, node, account, "GetCommunity", community=group))[0] == "NOT_FOUND"
    assert (await refused(stage, node, account, "ListCommunityGroups", community=group))[0] == "NOT_FOUND"


@pytest.mark.read_back("LinkGroups", "UnlinkGroups", "ListCommunityGroups")
async def test_groups_are_linked_and_unlinked(stage: Stage, node: NodeProcess, account: Account) -> None:
    community = await town(stage, node, account)
    group = (await made(stage, node, account, ADA)).address
    fields = {"community": community.address, "groups": [group]}
    for _ in range(2):
        assert not (await ask(stage, node, account, "LinkGroups", **fields)).failures
    linked = await groups_of(stage, node, account, community.address)
    assert [*linked] == [community.announcement_group, group]
    assert linked[group].joined
    assert (await ask(stage, node, account, "GetGroup", group=group)).group.community == community.address
    event = await received(stage, account, "community.groups_changed")
    assert [one.address for one in event.community_groups.linked] == [group]
    for _ in range(2):
        assert not (await ask(stage, node, account, "UnlinkGroups", **fields)).failures
    assert [*await groups_of(stage, node, account, community.address)] == [community.announcement_group]
    kinds = [kind for kind, _ in await stage.events(account) if kind == "community.groups_changed"]
    assert len(kinds) == 2  # what the network tells of the same adds none


async def test_which_groups_could_not_be_linked_is_answered(
    stage: Stage, node: NodeProcess, account: Account
) -> None:
    community = await town(stage, node, account)
    group = (await made(stage, node, account, ADA)).address
    fields = {"community": community.address, "groups": [group, "group:404"]}
    (failure,) = (await ask(stage, node, account, "LinkGroups", **fields)).failures
    assert failure.group == "group:404"
    assert group in await groups_of(stage, node, account, community.address)
    for given, field in (([], "groups"), (["group:1"] * 2, "groups"), ([ADA], "groups[0]")):
        said = await refused(stage, node, account, "LinkGroups", community=community.address, groups=given)
        assert said[-1] == field


@pytest.mark.read_back("LeaveCommunity")
async def test_a_community_is_left_with_all_of_its_groups(
    stage: Stage, node: NodeProcess, account: Account
) -> None:
    community = await town(stage, node, account)
    group = (await made(stage, node, account, ADA)).address
    await ask(stage, node, account, "LinkGroups", community=community.address, groups=[group])
    for _ in range(2):
        await ask(stage, node, account, "LeaveCommunity", community=community.address)
    assert not (await ask(stage, node, account, "ListCommunities")).communities
    assert not (await ask(stage, node, account, "ListGroups")).groups
    left = (await ask(stage, node, account, "GetCommunity", community=community.address)).community
    assert left.own_role == group_pb2.GROUP_ROLE_UNSPECIFIED


@pytest.mark.read_back("DeactivateCommunity")
async def test_a_community_that_is_ended_leaves_its_groups(
    stage: Stage, node: NodeProcess, account: Account
) -> None:
    community = await town(stage, node, account)
    group = (await made(stage, node, account, ADA)).address
    await ask(stage, node, account, "LinkGroups", community=community.address, groups=[group])
    for _ in range(2):
        await ask(stage, node, account, "DeactivateCommunity", community=community.address)
    assert not (await ask(stage, node, account, "ListCommunities")).communities
    assert (await ask(stage, node, account, "GetGroup", group=group)).group.community == ""
    event = await received(stage, account, "community.deactivated")
    assert event.community.community.address == community.address


async def test_only_its_owner_ends_a_community(stage: Stage, node: NodeProcess, account: Account) -> None:
    new = wire.CreateGroup(subject="Theirs", parent=True, members=[f"phone:{account.phone}"])
    theirs = f"group:{somebody(stage, BOB, create_group=new).group.group_id}"
    await received(stage, account, "community.joined")
    assert await refused(stage, node, account, "DeactivateCommunity", community=theirs) == [
        "FAILED_PRECONDITION",
        "NOT_AN_ADMIN",
    ]


async def test_what_somebody_else_does_in_a_community_is_told(
    stage: Stage, node: NodeProcess, account: Account
) -> None:
    new = wire.CreateGroup(subject="Theirs", parent=True, members=[f"phone:{account.phone}"])
    theirs = somebody(stage, BOB, create_group=new).group.group_id
    await received(stage, account, "community.joined")
    somebody(stage, BOB, change_group=wire.ChangeGroup(group_id=theirs, subject="Renamed"))
    updated = await received(stage, account, "community.updated")
    assert (updated.community.community.name, updated.community.actor.phone) == ("Renamed", BOB)
    other = somebody(stage, BOB, create_group=wire.CreateGroup(subject="Other")).group.group_id
    somebody(stage, BOB, link_group=wire.LinkGroup(community_id=theirs, group_id=other))
    linked = await received(stage, account, "community.groups_changed")
    assert [one.name for one in linked.community_groups.linked] == ["Other"]
    somebody(stage, BOB, deactivate_community=wire.DeactivateCommunity(community_id=theirs))
    await received(stage, account, "community.deactivated")

    async def gone() -> bool:
        return not (await ask(stage, node, account, "ListCommunities")).communities

    await eventually(gone)
