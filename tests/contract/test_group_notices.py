"""What networks tell of groups and communities by themselves, kind by kind of `GroupNotice`."""

from __future__ import annotations

from typing import TypeVar

import pytest

from mesh_session_node.drivers.interface.capabilities import Acting, Capability
from mesh_session_node.drivers.interface.group_notices import (
    CommunityEnded,
    CommunityGroupsChanged,
    GroupChanged,
    GroupEntered,
    JoinRequested,
    MembersChanged,
)
from mesh_session_node.drivers.interface.groups import GroupChange, NewGroup
from sessionmesh.simnet.v1 import wire_pb2 as wire
from sessionmesh.v1 import group_pb2
from tests.support.driver_capabilities import Can
from tests.support.driver_contract import Connect, needs
from tests.support.driver_worlds import DriverWorld
from tests.support.eventually import eventually
from tests.support.link_events import RecordedEvents

pytestmark = pytest.mark.asyncio(loop_scope="module")
ANN, BEN = "phone:+4915100000022", "phone:+4915100000023"
ADMINS = group_pb2.GROUP_MEMBER_ADD_MODE_ADMINS
T = TypeVar("T")


def bare(group: str) -> str:
    return group.removeprefix("group:")


async def told(events: RecordedEvents, kind: type[T]) -> T:
    """The first notice of a kind."""
    found = await eventually(lambda: [one for one in events.notices if isinstance(one, kind)])
    return found[0]


async def done(world: DriverWorld, person: str, query: wire.Query) -> wire.Answer:
    answer = await world.act_in_group(person, query)
    assert not answer.HasField("error"), answer
    return answer


@needs(Can.TELLS_GROUPS)
async def test_a_group_that_the_account_comes_into_is_told_whole(
    world: DriverWorld, connect: Connect, events: RecordedEvents
) -> None:
    await connect()
    new = wire.CreateGroup(subject="Crew", members=[f"phone:{world.phone}"])
    group = f"group:{(await done(world, ANN, wire.Query(create_group=new))).group.group_id}"
    notice = await told(events, GroupEntered)
    assert (notice.group.address, notice.group.own_role) == (group, group_pb2.GROUP_ROLE_MEMBER)
    assert notice.group.members is not None
    roles = {member.person.address: member.role for member in notice.group.members}
    assert roles[ANN] == group_pb2.GROUP_ROLE_OWNER
    assert len(roles) == notice.group.member_count == 2
    assert notice.actor is not None
    assert (notice.actor.address, notice.time > 0) == (ANN, True)
    assert events.sequences[0]


@needs(Can.TELLS_GROUPS)
@pytest.mark.parametrize(
    ("query", "change"),
    [
        (wire.ChangeGroup(subject="Another"), GroupChange(name="Another")),
        (wire.ChangeGroup(description="About"), GroupChange(description="About")),
        (wire.ChangeGroup(announce_only=True), GroupChange(announce_only=True)),
        (wire.ChangeGroup(locked=True), GroupChange(locked=True)),
        (wire.ChangeGroup(join_approval=True), GroupChange(join_approval=True)),
        (wire.ChangeGroup(admins_add=True), GroupChange(member_add_mode=ADMINS)),
        (wire.ChangeGroup(disappear_seconds=86_400), GroupChange(disappear_seconds=86_400)),
    ],
    ids=lambda value: value.WhichOneof("change") if isinstance(value, wire.ChangeGroup) else "",
)
async def test_what_somebody_changes_of_a_group_is_told(
    world: DriverWorld, connect: Connect, events: RecordedEvents, query: wire.ChangeGroup, change: GroupChange
) -> None:
    await connect()
    group = await world.group_run_by(ANN)
    asked = wire.ChangeGroup(group_id=bare(group))
    asked.MergeFrom(query)
    await done(world, ANN, wire.Query(change_group=asked))
    notice = await told(events, GroupChanged)
    assert (notice.group, notice.change) == (group, change)
    assert notice.actor is not None
    assert notice.actor.address == ANN


@needs(Can.TELLS_GROUPS)
async def test_that_approval_is_needed_no_more_is_told(
    world: DriverWorld, connect: Connect, events: RecordedEvents
) -> None:
    await connect()
    group = await world.group_run_by(ANN)
    for on in (True, False):
        change = wire.ChangeGroup(group_id=bare(group), join_approval=on)
        await done(world, ANN, wire.Query(change_group=change))

    def changes() -> list[GroupChange]:
        return [one.change for one in events.notices if isinstance(one, GroupChanged)]

    await eventually(lambda: len(changes()) == 2)
    assert [change.join_approval for change in changes()] == [True, False]


@needs(Can.TELLS_GROUPS)
async def test_who_comes_and_goes_and_what_they_may_do_is_told(
    world: DriverWorld, connect: Connect, events: RecordedEvents
) -> None:
    await connect()
    group = await world.group_run_by(ANN)
    for action in ("ADD", "PROMOTE", "DEMOTE", "REMOVE"):
        change = wire.ChangeGroupMembers(
            group_id=bare(group), action=wire.MemberAction.Value(f"MEMBER_ACTION_{action}"), people=[BEN]
        )
        await done(world, ANN, wire.Query(change_group_members=change))

    def changes() -> list[MembersChanged]:
        return [one for one in events.notices if isinstance(one, MembersChanged)]

    await eventually(lambda: len(changes()) == 4)
    assert [group_pb2.GroupMemberChange.Name(one.change).rpartition("_")[2] for one in changes()] == [
        "ADDED",
        "PROMOTED",
        "DEMOTED",
        "REMOVED",
    ]
    for one in changes():
        assert (one.group, [member.address for member in one.members]) == (group, [BEN])
        assert one.actor is not None
        assert one.actor.address == ANN


@needs(Can.TELLS_GROUPS)
async def test_who_leaves_by_themselves_has_left(
    world: DriverWorld, connect: Connect, events: RecordedEvents
) -> None:
    await connect()
    group = await world.group_of(ANN)
    await done(world, ANN, wire.Query(leave_group=wire.LeaveGroup(group_id=bare(group))))
    notice = await told(events, MembersChanged)
    assert notice.change == group_pb2.GROUP_MEMBER_CHANGE_LEFT
    assert [member.address for member in notice.members] == [ANN]


@needs(Can.TELLS_GROUPS)
async def test_that_the_account_was_removed_is_told(
    world: DriverWorld, connect: Connect, events: RecordedEvents
) -> None:
    await connect()
    group = await world.group_run_by(ANN)
    change = wire.ChangeGroupMembers(
        group_id=bare(group), action=wire.MEMBER_ACTION_REMOVE, people=[f"phone:{world.phone}"]
    )
    await done(world, ANN, wire.Query(change_group_members=change))
    notice = await told(events, MembersChanged)
    assert (notice.group, notice.change) == (group, group_pb2.GROUP_MEMBER_CHANGE_REMOVED)
    (member,) = notice.members
    assert member.identity is not None
    assert member.identity.phone == world.phone


@needs(Can.TELLS_GROUPS, Capability.CREATE_GROUP, Capability.GROUP_INVITE)
async def test_who_asks_to_join_is_told_to_administrators(
    world: DriverWorld, connect: Connect, events: RecordedEvents
) -> None:
    acting: Acting = await connect()  # type: ignore[assignment]  # what it can do is asked for above
    group = (await acting.create_group(NewGroup(token="T1", name="Crew"))).group.address
    await acting.change_group(group, GroupChange(join_approval=True))
    await world.ask_to_join(group, (await acting.group_invite(group, reset=False)).code, ANN)
    notice = await told(events, JoinRequested)
    assert (notice.group, notice.withdrawn) == (group, False)
    assert notice.request.requester.address == ANN
    assert notice.request.method == group_pb2.GROUP_JOIN_METHOD_INVITE_LINK


@needs(Can.TELLS_GROUPS)
async def test_what_somebody_does_with_a_community_is_told(
    world: DriverWorld, connect: Connect, events: RecordedEvents
) -> None:
    await connect()
    group = await world.group_run_by(ANN)
    made = await done(world, ANN, wire.Query(create_group=wire.CreateGroup(subject="Town", parent=True)))
    community = made.group.group_id
    link = wire.LinkGroup(community_id=community, group_id=bare(group))
    await done(world, ANN, wire.Query(link_group=link))

    def changes() -> list[GroupChange]:
        return [one.change for one in events.notices if isinstance(one, GroupChanged)]

    await eventually(lambda: [one for one in changes() if one.community == f"group:{community}"])
    entered = await eventually(
        lambda: [one for one in events.notices if isinstance(one, GroupEntered) and one.group.parent]
    )
    assert entered[0].group.address == f"group:{community}"
    link.unlink = True
    await done(world, ANN, wire.Query(link_group=link))
    await eventually(lambda: [one for one in changes() if one.community == ""])
    changed = await told(events, CommunityGroupsChanged)
    assert (changed.community, [one.address for one in changed.unlinked]) == (f"group:{community}", [group])
    end = wire.DeactivateCommunity(community_id=community)
    await done(world, ANN, wire.Query(deactivate_community=end))
    await eventually(
        lambda: [
            one
            for one in events.notices
            if isinstance(one, CommunityEnded) and one.community == f"group:{community}"
        ]
    )
