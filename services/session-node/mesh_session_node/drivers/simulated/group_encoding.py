"""Groups and communities of the wire, as the session wants them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mesh_session_node.drivers.interface.group_notices import (
    CommunityEnded,
    CommunityGroupsChanged,
    GroupChanged,
    GroupEntered,
    JoinRequested,
    MembersChanged,
)
from mesh_session_node.drivers.interface.groups import (
    GroupChange,
    GroupInfo,
    GroupRules,
    Invitation,
    JoinRequest,
    LinkedGroup,
    Member,
    MemberFailure,
    Named,
)
from mesh_session_node.drivers.simulated.asking import refusal_of
from mesh_session_node.drivers.simulated.encoding import identity_of
from sessionmesh.simnet.v1 import wire_pb2 as wire
from sessionmesh.v1 import group_pb2

GROUP = "group:"


def address_of(group_id: str) -> str:
    """The address of a group; "" for none."""
    return GROUP + group_id if group_id else ""


def id_of(group: str) -> str:
    """The network's id of the group with this address."""
    return group.removeprefix(GROUP)


def group_of(group: wire.Group, *, whole: bool) -> GroupInfo:
    """A group; `whole`: its members are told, too."""
    rules = group.rules
    return GroupInfo(
        address=address_of(group.group_id),
        name=group.subject,
        description=group.description,
        rules=GroupRules(
            announce_only=rules.announce_only,
            locked=rules.locked,
            join_approval=rules.join_approval,
            member_add_mode=_adding(rules.admins_add),
            history_for_new_members=rules.history,
            disappear_seconds=rules.disappear_seconds,
        ),
        own_role=_ROLES.get(group.own_role, group_pb2.GROUP_ROLE_UNSPECIFIED),
        members=[_member(member) for member in group.members] if whole else None,
        member_count=group.member_count,
        creator=named(group.creator) if group.HasField("creator") else None,
        create_time=group.create_time_us,
        picture_id=group.picture_id,
        parent=group.parent,
        announcement_group=address_of(group.announcement_group_id),
        community=address_of(group.community_id),
        announcements=group.announcements,
    )


def named(person: wire.GroupMember) -> Named:
    """Somebody."""
    return Named(person.address, identity_of(person.identity))


def failures_of(failures: Sequence[wire.MemberFailure]) -> list[MemberFailure]:
    """For whom something failed, and why."""
    return [
        MemberFailure(
            failure.person,
            refusal_of(failure.reason),
            invitation=_invitation(failure.invitation) if failure.HasField("invitation") else None,
        )
        for failure in failures
    ]


def request_of(request: wire.JoinRequest) -> JoinRequest:
    """Somebody who asks to join."""
    return JoinRequest(
        named(request.requester),
        request.time_us,
        _METHODS.get(request.method, group_pb2.GROUP_JOIN_METHOD_UNSPECIFIED),
        named(request.added_by) if request.HasField("added_by") else None,
    )


def linked_of(group: wire.CommunityGroup) -> LinkedGroup:
    """A group of a community."""
    return LinkedGroup(
        address_of(group.group_id), group.subject, group.announcements, group.joined, group.member_count
    )


def rules_to_wire(rules: GroupRules) -> wire.GroupRules:
    """How a group behaves."""
    return wire.GroupRules(
        announce_only=rules.announce_only,
        locked=rules.locked,
        join_approval=rules.join_approval,
        admins_add=rules.member_add_mode == group_pb2.GROUP_MEMBER_ADD_MODE_ADMINS,
        history=rules.history_for_new_members,
        disappear_seconds=rules.disappear_seconds,
    )


def change_to_wire(group: str, change: GroupChange) -> wire.ChangeGroup:
    """The one field that is changed."""
    sent = wire.ChangeGroup(group_id=id_of(group))
    if change.member_add_mode is not None:
        sent.admins_add = change.member_add_mode == group_pb2.GROUP_MEMBER_ADD_MODE_ADMINS
    for name, field in _FIELDS.items():
        if (value := getattr(change, name)) is not None:
            setattr(sent, field, value)
    return sent


def entered_of(entered: wire.GroupEntered) -> GroupEntered:
    """The account came into a group."""
    return GroupEntered(group_of(entered.group, whole=True), entered.time_us, _actor(entered))


def changed_of(changed: wire.GroupChanged) -> GroupChanged:
    """Something of a group changed."""
    kind = changed.WhichOneof("change") or ""
    value = getattr(changed, kind, None)
    if kind == "admins_add":
        change = GroupChange(member_add_mode=_adding(bool(value)))
    elif kind == "community_id":
        change = GroupChange(community=address_of(changed.community_id))
    elif kind == "picture_id":
        change = GroupChange(picture_id=changed.picture_id)
    else:
        names = {field: name for name, field in _FIELDS.items()}
        change = GroupChange(**{names[kind]: value}) if kind in names else GroupChange()
    return GroupChanged(address_of(changed.group_id), change, changed.time_us, _actor(changed))


def members_changed_of(changed: wire.MembersChanged) -> MembersChanged:
    """Something happened to members."""
    return MembersChanged(
        address_of(changed.group_id),
        _CHANGES.get(changed.change, group_pb2.GROUP_MEMBER_CHANGE_UNSPECIFIED),
        [named(member) for member in changed.members],
        changed.time_us,
        _actor(changed),
        _METHODS.get(changed.method, group_pb2.GROUP_JOIN_METHOD_UNSPECIFIED),
        changed.reason,
    )


def requested_of(requested: wire.JoinRequested) -> JoinRequested:
    """Somebody asks to join, or does not any more."""
    return JoinRequested(
        address_of(requested.group_id), request_of(requested.request), withdrawn=requested.withdrawn
    )


def groups_changed_of(changed: wire.CommunityGroupsChanged) -> CommunityGroupsChanged:
    """Groups were linked, or unlinked."""
    return CommunityGroupsChanged(
        address_of(changed.community_id),
        changed.time_us,
        [linked_of(group) for group in changed.linked],
        [linked_of(group) for group in changed.unlinked],
        _actor(changed),
    )


def ended_of(ended: wire.CommunityEnded) -> CommunityEnded:
    """A community ended."""
    return CommunityEnded(address_of(ended.community_id), ended.time_us, _actor(ended))


def _actor(
    told: wire.GroupEntered
    | wire.GroupChanged
    | wire.MembersChanged
    | wire.CommunityGroupsChanged
    | wire.CommunityEnded,
) -> Named | None:
    return named(told.actor) if told.HasField("actor") else None


def _member(member: wire.GroupMember) -> Member:
    role = group_pb2.GROUP_ROLE_ADMIN if member.admin else group_pb2.GROUP_ROLE_MEMBER
    return Member(named(member), group_pb2.GROUP_ROLE_OWNER if member.owner else role)


def _invitation(invitation: wire.Invitation) -> Invitation:
    return Invitation(
        address_of(invitation.group_id), invitation.code, invitation.inviter, invitation.expire_time_us
    )


def _adding(admins: bool) -> group_pb2.GroupMemberAddMode.ValueType:
    return group_pb2.GROUP_MEMBER_ADD_MODE_ADMINS if admins else group_pb2.GROUP_MEMBER_ADD_MODE_EVERYONE


_FIELDS = {
    "name": "subject",
    "description": "description",
    "announce_only": "announce_only",
    "locked": "locked",
    "join_approval": "join_approval",
    "history_for_new_members": "history",
    "disappear_seconds": "disappear_seconds",
}
_ROLES: Mapping[wire.GroupRole.ValueType, group_pb2.GroupRole.ValueType] = {
    wire.GROUP_ROLE_MEMBER: group_pb2.GROUP_ROLE_MEMBER,
    wire.GROUP_ROLE_ADMIN: group_pb2.GROUP_ROLE_ADMIN,
    wire.GROUP_ROLE_OWNER: group_pb2.GROUP_ROLE_OWNER,
}
_METHODS: Mapping[wire.JoinMethod.ValueType, group_pb2.GroupJoinMethod.ValueType] = {
    wire.JOIN_METHOD_ADDED: group_pb2.GROUP_JOIN_METHOD_ADDED,
    wire.JOIN_METHOD_INVITE_LINK: group_pb2.GROUP_JOIN_METHOD_INVITE_LINK,
    wire.JOIN_METHOD_INVITE_MESSAGE: group_pb2.GROUP_JOIN_METHOD_INVITE_MESSAGE,
    wire.JOIN_METHOD_COMMUNITY: group_pb2.GROUP_JOIN_METHOD_COMMUNITY,
}
_CHANGES: Mapping[wire.MemberChange.ValueType, group_pb2.GroupMemberChange.ValueType] = {
    wire.MEMBER_CHANGE_JOINED: group_pb2.GROUP_MEMBER_CHANGE_JOINED,
    wire.MEMBER_CHANGE_ADDED: group_pb2.GROUP_MEMBER_CHANGE_ADDED,
    wire.MEMBER_CHANGE_REMOVED: group_pb2.GROUP_MEMBER_CHANGE_REMOVED,
    wire.MEMBER_CHANGE_LEFT: group_pb2.GROUP_MEMBER_CHANGE_LEFT,
    wire.MEMBER_CHANGE_PROMOTED: group_pb2.GROUP_MEMBER_CHANGE_PROMOTED,
    wire.MEMBER_CHANGE_DEMOTED: group_pb2.GROUP_MEMBER_CHANGE_DEMOTED,
}
