"""What the sidecar says of groups and communities, and the session's form of it."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp

from mesh_session_node.drivers.interface.groups import (
    GroupChange,
    GroupInfo,
    GroupRules,
    Invitation,
    Invite,
    JoinRequest,
    LinkedGroup,
    Member,
    MemberFailure,
    Named,
)
from mesh_session_node.drivers.whatsapp_web.calling import refusal_of
from mesh_session_node.drivers.whatsapp_web.encoding import identity_of, micros
from sessionmesh.internal.v1 import linked_device_pb2 as pb
from sessionmesh.v1 import group_pb2


def group_of(group: pb.DeviceGroup) -> GroupInfo:
    """A group or community. What its picture is the network does not say along with it."""
    people = [Member(named(one.person), one.role) for one in group.members]
    return GroupInfo(
        address=group.address,
        name=group.name,
        description=group.description,
        rules=GroupRules(
            announce_only=group.announce_only,
            locked=group.locked,
            join_approval=group.join_approval,
            member_add_mode=group.member_add_mode,
            history_for_new_members=group.history_for_new_members,
            disappear_seconds=group.disappear_seconds,
        ),
        own_role=group.own_role,
        members=people if group.members_told else None,
        member_count=group.member_count if group.HasField("member_count") else None,
        creator=named(group.creator) if group.HasField("creator") else None,
        create_time=micros(group.create_time) if group.HasField("create_time") else 0,
        parent=group.parent,
        announcement_group=group.announcement_group,
        community=group.community,
        announcements=group.announcements,
    )


def named(person: pb.DeviceNamed) -> Named:
    """Somebody."""
    return Named(person.address, identity_of(person.identity))


def failure_of_member(failure: pb.DeviceMemberFailure) -> MemberFailure:
    """Why something was not done for somebody."""
    invitation = None
    if failure.HasField("invitation"):
        invite = failure.invitation
        expires = micros(invite.expire_time) if invite.HasField("expire_time") else 0
        invitation = Invitation(invite.group, invite.code, invite.inviter, expires)
    return MemberFailure(failure.person, refusal_of(failure.refusal), failure.detail, invitation)


def join_request_of(request: pb.DeviceJoinRequest) -> JoinRequest:
    """Somebody who asks to join."""
    return JoinRequest(
        named(request.requester),
        micros(request.time) if request.HasField("time") else 0,
        request.method,
        named(request.added_by) if request.HasField("added_by") else None,
    )


def linked_of(group: pb.DeviceLinkedGroup) -> LinkedGroup:
    """A group of a community. Whether the account is in it the network does not say there."""
    count = group.member_count if group.HasField("member_count") else None
    return LinkedGroup(group.address, group.name, group.announcements, None, count)


def change_of(change: pb.DeviceGroupChange) -> GroupChange:
    """What is otherwise now."""

    def is_set(field: str) -> bool:
        return change.HasField(field)  # type: ignore[arg-type]  # one of its fields

    return GroupChange(
        name=change.name if is_set("name") else None,
        description=change.description if is_set("description") else None,
        announce_only=change.announce_only if is_set("announce_only") else None,
        locked=change.locked if is_set("locked") else None,
        join_approval=change.join_approval if is_set("join_approval") else None,
        member_add_mode=change.member_add_mode or None,
        history_for_new_members=(
            change.history_for_new_members if is_set("history_for_new_members") else None
        ),
        disappear_seconds=change.disappear_seconds if is_set("disappear_seconds") else None,
        picture_id=change.picture_id if is_set("picture_id") else None,
        community=change.community if is_set("community") else None,
    )


def to_change(change: GroupChange) -> pb.DeviceGroupChange:
    """What is to be otherwise."""
    return pb.DeviceGroupChange(
        name=change.name,
        description=change.description,
        announce_only=change.announce_only,
        locked=change.locked,
        join_approval=change.join_approval,
        member_add_mode=change.member_add_mode or group_pb2.GROUP_MEMBER_ADD_MODE_UNSPECIFIED,
        history_for_new_members=change.history_for_new_members,
        disappear_seconds=change.disappear_seconds,
    )


def to_rules(rules: GroupRules) -> pb.DeviceGroupChange:
    """How a new group behaves."""
    return pb.DeviceGroupChange(
        announce_only=rules.announce_only,
        locked=rules.locked,
        join_approval=rules.join_approval,
        member_add_mode=rules.member_add_mode,
        disappear_seconds=rules.disappear_seconds,
    )


def to_invite(invite: Invite) -> pb.FollowInviteCall:
    """What leads into a group."""
    if isinstance(invite, str):
        return pb.FollowInviteCall(code=invite)
    invitation = pb.DeviceInvitation(group=invite.group, code=invite.code, inviter=invite.inviter)
    if invite.expire_time:
        expires = Timestamp()
        expires.FromMicroseconds(invite.expire_time)
        invitation.expire_time.CopyFrom(expires)
    return pb.FollowInviteCall(invitation=invitation)
