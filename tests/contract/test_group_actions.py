"""What drivers do about groups, act by act of `GroupActions` and `CommunityActions`: those that a driver
declares.
"""

from __future__ import annotations

import io

import pytest
import pytest_asyncio
from PIL import Image

from mesh_session_node.drivers.interface.capabilities import Acting, Capability
from mesh_session_node.drivers.interface.groups import GroupChange, GroupInfo, GroupRules, NewGroup
from mesh_session_node.drivers.interface.outcomes import Refusal, Refused
from sessionmesh.v1 import group_pb2
from tests.support.driver_contract import Connect, needs
from tests.support.driver_worlds import DriverWorld

pytestmark = pytest.mark.asyncio(loop_scope="module")
ANN, BEN, MISSING = "phone:+4915100000012", "phone:+4915100000013", "phone:+4915100000014"
ADD, REMOVE, PROMOTE, DEMOTE = (
    group_pb2.GROUP_MEMBER_ACTION_ADD,
    group_pb2.GROUP_MEMBER_ACTION_REMOVE,
    group_pb2.GROUP_MEMBER_ACTION_PROMOTE,
    group_pb2.GROUP_MEMBER_ACTION_DEMOTE,
)


@pytest_asyncio.fixture(loop_scope="module")
async def acting(world: DriverWorld, connect: Connect) -> Acting:
    """A link; Ann and Ben are on its network."""
    for person in (ANN, BEN):
        await world.register(person.removeprefix("phone:"), on_network=True)
    return await connect()  # type: ignore[return-value]  # the cases ask for what it can do


def new(name: str = "Crew", *members: str, token: str = "T1") -> NewGroup:
    return NewGroup(token=token, name=name, members=members)


async def made(acting: Acting, *members: str) -> GroupInfo:
    """A group of the account and these people, with everything about it."""
    created = await acting.create_group(new("Crew", *members))
    return await acting.get_group(created.group.address)


def roles(group: GroupInfo) -> dict[str, str]:
    """What the people in a group may do, by their numbers; the account is `self`."""
    found = {}
    for member in group.members or ():
        phone = member.person.identity.phone if member.person.identity is not None else ""
        address = f"phone:{phone}" if phone else member.person.address
        name = group_pb2.GroupRole.Name(member.role).removeprefix("GROUP_ROLE_")
        found[address if address in (ANN, BEN) else "self"] = name
    return found


@needs(Capability.CREATE_GROUP, Capability.GROUPS)
async def test_a_group_is_made_with_its_members_and_the_account_as_its_owner(acting: Acting) -> None:
    rules = GroupRules(announce_only=True, disappear_seconds=86_400)
    created = await acting.create_group(
        NewGroup(token="T1", name="Crew", description="All of us", members=[ANN], rules=rules)
    )
    assert not created.failures
    group = await acting.get_group(created.group.address)
    assert roles(group) == {"self": "OWNER", ANN: "MEMBER"}
    assert (group.name, group.description, group.member_count) == ("Crew", "All of us", 2)
    assert group.own_role == group_pb2.GROUP_ROLE_OWNER
    assert (group.rules.announce_only, group.rules.disappear_seconds) == (True, 86_400)
    assert group.create_time
    assert not group.parent


@needs(Capability.GROUPS, Capability.CREATE_GROUP)
async def test_groups_of_the_account_are_listed_until_it_leaves_them(acting: Acting) -> None:
    first, second = await made(acting), await acting.create_group(new("Other", token="T2"))
    assert {group.address for group in await acting.list_groups()} >= {
        first.address,
        second.group.address,
    }
    await acting.leave_group(first.address)
    assert first.address not in {group.address for group in await acting.list_groups()}
    with pytest.raises(Refused) as refused:
        await acting.leave_group(first.address)
    assert refused.value.refusal in (Refusal.NOT_A_MEMBER, Refusal.UNKNOWN_CHAT)


@needs(Capability.GROUPS)
async def test_a_group_that_is_not_there_is_refused(acting: Acting) -> None:
    with pytest.raises(Refused) as refused:
        await acting.get_group("group:120363000000000001")
    assert refused.value.refusal in (Refusal.UNKNOWN_CHAT, Refusal.NOT_A_MEMBER)


@needs(Capability.CHANGE_GROUP)
@pytest.mark.parametrize(
    "change",
    [
        GroupChange(name="Another"),
        GroupChange(description="About"),
        GroupChange(announce_only=True),
        GroupChange(locked=True),
        GroupChange(join_approval=True),
        GroupChange(member_add_mode=group_pb2.GROUP_MEMBER_ADD_MODE_ADMINS),
        GroupChange(disappear_seconds=604_800),
    ],
    ids=lambda change: next(name for name in change.__slots__ if getattr(change, name) is not None),
)
async def test_what_is_changed_of_a_group_is_so_afterwards(acting: Acting, change: GroupChange) -> None:
    group = await made(acting, ANN)
    for _ in range(2):
        await acting.change_group(group.address, change)
    now = await acting.get_group(group.address)
    for name in GroupChange.__slots__:
        wanted = getattr(change, name)
        if wanted is not None:
            assert (getattr(now, name) if hasattr(now, name) else getattr(now.rules, name)) == wanted


@needs(Capability.GROUP_HISTORY)
async def test_members_may_be_let_send_recent_messages_to_new_ones(acting: Acting) -> None:
    group = await made(acting, ANN)
    await acting.change_group(group.address, GroupChange(history_for_new_members=True))
    assert (await acting.get_group(group.address)).rules.history_for_new_members


@needs(Capability.CHANGE_GROUP)
async def test_only_an_administrator_changes_the_rules(acting: Acting, world: DriverWorld) -> None:
    group = await world.group_run_by(ANN)
    with pytest.raises(Refused) as refused:
        await acting.change_group(group, GroupChange(announce_only=True))
    assert refused.value.refusal is Refusal.NOT_AN_ADMIN


@needs(Capability.GROUP_MEMBERS)
async def test_members_are_added_promoted_demoted_and_removed(acting: Acting) -> None:
    group = (await made(acting, ANN)).address
    for action, after in (
        (ADD, {"self": "OWNER", ANN: "MEMBER", BEN: "MEMBER"}),
        (PROMOTE, {"self": "OWNER", ANN: "MEMBER", BEN: "ADMIN"}),
        (DEMOTE, {"self": "OWNER", ANN: "MEMBER", BEN: "MEMBER"}),
        (REMOVE, {"self": "OWNER", ANN: "MEMBER"}),
    ):
        assert not await acting.change_members(group, action, [BEN])
        assert roles(await acting.get_group(group)) == after


@needs(Capability.GROUP_MEMBERS)
async def test_who_is_a_member_already_is_added_without_a_failure(acting: Acting) -> None:
    group = (await made(acting, ANN)).address
    assert not await acting.change_members(group, ADD, [ANN, BEN])
    assert set(roles(await acting.get_group(group))) == {"self", ANN, BEN}


@needs(Capability.GROUP_MEMBERS)
async def test_who_can_only_be_invited_fails_with_an_invitation(acting: Acting, world: DriverWorld) -> None:
    group = (await made(acting, ANN)).address
    await world.refuse_being_added(BEN)
    (failure,) = await acting.change_members(group, ADD, [BEN])
    assert (failure.person, failure.refusal) == (BEN, Refusal.NOT_ALLOWED_BY_PERSON)
    assert failure.invitation is not None
    assert (failure.invitation.group, bool(failure.invitation.code)) == (group, True)
    assert set(roles(await acting.get_group(group))) == {"self", ANN}


@needs(Capability.GROUP_PICTURE)
async def test_a_group_shows_a_picture_until_it_is_taken_away(acting: Acting) -> None:
    group = (await made(acting, ANN)).address
    assert await acting.group_picture(group, preview=False) is None
    file = io.BytesIO()
    Image.new("RGB", (64, 64), "teal").save(file, "JPEG")
    picture_id = await acting.set_group_picture(group, file.getvalue())
    shown = await acting.group_picture(group, preview=False)
    assert shown is not None
    assert (shown.picture_id, shown.data) == (picture_id, file.getvalue())
    assert await acting.set_group_picture(group, b"") == ""
    assert await acting.group_picture(group, preview=False) is None


@needs(Capability.GROUP_INVITE)
async def test_an_invite_link_leads_to_its_group_until_it_is_reset(acting: Acting) -> None:
    group = (await made(acting, ANN)).address
    invite = await acting.group_invite(group, reset=False)
    assert invite.url.endswith(invite.code)
    assert await acting.group_invite(group, reset=False) == invite
    for leads in (invite.code, invite.url):
        assert (await acting.preview_invite(leads)).address == group
    joined = await acting.join_group(invite.code)
    assert (joined.group, joined.pending) == (group, False)
    reset = await acting.group_invite(group, reset=True)
    assert reset.code != invite.code
    with pytest.raises(Refused) as refused:
        await acting.preview_invite(invite.code)
    assert refused.value.refusal is Refusal.INVITE_ENDED


@needs(Capability.GROUP_INVITE)
async def test_an_account_comes_into_a_group_by_its_link(acting: Acting) -> None:
    group = (await made(acting, ANN)).address
    invite = await acting.group_invite(group, reset=False)
    await acting.leave_group(group)
    assert (await acting.join_group(invite.code)).group == group
    assert (await acting.get_group(group)).own_role == group_pb2.GROUP_ROLE_MEMBER


@needs(Capability.GROUP_JOIN_REQUESTS)
async def test_who_asks_to_join_is_listed_and_taken_or_refused(acting: Acting, world: DriverWorld) -> None:
    group = (await made(acting)).address
    await acting.change_group(group, GroupChange(join_approval=True))
    assert not await acting.list_join_requests(group)
    code = (await acting.group_invite(group, reset=False)).code
    for person in (ANN, BEN):
        await world.ask_to_join(group, code, person)
    asking = await acting.list_join_requests(group)
    assert {one.requester.address for one in asking} == {ANN, BEN}
    assert all(one.time for one in asking)
    assert not await acting.answer_join_requests(group, [ANN], approve=True)
    assert not await acting.answer_join_requests(group, [BEN], approve=False)
    assert not await acting.list_join_requests(group)
    assert set(roles(await acting.get_group(group))) == {"self", ANN}
    (failure,) = await acting.answer_join_requests(group, [BEN], approve=True)
    assert (failure.person, failure.refusal) == (BEN, Refusal.UNKNOWN_PERSON)


@needs(Capability.COMMUNITIES)
async def test_a_community_has_the_groups_that_are_linked_to_it(acting: Acting) -> None:
    community = await acting.create_community(new("Town", token="T0"))
    assert community.parent
    assert community.announcement_group
    group = (await made(acting, ANN)).address
    for _ in range(2):
        await acting.link_group(community.address, group)
    linked = {one.address: one for one in await acting.community_groups(community.address)}
    assert set(linked) == {group, community.announcement_group}
    assert linked[community.announcement_group].announcements
    assert linked[group].joined is not False
    assert (await acting.get_group(group)).community == community.address
    for _ in range(2):
        await acting.unlink_group(community.address, group)
    left = await acting.community_groups(community.address)
    assert [one.address for one in left] == [community.announcement_group]


@needs(Capability.COMMUNITIES)
async def test_a_community_is_left_with_all_of_its_groups(acting: Acting) -> None:
    community = await acting.create_community(new("Town", token="T0"))
    group = (await made(acting, ANN)).address
    await acting.link_group(community.address, group)
    await acting.leave_community(community.address)
    assert not {one.address for one in await acting.list_groups()} & {community.address, group}


@needs(Capability.COMMUNITIES)
async def test_a_community_that_is_ended_leaves_its_groups(acting: Acting) -> None:
    community = await acting.create_community(new("Town", token="T0"))
    group = (await made(acting, ANN)).address
    await acting.link_group(community.address, group)
    await acting.deactivate_community(community.address)
    listed = {one.address: one for one in await acting.list_groups()}
    assert community.address not in listed
    assert listed[group].community == ""


@needs(Capability.CREATE_GROUP, Capability.COMMUNITIES)
async def test_a_community_is_no_group_of_a_group(acting: Acting) -> None:
    group = (await made(acting, ANN)).address
    with pytest.raises(Refused) as refused:
        await acting.community_groups(group)
    assert refused.value.refusal in (Refusal.UNKNOWN_CHAT, Refusal.NOT_A_MEMBER, Refusal.OTHER)
