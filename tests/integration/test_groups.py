"""Groups of accounts, through a real node, on the simulated network."""

from __future__ import annotations

import pytest
import pytest_asyncio

from sessionmesh.simnet.v1 import wire_pb2 as wire
from sessionmesh.v1 import group_pb2, message_pb2
from tests.integration.test_profiles import picture
from tests.support.eventually import eventually
from tests.support.group_acts import ADA, BOB, EVE, ask, group_id, made, refused, roles, somebody
from tests.support.message_acts import received
from tests.support.session_node_stage import Account, NodeProcess, Stage

pytestmark = pytest.mark.asyncio(loop_scope="module")
INVALID = ["INVALID_ARGUMENT", "INVALID_FIELD"]
ADD, REMOVE, PROMOTE, DEMOTE = 1, 2, 3, 4


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def node(stage: Stage) -> NodeProcess:
    await stage.running_media()
    return await stage.start_node()


@pytest_asyncio.fixture(loop_scope="module")
async def account(stage: Stage, node: NodeProcess) -> Account:
    return await stage.paired(node)


async def listed(stage: Stage, node: NodeProcess, account: Account) -> list[str]:
    return [one.address for one in (await ask(stage, node, account, "ListGroups")).groups]


# --- making


@pytest.mark.read_back("CreateGroup", "GetGroup", "ListGroups", "ListGroupMembers")
async def test_a_group_is_made_and_kept(stage: Stage, node: NodeProcess, account: Account) -> None:
    group = await made(
        stage,
        node,
        account,
        ADA,
        BOB,
        name="Crew",
        description="All of us",
        settings=group_pb2.GroupSettings(announce_only=True),
    )
    assert (group.name, group.description, group.member_count) == ("Crew", "All of us", 3)
    assert group.own_role == group_pb2.GROUP_ROLE_OWNER
    assert group.settings.announce_only
    assert group.creator.phone == account.phone
    assert (await ask(stage, node, account, "GetGroup", group=group.address)).group == group
    assert await listed(stage, node, account) == [group.address]
    assert await roles(stage, node, account, group.address) == {
        account.phone: "OWNER",
        ADA: "MEMBER",
        BOB: "MEMBER",
    }
    event = await received(stage, account, "group.joined")
    assert event.group.group.address == group.address
    assert event.group.actor.phone == account.phone


async def test_a_request_that_is_repeated_makes_no_second_group(
    stage: Stage, node: NodeProcess, account: Account
) -> None:
    first = await made(stage, node, account, ADA, request_id="R1")
    assert await made(stage, node, account, ADA, request_id="R1") == first
    assert await refused(
        stage, node, account, "CreateGroup", request_id="R1", name="Another", members=[]
    ) == ["ALREADY_EXISTS", "REQUEST_ID_REUSED"]
    assert len(await listed(stage, node, account)) == 1


async def test_a_repeat_after_a_crash_finds_what_the_network_made(
    stage: Stage, node: NodeProcess, account: Account
) -> None:
    first = await made(stage, node, account, ADA, request_id="R1")
    await stage.database.execute("DELETE FROM request WHERE scope = $1", account.uuid)
    again = await made(stage, node, account, ADA, request_id="R1")
    assert again.address == first.address


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"name": "x" * 101}, "name"),
        ({"description": "x" * 2049}, "description"),
        ({"members": ["group:1"]}, "members[0]"),
        ({"members": [ADA, ADA]}, "members"),
        ({"members": [f"+49151200{at:05}" for at in range(257)]}, "members"),
        ({"community": ADA}, "community"),
        ({"picture_media_id": "acc_01M8P08WR4FYESWQQ7FVWK8FX7"}, "picture_media_id"),
        ({"settings": {"disappear_after": {"seconds": 91 * 86_400}}}, "settings.disappear_after"),
        ({"settings": {"disappear_after": {"nanos": 5}}}, "settings.disappear_after"),
        ({"settings": {"member_add_mode": 7}}, "settings.member_add_mode"),
        ({"request_id": ""}, "request_id"),
    ],
)
async def test_a_bad_field_of_a_new_group_is_named(
    stage: Stage, node: NodeProcess, account: Account, fields: dict[str, object], field: str
) -> None:
    given = {"name": "Crew", **fields}
    assert await refused(stage, node, account, "CreateGroup", **given) == [*INVALID, field]
    assert not await listed(stage, node, account)


async def test_the_account_is_no_member_that_is_named(
    stage: Stage, node: NodeProcess, account: Account
) -> None:
    given = {"name": "Crew", "members": [account.phone]}
    assert await refused(stage, node, account, "CreateGroup", **given) == [*INVALID, "members[0]"]


async def test_who_cannot_be_added_is_answered_with_an_invitation(
    stage: Stage, node: NodeProcess, account: Account
) -> None:
    stage.network.directory.unaddable.add(EVE)
    answer = await ask(stage, node, account, "CreateGroup", name="Crew", members=[ADA, EVE])
    (failure,) = answer.failures
    assert failure.member == f"phone:{EVE}"
    assert failure.invitation.group == answer.group.address
    assert failure.invitation.code
    assert failure.invitation.expire_time.seconds
    assert "NOT_ALLOWED_BY_PERSON" in str(failure.error)


async def test_groups_of_another_tenants_account_are_nobodys(stage: Stage, node: NodeProcess) -> None:
    other = await stage.of_another_tenant()
    for method, fields in (("CreateGroup", {"name": "x"}), ("ListGroups", {})):
        assert (await refused(stage, node, other, method, **fields))[0] == "NOT_FOUND"


async def test_an_account_that_is_not_paired_makes_no_group(stage: Stage, node: NodeProcess) -> None:
    account = await stage.create_account()
    assert await refused(stage, node, account, "CreateGroup", name="x") == [
        "FAILED_PRECONDITION",
        "NOT_PAIRED",
    ]


# --- changing


@pytest.mark.read_back("UpdateGroup")
async def test_what_is_named_of_a_group_is_changed(stage: Stage, node: NodeProcess, account: Account) -> None:
    group = await made(stage, node, account, ADA)
    settings = group_pb2.GroupSettings(locked=True, announce_only=True)
    settings.disappear_after.seconds = 86_400
    changed = (
        await ask(
            stage,
            node,
            account,
            "UpdateGroup",
            group=group_pb2.Group(address=group.address, name="Team", description="no", settings=settings),
            update_mask={"paths": ["name", "settings.locked", "settings.disappear_after"]},
        )
    ).group
    assert (changed.name, changed.description) == ("Team", "")
    assert (changed.settings.locked, changed.settings.announce_only) == (True, False)
    assert changed.settings.disappear_after.seconds == 86_400
    assert changed.etag != group.etag
    on_network = stage.network.directory.groups[group_id(group.address)]
    assert (on_network.subject, on_network.locked, on_network.disappear_seconds) == ("Team", True, 86_400)
    event = await received(stage, account, "group.updated")
    assert set(event.group.changed_fields.paths) == {"name", "settings.locked", "settings.disappear_after"}


async def test_a_change_that_was_not_seen_is_not_overwritten(
    stage: Stage, node: NodeProcess, account: Account
) -> None:
    group = await made(stage, node, account, ADA)
    fields = {"update_mask": {"paths": ["name"]}}
    stale = group_pb2.Group(address=group.address, name="Team", etag=group.etag)
    await ask(stage, node, account, "UpdateGroup", group=stale, **fields)
    assert await refused(stage, node, account, "UpdateGroup", group=stale, **fields) == [
        "ABORTED",
        "ETAG_MISMATCH",
    ]


@pytest.mark.parametrize(
    ("group", "paths", "field"),
    [
        ({}, ["name"], "group.address"),
        ({"address": "group:1"}, ["name"], "group.name"),
        ({"address": "group:1", "name": "x"}, [], "update_mask"),
        ({"address": "group:1", "name": "x"}, ["own_role"], "update_mask"),
        ({"address": "group:1", "name": "x" * 101}, ["name"], "group.name"),
    ],
)
async def test_a_bad_field_of_a_change_is_named(
    stage: Stage, node: NodeProcess, account: Account, group: dict[str, str], paths: list[str], field: str
) -> None:
    fields = {"group": group, "update_mask": {"paths": paths}}
    assert (await refused(stage, node, account, "UpdateGroup", **fields))[-1].startswith(field)


@pytest.mark.read_back("ChangeGroupMembers")
async def test_members_are_added_promoted_demoted_and_removed(
    stage: Stage, node: NodeProcess, account: Account
) -> None:
    group = (await made(stage, node, account, ADA)).address
    for action, role in ((ADD, "MEMBER"), (PROMOTE, "ADMIN"), (DEMOTE, "MEMBER"), (REMOVE, None)):
        answer = await ask(
            stage, node, account, "ChangeGroupMembers", group=group, action=action, members=[BOB]
        )
        assert not answer.failures
        assert (await roles(stage, node, account, group)).get(BOB) == role
    assert (await ask(stage, node, account, "GetGroup", group=group)).group.member_count == 2
    changes = [kind for kind, _ in await stage.events(account) if kind == "group.members_changed"]
    assert len(changes) == 4  # what the network tells of the same adds none


async def test_for_whom_a_change_of_members_failed_is_answered(
    stage: Stage, node: NodeProcess, account: Account
) -> None:
    group = (await made(stage, node, account, ADA)).address
    stage.network.directory.unregistered.add("+4915112345699")
    answer = await ask(
        stage, node, account, "ChangeGroupMembers", group=group, action=ADD, members=[BOB, "+4915112345699"]
    )
    (failure,) = answer.failures
    assert failure.member == "phone:+4915112345699"
    assert "UNKNOWN_PERSON" in str(failure.error)
    assert set(await roles(stage, node, account, group)) == {account.phone, ADA, BOB}


async def test_only_administrators_change_members(stage: Stage, node: NodeProcess, account: Account) -> None:
    theirs = stage.network.directory.create_group("theirs1", "Theirs", {ADA: True, account.phone: False}, ADA)
    given = {"group": f"group:{theirs.group_id}", "action": REMOVE, "members": [ADA]}
    assert await refused(stage, node, account, "ChangeGroupMembers", **given) == [
        "FAILED_PRECONDITION",
        "NOT_AN_ADMIN",
    ]


@pytest.mark.read_back("LeaveGroup")
async def test_a_group_that_was_left_is_listed_no_more(
    stage: Stage, node: NodeProcess, account: Account
) -> None:
    group = (await made(stage, node, account, ADA)).address
    for _ in range(2):
        await ask(stage, node, account, "LeaveGroup", group=group)
    assert not await listed(stage, node, account)
    assert not await roles(stage, node, account, group)
    left = (await ask(stage, node, account, "GetGroup", group=group)).group
    assert left.own_role == group_pb2.GROUP_ROLE_UNSPECIFIED
    event = await received(stage, account, "group.members_changed")
    assert event.group_members.includes_account
    assert event.group_members.change == group_pb2.GROUP_MEMBER_CHANGE_LEFT


async def test_a_group_that_nobody_knows_is_not_found(
    stage: Stage, node: NodeProcess, account: Account
) -> None:
    for method in ("GetGroup", "FetchGroup", "LeaveGroup", "GetGroupInvite", "ListGroupMembers"):
        assert (await refused(stage, node, account, method, group="group:404"))[0] == "NOT_FOUND", method


async def test_messages_are_refused_of_members_where_only_administrators_write(
    stage: Stage, node: NodeProcess, account: Account
) -> None:
    theirs = stage.network.directory.create_group("theirs2", "Theirs", {ADA: True, account.phone: False}, ADA)
    theirs.announce_only = True
    sent = await stage.send(node, account, recipient=f"group:{theirs.group_id}")
    failed = await stage.until_status(node, account, sent.id, message_pb2.MESSAGE_STATUS_FAILED)
    assert failed.failure == message_pb2.FAILURE_REASON_NOT_A_MEMBER


# --- pictures


@pytest.mark.read_back("GetGroupPicture")
async def test_a_groups_picture_is_media_of_the_tenant(
    stage: Stage, node: NodeProcess, account: Account
) -> None:
    media_id = await stage.upload(await stage.running_media(), picture())
    group = await made(stage, node, account, ADA, picture_media_id=media_id)
    assert (group.picture_media_id, bool(group.picture_id)) == (media_id, True)
    shown = (await ask(stage, node, account, "GetGroupPicture", group=group.address)).picture
    assert shown.picture_id == group.picture_id
    assert shown.media_id
    again = (await ask(stage, node, account, "GetGroupPicture", group=group.address)).picture
    assert again == shown  # the network was not asked again
    without = await ask(
        stage,
        node,
        account,
        "UpdateGroup",
        group=group_pb2.Group(address=group.address),
        update_mask={"paths": ["picture_media_id"]},
    )
    assert (without.group.picture_id, without.group.picture_media_id) == ("", "")
    answer = await ask(stage, node, account, "GetGroupPicture", group=group.address)
    assert not answer.HasField("picture")


# --- invites and requests


@pytest.mark.read_back("GetGroupInvite", "ResetGroupInvite", "PreviewGroupInvite", "JoinGroup")
async def test_an_account_joins_by_an_invite_that_another_one_made(
    stage: Stage, node: NodeProcess, account: Account
) -> None:
    other = await stage.paired(node)
    group = await made(stage, node, account, ADA)
    invite = await ask(stage, node, account, "GetGroupInvite", group=group.address)
    preview = (await ask(stage, node, other, "PreviewGroupInvite", code=invite.url)).group
    assert (preview.address, preview.name, preview.member_count) == (group.address, "Crew", 2)
    joined = await ask(stage, node, other, "JoinGroup", code=invite.code)
    assert (joined.group.address, joined.pending) == (group.address, False)
    assert await listed(stage, node, other) == [group.address]
    event = await received(
        stage, account, "group.members_changed", lambda one: one.group_members.members[0].phone == other.phone
    )
    assert event.group_members.change == group_pb2.GROUP_MEMBER_CHANGE_JOINED
    assert event.group_members.method == group_pb2.GROUP_JOIN_METHOD_INVITE_LINK
    assert other.phone in await roles(stage, node, account, group.address)
    reset = await ask(stage, node, account, "ResetGroupInvite", group=group.address)
    assert reset.code != invite.code
    assert await refused(stage, node, other, "JoinGroup", code=invite.code) == [
        "FAILED_PRECONDITION",
        "INVITE_ENDED",
    ]


async def test_an_invite_is_a_code_or_an_invitation(
    stage: Stage, node: NodeProcess, account: Account
) -> None:
    for fields, field in (
        ({}, "invite"),
        ({"code": "a b"}, "code"),
        ({"code": "x" * 257}, "code"),
        ({"invitation": {"group": "group:1", "code": "x", "inviter": "group:1"}}, "invitation.inviter"),
    ):
        assert (await refused(stage, node, account, "JoinGroup", **fields))[-1] == field


@pytest.mark.read_back("ListJoinRequests", "AnswerJoinRequests")
async def test_people_who_ask_to_join_are_taken_and_refused(
    stage: Stage, node: NodeProcess, account: Account
) -> None:
    settings = group_pb2.GroupSettings(join_approval=True)
    group = (await made(stage, node, account, settings=settings)).address
    code = (await ask(stage, node, account, "GetGroupInvite", group=group)).code
    for person in (ADA, BOB):
        somebody(stage, person, join_group=wire.Invite(code=code))
    event = await received(stage, account, "group.join_requested")
    assert event.group_join_request.join_request.requester.phone == ADA
    asked = await ask(stage, node, account, "ListJoinRequests", group=group, page_size=1)
    assert [one.requester.phone for one in asked.join_requests] == [ADA]
    token = asked.next_page_token
    rest = await ask(stage, node, account, "ListJoinRequests", group=group, page_size=1, page_token=token)
    assert [one.requester.phone for one in rest.join_requests] == [BOB]
    await ask(stage, node, account, "AnswerJoinRequests", group=group, requesters=[ADA], approve=True)
    await ask(stage, node, account, "AnswerJoinRequests", group=group, requesters=[BOB])

    async def came() -> bool:
        return set(await roles(stage, node, account, group)) == {account.phone, ADA}

    await eventually(came)
    answer = await ask(stage, node, account, "AnswerJoinRequests", group=group, requesters=[BOB])
    assert "UNKNOWN_PERSON" in str(answer.failures[0].error)


# --- what others do


async def test_what_somebody_else_changes_is_stored_and_told(
    stage: Stage, node: NodeProcess, account: Account
) -> None:
    group = (await made(stage, node, account, ADA, BOB)).address
    somebody(stage, ADA, change_group=wire.ChangeGroup(group_id=group_id(group), subject="Mine"))
    event = await received(stage, account, "group.updated")
    assert (event.group.group.name, event.group.actor.phone) == ("Mine", ADA)
    assert (await ask(stage, node, account, "GetGroup", group=group)).group.name == "Mine"
    somebody(stage, BOB, leave_group=wire.LeaveGroup(group_id=group_id(group)))
    left = await received(stage, account, "group.members_changed")
    assert [one.phone for one in left.group_members.members] == [BOB]
    assert set(await roles(stage, node, account, group)) == {account.phone, ADA}


async def test_a_group_that_the_account_comes_into_is_told_whole(
    stage: Stage, node: NodeProcess, account: Account
) -> None:
    new = wire.CreateGroup(subject="Theirs", members=[f"phone:{account.phone}"])
    group = f"group:{somebody(stage, ADA, create_group=new).group.group_id}"
    event = await received(stage, account, "group.joined")
    assert event.group.group.address == group
    assert event.group.actor.phone == ADA
    assert await roles(stage, node, account, group) == {ADA: "OWNER", account.phone: "MEMBER"}
    remove = wire.ChangeGroupMembers(
        group_id=group_id(group), action=wire.MEMBER_ACTION_REMOVE, people=[f"phone:{account.phone}"]
    )
    somebody(stage, ADA, change_group_members=remove)
    removed = await received(stage, account, "group.members_changed")
    assert removed.group_members.includes_account
    assert not await listed(stage, node, account)


async def test_the_groups_of_an_account_are_listed_once_it_is_paired(stage: Stage, node: NodeProcess) -> None:
    account = await stage.create_account()
    members = {ADA: True, account.phone: False}
    groups = [
        stage.network.directory.create_group(
            f"before{at}{account.phone[1:]}", f"Before {at}", {**members}, ADA
        )
        for at in range(2)
    ]
    await stage.pair(node, account)

    async def known() -> bool:
        return len(await listed(stage, node, account)) == 2

    await eventually(known)
    address = f"group:{groups[0].group_id}"
    assert set(await roles(stage, node, account, address)) == {ADA, account.phone}
    assert not [kind for kind, _ in await stage.events(account) if kind == "group.joined"]


# --- lists


@pytest.mark.read_back("ListCommonGroups")
async def test_groups_in_common_are_found_by_any_name_of_a_person(
    stage: Stage, node: NodeProcess, account: Account
) -> None:
    common = {(await made(stage, node, account, ADA, request_id=f"C{at}")).address for at in range(3)}
    await made(stage, node, account, BOB)
    hidden = stage.network.directory.reveal_hidden_id(ADA)
    for address in (f"phone:{ADA}", f"hidden:{hidden}"):
        found, token = [], ""
        while True:
            page = await ask(
                stage, node, account, "ListCommonGroups", address=address, page_size=2, page_token=token
            )
            found += [one.address for one in page.groups]
            token = page.next_page_token
            if not token:
                break
        assert found == sorted(common)
    assert not (await ask(stage, node, account, "ListCommonGroups", address=EVE)).groups


@pytest.mark.read_back("FetchGroup")
async def test_a_group_is_fetched_as_the_network_has_it(
    stage: Stage, node: NodeProcess, account: Account
) -> None:
    members = {ADA: True, account.phone: False}
    theirs = stage.network.directory.create_group(f"f{account.phone[1:]}", "Theirs", members, ADA)
    address = f"group:{theirs.group_id}"
    assert (await refused(stage, node, account, "GetGroup", group=address))[0] == "NOT_FOUND"
    fetched = (await ask(stage, node, account, "FetchGroup", group=address)).group
    assert (fetched.name, fetched.own_role) == ("Theirs", group_pb2.GROUP_ROLE_MEMBER)
    assert await roles(stage, node, account, address) == {ADA: "OWNER", account.phone: "MEMBER"}
    del theirs.members[account.phone]
    assert await refused(stage, node, account, "FetchGroup", group=address) == [
        "FAILED_PRECONDITION",
        "NOT_A_MEMBER",
    ]
    assert not await listed(stage, node, account)


async def test_a_thousand_members_are_listed_page_by_page(
    stage: Stage, node: NodeProcess, account: Account
) -> None:
    members = {account.phone: True} | {f"+49152000{at:05}": False for at in range(1023)}
    big = stage.network.directory.create_group(f"big{account.phone[1:]}", "Big", members, account.phone)
    address = f"group:{big.group_id}"
    assert (await ask(stage, node, account, "FetchGroup", group=address)).group.member_count == 1024
    found, token = [], ""
    while True:
        page = await ask(
            stage, node, account, "ListGroupMembers", group=address, page_size=400, page_token=token
        )
        found += [one.person.phone for one in page.members]
        token = page.next_page_token
        if not token:
            break
    assert sorted(found) == sorted(members)
