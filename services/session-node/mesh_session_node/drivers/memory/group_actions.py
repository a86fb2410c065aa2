"""What a link does about groups at the network in memory: it is noted, and refused as the test says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mesh_session_node.drivers.interface.groups import (
    Created,
    GroupChange,
    GroupInfo,
    GroupRules,
    Invitation,
    Invite,
    InviteLink,
    Joined,
    JoinRequest,
    LinkedGroup,
    Member,
    MemberFailure,
    Named,
    NewGroup,
)
from mesh_session_node.drivers.interface.outcomes import Refusal, Refused
from mesh_session_node.drivers.interface.pictures import Picture
from sessionmesh.v1 import group_pb2

OWN = "phone:self"
"""What groups in memory have the account as."""


class MemoryGroups:
    """The groups of one network: all that its links share."""

    def __init__(self) -> None:
        self.groups: dict[str, GroupInfo] = {}
        """By address, also those that the account is not in."""
        self.tokens: dict[str, str] = {}
        """The groups that tokens have made."""
        self.codes: dict[str, str] = {}
        """The groups that invites lead to, by their codes."""
        self.pictures: dict[str, bytes] = {}
        self.requests: dict[str, list[JoinRequest]] = {}
        """Who asks to join, by the group."""
        self.unaddable: set[str] = set()
        """Addresses of people who can only be invited."""

    def put(self, group: GroupInfo) -> GroupInfo:
        """A group is like this from now on."""
        own = [member.role for member in group.members or () if member.person.address == OWN]
        group = replace(
            group,
            own_role=own[0] if own else group_pb2.GROUP_ROLE_UNSPECIFIED,
            member_count=len(group.members or ()),
        )
        self.groups[group.address] = group
        return group


class MemoryGroupActions:
    """Implements `GroupActions` and `CommunityActions`."""

    def __init__(self) -> None:
        self.of_groups = MemoryGroups()

    def done(self, name: str, *arguments: Any) -> None:
        """As `MemoryActions.done`."""
        raise NotImplementedError

    async def list_groups(self) -> Sequence[GroupInfo]:
        self.done("list_groups")
        return [group for group in self.of_groups.groups.values() if group.own_role]

    async def get_group(self, group: str) -> GroupInfo:
        self.done("get_group", group)
        return self._group(group)

    async def create_group(self, new: NewGroup) -> Created:
        self.done("create_group", new)
        return self._create(new, parent=False)

    async def change_group(self, group: str, change: GroupChange) -> None:
        info = self._group(group, admin=True)
        self.done("change_group", group, change)
        given = {
            name: value
            for name in GroupChange.__dataclass_fields__
            if (value := getattr(change, name)) is not None
        }
        of_rules = {name: value for name, value in given.items() if name in GroupRules.__dataclass_fields__}
        rest = {name: value for name, value in given.items() if name not in of_rules}
        self.of_groups.put(replace(info, rules=replace(info.rules, **of_rules), **rest))

    async def set_group_picture(self, group: str, picture: bytes) -> str:
        info = self._group(group, admin=True)
        self.done("set_group_picture", group, picture)
        self.of_groups.pictures[group] = picture
        picture_id = str(hash(picture)) if picture else ""
        self.of_groups.put(replace(info, picture_id=picture_id))
        return picture_id

    async def group_picture(self, group: str, *, preview: bool) -> Picture | None:
        info = self._group(group)
        self.done("group_picture", group, preview)
        return Picture(info.picture_id, self.of_groups.pictures[group]) if info.picture_id else None

    async def change_members(
        self, group: str, action: group_pb2.GroupMemberAction.ValueType, people: Sequence[str]
    ) -> Sequence[MemberFailure]:
        info = self._group(group, admin=True)
        self.done("change_members", group, action, tuple(people))
        members = {member.person.address: member for member in info.members or ()}
        failures = []
        for person in people:
            if action == group_pb2.GROUP_MEMBER_ACTION_ADD:
                if person in self.of_groups.unaddable:
                    invitation = Invitation(group, f"code of {person}", OWN, 2_000_000_000_000_000)
                    self.of_groups.codes[invitation.code] = group
                    failures.append(
                        MemberFailure(person, Refusal.NOT_ALLOWED_BY_PERSON, invitation=invitation)
                    )
                else:
                    members.setdefault(person, Member(Named(person)))
            elif action == group_pb2.GROUP_MEMBER_ACTION_REMOVE:
                members.pop(person, None)
            elif person not in members:
                failures.append(MemberFailure(person, Refusal.NOT_A_MEMBER))
            else:
                promoted = action == group_pb2.GROUP_MEMBER_ACTION_PROMOTE
                role = group_pb2.GROUP_ROLE_ADMIN if promoted else group_pb2.GROUP_ROLE_MEMBER
                members[person] = replace(members[person], role=role)
        self.of_groups.put(replace(info, members=[*members.values()]))
        return failures

    async def leave_group(self, group: str) -> None:
        info = self._group(group)
        self.done("leave_group", group)
        left = [member for member in info.members or () if member.person.address != OWN]
        self.of_groups.put(replace(info, members=left))

    async def group_invite(self, group: str, *, reset: bool) -> InviteLink:
        self._group(group, admin=True)
        self.done("group_invite", group, reset)
        codes = self.of_groups.codes
        code = next((code for code, of in codes.items() if of == group), "")
        if reset or not code:
            codes.pop(code, None)
            code = f"code-{len(self.of_groups.tokens)}-{len(getattr(self, 'acts', ()))}"
            codes[code] = group
        return InviteLink(code, f"https://memory.example/{code}")

    async def preview_invite(self, invite: Invite) -> GroupInfo:
        self.done("preview_invite", invite)
        return replace(self._invited(invite), members=None)

    async def join_group(self, invite: Invite) -> Joined:
        info = self._invited(invite)
        self.done("join_group", invite)
        if info.own_role:
            return Joined(info.address)
        if info.rules.join_approval and isinstance(invite, str):
            return Joined(info.address, pending=True)
        self.of_groups.put(replace(info, members=[*(info.members or ()), Member(Named(OWN))]))
        return Joined(info.address)

    async def list_join_requests(self, group: str) -> Sequence[JoinRequest]:
        self._group(group, admin=True)
        self.done("list_join_requests", group)
        return [*self.of_groups.requests.get(group, ())]

    async def answer_join_requests(
        self, group: str, people: Sequence[str], *, approve: bool
    ) -> Sequence[MemberFailure]:
        info = self._group(group, admin=True)
        self.done("answer_join_requests", group, tuple(people), approve)
        asking = {one.requester.address: one for one in self.of_groups.requests.get(group, ())}
        failures = [MemberFailure(one, Refusal.UNKNOWN_PERSON) for one in people if one not in asking]
        taken = [asking.pop(person).requester for person in people if person in asking]
        self.of_groups.requests[group] = [*asking.values()]
        if approve:
            members = [*(info.members or ()), *(Member(person) for person in taken)]
            self.of_groups.put(replace(info, members=members))
        return failures

    async def create_community(self, new: NewGroup) -> GroupInfo:
        self.done("create_community", new)
        community = self._create(new, parent=True).group
        if not community.announcement_group:
            token = f"announcements of {new.token}"
            announcing = self._create(replace(new, token=token, members=()), parent=False).group
            self.of_groups.put(replace(announcing, community=community.address, announcements=True))
            community = replace(community, announcement_group=announcing.address)
            self.of_groups.put(community)
        return self.of_groups.groups[community.address]

    async def link_group(self, community: str, group: str) -> None:
        self._community(community)
        info = self._group(group, admin=True)
        self.done("link_group", community, group)
        self.of_groups.put(replace(info, community=community))

    async def unlink_group(self, community: str, group: str) -> None:
        self._community(community)
        info = self._group(group)
        self.done("unlink_group", community, group)
        if info.community == community:
            self.of_groups.put(replace(info, community=""))

    async def community_groups(self, community: str) -> Sequence[LinkedGroup]:
        self._community(community)
        self.done("community_groups", community)
        return [
            LinkedGroup(one.address, one.name, one.announcements, bool(one.own_role), one.member_count)
            for one in self.of_groups.groups.values()
            if one.community == community
        ]

    async def leave_community(self, community: str) -> None:
        self._community(community)
        for group in [*self.of_groups.groups.values()]:
            if group.community == community and group.own_role:
                await self.leave_group(group.address)
        await self.leave_group(community)

    async def deactivate_community(self, community: str) -> None:
        info = self._community(community)
        if info.own_role != group_pb2.GROUP_ROLE_OWNER:
            raise Refused(Refusal.NOT_AN_ADMIN)
        self.done("deactivate_community", community)
        for group in [*self.of_groups.groups.values()]:
            if group.community == community:
                self.of_groups.put(replace(group, community=""))
        self.of_groups.put(replace(info, members=[]))

    # ---

    def _group(self, address: str, *, admin: bool = False) -> GroupInfo:
        group = self.of_groups.groups.get(address)
        if group is None:
            raise Refused(Refusal.UNKNOWN_CHAT)
        if not group.own_role:
            raise Refused(Refusal.NOT_A_MEMBER)
        if admin and group.own_role == group_pb2.GROUP_ROLE_MEMBER:
            raise Refused(Refusal.NOT_AN_ADMIN)
        return group

    def _community(self, address: str) -> GroupInfo:
        community = self._group(address)
        if not community.parent:
            raise Refused(Refusal.UNKNOWN_CHAT)
        return community

    def _invited(self, invite: Invite) -> GroupInfo:
        code = invite.removeprefix("https://memory.example/") if isinstance(invite, str) else invite.code
        address = self.of_groups.codes.get(code)
        if address is None:
            raise Refused(Refusal.INVITE_ENDED)
        return self.of_groups.groups[address]

    def _create(self, new: NewGroup, *, parent: bool) -> Created:
        if (made := self.of_groups.tokens.get(new.token)) is not None:
            return Created(self.of_groups.groups[made])
        people = [person for person in new.members if person not in self.of_groups.unaddable]
        address = f"group:made-{len(self.of_groups.groups) + 1}"
        group = self.of_groups.put(
            GroupInfo(
                address=address,
                name=new.name,
                description=new.description,
                rules=new.rules,
                members=[
                    Member(Named(OWN), group_pb2.GROUP_ROLE_OWNER),
                    *(Member(Named(person)) for person in people),
                ],
                creator=Named(OWN),
                create_time=1_700_000_000_000_000,
                picture_id="",
                parent=parent,
                community=new.community,
            )
        )
        self.of_groups.tokens[new.token] = address
        refused = [person for person in new.members if person in self.of_groups.unaddable]
        failures = [
            MemberFailure(
                person,
                Refusal.NOT_ALLOWED_BY_PERSON,
                invitation=Invitation(address, f"code of {person}", OWN),
            )
            for person in refused
        ]
        return Created(group, failures)
