"""What the sidecar tells of groups and communities by itself."""

from __future__ import annotations

from mesh_session_node.drivers.interface.group_notices import (
    CommunityEnded,
    CommunityGroupsChanged,
    GroupChanged,
    GroupEntered,
    JoinRequested,
    MembersChanged,
)
from mesh_session_node.drivers.interface.groups import Named
from mesh_session_node.drivers.whatsapp_web.encoding import micros
from mesh_session_node.drivers.whatsapp_web.group_encoding import (
    change_of,
    group_of,
    join_request_of,
    linked_of,
    named,
)
from sessionmesh.internal.v1 import linked_device_pb2 as pb

Told = (
    pb.DeviceGroupEntered
    | pb.DeviceGroupChanged
    | pb.DeviceMembersChanged
    | pb.DeviceCommunityGroupsChanged
    | pb.DeviceCommunityEnded
)


def entered_of(told: pb.DeviceGroupEntered) -> GroupEntered:
    """The account came into a group."""
    return GroupEntered(group_of(told.group), micros(told.time), _actor(told))


def changed_of(told: pb.DeviceGroupChanged) -> GroupChanged:
    """Something of a group changed."""
    return GroupChanged(told.group, change_of(told.change), micros(told.time), _actor(told))


def members_changed_of(told: pb.DeviceMembersChanged) -> MembersChanged:
    """Something happened to members."""
    return MembersChanged(
        told.group,
        told.change,
        [named(member) for member in told.members],
        micros(told.time),
        _actor(told),
        told.method,
        told.reason,
    )


def requested_of(told: pb.DeviceJoinRequested) -> JoinRequested:
    """Somebody asks to join, or does not any more."""
    return JoinRequested(told.group, join_request_of(told.request), told.withdrawn)


def groups_changed_of(told: pb.DeviceCommunityGroupsChanged) -> CommunityGroupsChanged:
    """A community has more groups, or fewer."""
    linked, unlinked = ([linked_of(group) for group in groups] for groups in (told.linked, told.unlinked))
    return CommunityGroupsChanged(told.community, micros(told.time), linked, unlinked, _actor(told))


def ended_of(told: pb.DeviceCommunityEnded) -> CommunityEnded:
    """A community was ended."""
    return CommunityEnded(told.community, micros(told.time), _actor(told))


def _actor(told: Told) -> Named | None:
    return named(told.actor) if told.HasField("actor") else None
