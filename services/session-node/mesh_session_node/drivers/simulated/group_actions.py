"""Acts about groups and communities."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence

from mesh_session_node.drivers.interface.content import Blob
from mesh_session_node.drivers.interface.groups import (
    Created,
    GroupChange,
    GroupInfo,
    Invite,
    InviteLink,
    Joined,
    JoinRequest,
    LinkedGroup,
    MemberFailure,
    NewGroup,
)
from mesh_session_node.drivers.interface.outcomes import BlobUnavailable
from mesh_session_node.drivers.interface.pictures import MAX_PICTURE_BYTES, Picture
from mesh_session_node.drivers.simulated.asking import Asking
from mesh_session_node.drivers.simulated.group_encoding import (
    address_of,
    change_to_wire,
    failures_of,
    group_of,
    id_of,
    linked_of,
    request_of,
    rules_to_wire,
)
from sessionmesh.simnet.v1 import wire_pb2 as wire
from sessionmesh.v1 import group_pb2

INVITE_URL = "https://chat.simulated.example/"
"""How the addresses of invite links begin."""


class SimulatedGroupActions(Asking):
    """Implements `GroupActions` and `CommunityActions`."""

    __slots__ = ()

    async def upload(self, kind: str, pieces: AsyncIterator[bytes]) -> Blob:
        """As `Link.upload`."""
        raise NotImplementedError

    def fetch(self, blob: bytes) -> AsyncIterator[bytes]:
        """As `Link.fetch`."""
        raise NotImplementedError

    async def list_groups(self) -> Sequence[GroupInfo]:
        groups: list[GroupInfo] = []
        after = ""
        while True:
            answer = await self.ask(wire.Query(list_groups=wire.ListGroups(after=after)))
            groups += [group_of(group, whole=False) for group in answer.groups.groups]
            if not answer.groups.more or not answer.groups.groups:
                return groups
            after = answer.groups.groups[-1].group_id

    async def get_group(self, group: str) -> GroupInfo:
        answer = await self.ask(wire.Query(get_group=wire.GetGroup(group_id=id_of(group))))
        return group_of(answer.group, whole=True)

    async def create_group(self, new: NewGroup) -> Created:
        made = await self.ask(wire.Query(create_group=_new(new)))
        return Created(group_of(made.group, whole=True), failures_of(made.group.failures))

    async def change_group(self, group: str, change: GroupChange) -> None:
        await self.ask(wire.Query(change_group=change_to_wire(group, change)))

    async def set_group_picture(self, group: str, picture: bytes) -> str:
        change = wire.ChangeGroup(group_id=id_of(group), picture_ref="")
        if picture:
            change.picture_ref = (await self.upload("image", _one(picture))).ref
        return (await self.ask(wire.Query(change_group=change))).group.picture_id

    async def group_picture(self, group: str, *, preview: bool) -> Picture | None:
        asked = wire.GetGroupPicture(group_id=id_of(group))
        shown = (await self.ask(wire.Query(get_group_picture=asked))).group_picture
        if not shown.picture_id:
            return None
        data = bytearray()
        try:
            async for piece in self.fetch(wire.Blob(ref=shown.ref).SerializeToString()):
                data += piece
                if len(data) > MAX_PICTURE_BYTES:
                    return None
        except BlobUnavailable:
            return None
        return Picture(shown.picture_id, bytes(data))

    async def change_members(
        self, group: str, action: group_pb2.GroupMemberAction.ValueType, people: Sequence[str]
    ) -> Sequence[MemberFailure]:
        change = wire.ChangeGroupMembers(group_id=id_of(group), action=_ACTIONS[action], people=people)
        answer = await self.ask(wire.Query(change_group_members=change))
        return failures_of(answer.member_failures.failures)

    async def leave_group(self, group: str) -> None:
        await self.ask(wire.Query(leave_group=wire.LeaveGroup(group_id=id_of(group))))

    async def group_invite(self, group: str, *, reset: bool) -> InviteLink:
        asked = wire.GetInvite(group_id=id_of(group), reset=reset)
        code = (await self.ask(wire.Query(get_invite=asked))).invite
        return InviteLink(code, INVITE_URL + code)

    async def preview_invite(self, invite: Invite) -> GroupInfo:
        answer = await self.ask(wire.Query(preview_invite=_invite(invite)))
        return group_of(answer.group, whole=False)

    async def join_group(self, invite: Invite) -> Joined:
        joined = (await self.ask(wire.Query(join_group=_invite(invite)))).joined
        return Joined(address_of(joined.group_id), joined.pending)

    async def list_join_requests(self, group: str) -> Sequence[JoinRequest]:
        asked = wire.ListJoinRequests(group_id=id_of(group))
        answer = await self.ask(wire.Query(list_join_requests=asked))
        return [request_of(request) for request in answer.join_requests.requests]

    async def answer_join_requests(
        self, group: str, people: Sequence[str], *, approve: bool
    ) -> Sequence[MemberFailure]:
        said = wire.AnswerJoinRequests(group_id=id_of(group), people=people, approve=approve)
        answer = await self.ask(wire.Query(answer_join_requests=said))
        return failures_of(answer.member_failures.failures)

    async def create_community(self, new: NewGroup) -> GroupInfo:
        made = _new(new)
        made.parent = True
        return group_of((await self.ask(wire.Query(create_group=made))).group, whole=True)

    async def link_group(self, community: str, group: str) -> None:
        link = wire.LinkGroup(community_id=id_of(community), group_id=id_of(group))
        await self.ask(wire.Query(link_group=link))

    async def unlink_group(self, community: str, group: str) -> None:
        link = wire.LinkGroup(community_id=id_of(community), group_id=id_of(group), unlink=True)
        await self.ask(wire.Query(link_group=link))

    async def community_groups(self, community: str) -> Sequence[LinkedGroup]:
        asked = wire.ListCommunityGroups(community_id=id_of(community))
        answer = await self.ask(wire.Query(list_community_groups=asked))
        return [linked_of(group) for group in answer.community_groups.groups]

    async def leave_community(self, community: str) -> None:
        await self.ask(wire.Query(leave_community=wire.LeaveGroup(group_id=id_of(community))))

    async def deactivate_community(self, community: str) -> None:
        ended = wire.DeactivateCommunity(community_id=id_of(community))
        await self.ask(wire.Query(deactivate_community=ended))


def _new(new: NewGroup) -> wire.CreateGroup:
    return wire.CreateGroup(
        subject=new.name,
        members=new.members,
        token=new.token,
        description=new.description,
        rules=rules_to_wire(new.rules),
        community_id=id_of(new.community),
    )


def _invite(invite: Invite) -> wire.Invite:
    if isinstance(invite, str):
        return wire.Invite(code=invite.removeprefix(INVITE_URL))
    return wire.Invite(
        invitation=wire.Invitation(
            group_id=id_of(invite.group),
            code=invite.code,
            inviter=invite.inviter,
            expire_time_us=invite.expire_time,
        )
    )


async def _one(data: bytes) -> AsyncIterator[bytes]:
    yield data


_ACTIONS: Mapping[group_pb2.GroupMemberAction.ValueType, wire.MemberAction.ValueType] = {
    group_pb2.GROUP_MEMBER_ACTION_ADD: wire.MEMBER_ACTION_ADD,
    group_pb2.GROUP_MEMBER_ACTION_REMOVE: wire.MEMBER_ACTION_REMOVE,
    group_pb2.GROUP_MEMBER_ACTION_PROMOTE: wire.MEMBER_ACTION_PROMOTE,
    group_pb2.GROUP_MEMBER_ACTION_DEMOTE: wire.MEMBER_ACTION_DEMOTE,
}
