"""What people may do in groups of the simulated network, and who is told."""

from __future__ import annotations

import msgspec

from mesh_simulator.accounts.account import Account
from mesh_simulator.network import Network
from sessionmesh.simnet.v1 import wire_pb2 as wire
from tests.support.simulated_network import ALICE, BOB, register

CAROL, DAVE = "+4915100000031", "+4915100000032"


def ask(network: Network, phone: str, **query: object) -> wire.Answer:
    return network.group_queries.answer(phone, wire.Query(**query))  # type: ignore[arg-type]


def made(network: Network, *members: str, **rules: bool) -> str:
    """A group of Alice's."""
    new = wire.CreateGroup(subject="Us", members=[f"phone:{one}" for one in members])
    for rule, value in rules.items():
        setattr(new.rules, rule, value)
    return ask(network, ALICE, create_group=new).group.group_id


def told(account: Account) -> list[wire.Notice]:
    notices = [*(account.notices or ())]
    account.notices = None
    return notices


def reason(answer: wire.Answer) -> str:
    return wire.QueryErrorReason.Name(answer.error.reason).removeprefix("QUERY_ERROR_REASON_")


def change(group_id: str, action: wire.MemberAction.ValueType, *people: str) -> wire.ChangeGroupMembers:
    addresses = [f"phone:{one}" for one in people]
    return wire.ChangeGroupMembers(group_id=group_id, action=action, people=addresses)


def test_whoever_is_in_a_group_is_told_of_what_happens_there(network: Network) -> None:
    alice, _ = register(network, ALICE)
    bob, _ = register(network, BOB)
    group_id = made(network, BOB)
    (entered,) = told(bob)
    assert entered.group_entered.group.own_role == wire.GROUP_ROLE_MEMBER
    assert entered.group_entered.actor.identity.phone == ALICE
    told(alice)

    ask(network, ALICE, change_group=wire.ChangeGroup(group_id=group_id, subject="All"))
    ask(network, ALICE, change_group=wire.ChangeGroup(group_id=group_id, subject="All"))
    for account in (alice, bob):
        (changed,) = told(account)
        assert changed.group_changed.subject == "All"

    ask(network, ALICE, change_group_members=change(group_id, wire.MEMBER_ACTION_REMOVE, BOB))
    (removed,) = told(bob)
    assert removed.members_changed.change == wire.MEMBER_CHANGE_REMOVED
    assert [one.identity.phone for one in removed.members_changed.members] == [BOB]


def test_only_administrators_write_for_announcements_and_change_members(network: Network) -> None:
    group_id = made(network, BOB, announce_only=True)
    group = network.directory.groups[group_id]
    assert (group.may_write(ALICE), group.may_write(BOB), group.may_write(CAROL)) == (True, False, False)
    refused = ask(network, BOB, change_group_members=change(group_id, wire.MEMBER_ACTION_PROMOTE, BOB))
    assert reason(refused) == "NOT_AN_ADMIN"
    ask(network, ALICE, change_group_members=change(group_id, wire.MEMBER_ACTION_PROMOTE, BOB))
    assert group.may_write(BOB)


def test_a_group_takes_no_more_than_1024_members(network: Network) -> None:
    members = [f"+49152000{at:05}" for at in range(1024)]
    answer = ask(network, ALICE, create_group=wire.CreateGroup(members=[f"phone:{one}" for one in members]))
    assert len(answer.group.members) == 1024
    (failure,) = answer.group.failures
    assert failure.reason == wire.QUERY_ERROR_REASON_FULL
    code = ask(network, ALICE, get_invite=wire.GetInvite(group_id=answer.group.group_id)).invite
    assert reason(ask(network, CAROL, join_group=wire.Invite(code=code))) == "FULL"


def test_a_client_that_makes_a_group_again_gets_the_first_one(network: Network) -> None:
    new = wire.CreateGroup(subject="Us", token="T1")
    first = ask(network, ALICE, create_group=new).group.group_id
    assert ask(network, ALICE, create_group=new).group.group_id == first
    assert ask(network, BOB, create_group=new).group.group_id != first


def test_an_invitation_is_only_for_whom_it_was_made(network: Network) -> None:
    network.directory.unaddable = {CAROL}
    group_id = made(network, BOB)
    (failure,) = ask(
        network, ALICE, change_group_members=change(group_id, wire.MEMBER_ACTION_ADD, CAROL)
    ).member_failures.failures
    assert failure.reason == wire.QUERY_ERROR_REASON_NOT_ALLOWED_BY_PERSON
    invite = wire.Invite(invitation=failure.invitation)
    assert reason(ask(network, DAVE, join_group=invite)) == "INVITE_ENDED"
    assert ask(network, CAROL, join_group=invite).joined.group_id == group_id
    assert reason(ask(network, CAROL, join_group=invite)) == "INVITE_ENDED"


def test_administrators_are_told_who_asks_to_join(network: Network) -> None:
    alice, _ = register(network, ALICE)
    group_id = made(network, BOB, join_approval=True)
    told(alice)
    code = ask(network, ALICE, get_invite=wire.GetInvite(group_id=group_id)).invite
    for _ in range(2):
        assert ask(network, CAROL, join_group=wire.Invite(code=code)).joined.pending
    (requested,) = told(alice)
    assert requested.join_requested.request.requester.identity.phone == CAROL
    taken = wire.AnswerJoinRequests(group_id=group_id, people=[f"phone:{CAROL}"], approve=True)
    assert not ask(network, ALICE, answer_join_requests=taken).member_failures.failures
    assert CAROL in network.directory.groups[group_id].members


def test_somebody_administers_a_group_whose_owner_leaves(network: Network) -> None:
    group_id = made(network, BOB, CAROL)
    ask(network, ALICE, leave_group=wire.LeaveGroup(group_id=group_id))
    assert network.directory.groups[group_id].members == {BOB: True, CAROL: False}


def test_who_is_in_a_group_of_a_community_is_in_the_community(network: Network) -> None:
    town = ask(network, ALICE, create_group=wire.CreateGroup(subject="Town", parent=True)).group
    group_id = made(network, BOB)
    ask(network, ALICE, link_group=wire.LinkGroup(community_id=town.group_id, group_id=group_id))
    assert BOB in network.directory.groups[town.group_id].members
    ask(network, ALICE, change_group_members=change(group_id, wire.MEMBER_ACTION_ADD, CAROL))
    assert CAROL in network.directory.groups[town.group_id].members
    ask(network, CAROL, leave_community=wire.LeaveGroup(group_id=town.group_id))
    assert CAROL not in network.directory.groups[group_id].members
    refused = ask(network, BOB, deactivate_community=wire.DeactivateCommunity(community_id=town.group_id))
    assert reason(refused) == "NOT_AN_ADMIN"


def test_groups_are_there_after_a_restart(network: Network) -> None:
    group_id = made(network, BOB, locked=True, join_approval=True)
    code = ask(network, ALICE, get_invite=wire.GetInvite(group_id=group_id)).invite
    ask(network, CAROL, join_group=wire.Invite(code=code))

    group = network.directory.groups[group_id]
    assert msgspec.convert(msgspec.to_builtins(group), type(group)) == group


def test_a_group_that_is_not_there_is_refused(network: Network) -> None:
    assert reason(ask(network, ALICE, change_members=wire.ChangeMembers())) == "NOT_FOUND"
