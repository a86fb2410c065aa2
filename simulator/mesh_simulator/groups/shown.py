"""Groups and people as the wire has them, for whoever looks."""

from __future__ import annotations

from mesh_simulator.accounts.addresses import PHONE
from mesh_simulator.accounts.directory import Directory
from mesh_simulator.accounts.group import Group, Request
from sessionmesh.simnet.v1 import wire_pb2 as wire


class Shown:
    """What `viewer`, a phone number, sees."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory

    def person(self, phone: str, viewer: str) -> wire.GroupMember:
        """Somebody; of their role nothing."""
        return wire.GroupMember(
            address=self._address(phone, viewer), identity=self._directory.identity_of(phone)
        )

    def outline(self, group: Group, viewer: str) -> wire.Group:
        """A group without its members."""
        shown = wire.Group(
            group_id=group.group_id,
            subject=group.subject,
            create_time_us=group.create_time_us,
            description=group.description,
            rules=wire.GroupRules(
                announce_only=group.announce_only,
                locked=group.locked,
                join_approval=group.join_approval,
                admins_add=group.admins_add,
                history=group.history,
                disappear_seconds=group.disappear_seconds,
            ),
            picture_id=group.picture_id,
            own_role=role_of(group, viewer),
            member_count=len(group.members),
            parent=group.parent,
            announcement_group_id=group.announcement_group_id,
            community_id=group.community_id,
            announcements=group.announcements,
        )
        if group.owner:
            shown.creator.CopyFrom(self.person(group.owner, viewer))
        return shown

    def whole(self, group: Group, viewer: str) -> wire.Group:
        """A group with its members."""
        shown = self.outline(group, viewer)
        for phone, admin in group.members.items():
            shown.members.add(
                address=self._address(phone, viewer),
                admin=admin,
                owner=admin and phone == group.owner,
                identity=self._directory.identity_of(phone),
            )
        return shown

    def request(self, phone: str, request: Request, viewer: str) -> wire.JoinRequest:
        """Somebody who asks to join."""
        shown = wire.JoinRequest(
            requester=self.person(phone, viewer),
            time_us=request.time_us,
            method=wire.JoinMethod.ValueType(request.method),
        )
        if request.added_by:
            shown.added_by.CopyFrom(self.person(request.added_by, viewer))
        return shown

    def linked(self, group: Group, viewer: str) -> wire.CommunityGroup:
        """A group of a community."""
        return wire.CommunityGroup(
            group_id=group.group_id,
            subject=group.subject,
            announcements=group.announcements,
            joined=viewer in group.members,
            member_count=len(group.members),
        )

    def _address(self, phone: str, viewer: str) -> str:
        return PHONE + phone if phone == viewer else self._directory.address_of(phone)


def role_of(group: Group, phone: str) -> wire.GroupRole.ValueType:
    """What somebody may do in a group."""
    admin = group.members.get(phone)
    if admin is None:
        return wire.GROUP_ROLE_UNSPECIFIED
    if admin and phone == group.owner:
        return wire.GROUP_ROLE_OWNER
    return wire.GROUP_ROLE_ADMIN if admin else wire.GROUP_ROLE_MEMBER
