"""Acts about groups and communities."""

from __future__ import annotations

from collections.abc import Sequence

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
from mesh_session_node.drivers.interface.pictures import Picture
from mesh_session_node.drivers.whatsapp_web.calling import Calling
from mesh_session_node.drivers.whatsapp_web.group_encoding import (
    failure_of_member,
    group_of,
    join_request_of,
    linked_of,
    to_change,
    to_invite,
    to_rules,
)
from sessionmesh.internal.v1 import linked_device_pb2 as pb
from sessionmesh.v1 import group_pb2


class WebGroupActions(Calling):
    """Implements `GroupActions` and `CommunityActions`."""

    __slots__ = ()

    async def list_groups(self) -> Sequence[GroupInfo]:
        answer = await self.call(pb.DeviceCall(list_groups=pb.ListGroupsCall()))
        return [group_of(group) for group in answer.groups]

    async def get_group(self, group: str) -> GroupInfo:
        answer = await self.call(pb.DeviceCall(get_group=pb.GetGroupCall(group=group)))
        return group_of(answer.groups[0])

    async def create_group(self, new: NewGroup) -> Created:
        answer = await self._create(new, parent=False)
        return Created(group_of(answer.groups[0]), _failures(answer))

    async def change_group(self, group: str, change: GroupChange) -> None:
        asked = pb.ChangeGroupCall(group=group, change=to_change(change))
        await self.call(pb.DeviceCall(change_group=asked))

    async def set_group_picture(self, group: str, picture: bytes) -> str:
        asked = pb.SetGroupPictureCall(group=group, picture=picture)
        answer = await self.call(pb.DeviceCall(set_group_picture=asked))
        return answer.group_picture.picture_id

    async def group_picture(self, group: str, *, preview: bool) -> Picture | None:
        asked = pb.GetGroupPictureCall(group=group, preview=preview)
        shown = (await self.call(pb.DeviceCall(get_group_picture=asked))).group_picture
        return Picture(shown.picture_id, shown.data) if shown.picture_id else None

    async def change_members(
        self, group: str, action: group_pb2.GroupMemberAction.ValueType, people: Sequence[str]
    ) -> Sequence[MemberFailure]:
        asked = pb.ChangeMembersCall(group=group, action=action, people=people)
        return _failures(await self.call(pb.DeviceCall(change_members=asked)))

    async def leave_group(self, group: str) -> None:
        await self.call(pb.DeviceCall(leave_group=pb.LeaveGroupCall(group=group)))

    async def group_invite(self, group: str, *, reset: bool) -> InviteLink:
        asked = pb.GroupInviteCall(group=group, reset=reset)
        link = (await self.call(pb.DeviceCall(group_invite=asked))).invite_link
        return InviteLink(link.code, link.url)

    async def preview_invite(self, invite: Invite) -> GroupInfo:
        answer = await self.call(pb.DeviceCall(preview_invite=to_invite(invite)))
        return group_of(answer.groups[0])

    async def join_group(self, invite: Invite) -> Joined:
        joined = (await self.call(pb.DeviceCall(join_group=to_invite(invite)))).joined
        return Joined(joined.group, joined.pending)

    async def list_join_requests(self, group: str) -> Sequence[JoinRequest]:
        asked = pb.ListJoinRequestsCall(group=group)
        answer = await self.call(pb.DeviceCall(list_join_requests=asked))
        return [join_request_of(request) for request in answer.join_requests]

    async def answer_join_requests(
        self, group: str, people: Sequence[str], *, approve: bool
    ) -> Sequence[MemberFailure]:
        asked = pb.AnswerJoinRequestsCall(group=group, people=people, approve=approve)
        return _failures(await self.call(pb.DeviceCall(answer_join_requests=asked)))

    async def create_community(self, new: NewGroup) -> GroupInfo:
        return group_of((await self._create(new, parent=True)).groups[0])

    async def link_group(self, community: str, group: str) -> None:
        asked = pb.LinkGroupCall(community=community, group=group)
        await self.call(pb.DeviceCall(link_group=asked))

    async def unlink_group(self, community: str, group: str) -> None:
        asked = pb.LinkGroupCall(community=community, group=group, unlink=True)
        await self.call(pb.DeviceCall(link_group=asked))

    async def community_groups(self, community: str) -> Sequence[LinkedGroup]:
        asked = pb.CommunityGroupsCall(community=community)
        answer = await self.call(pb.DeviceCall(community_groups=asked))
        return [linked_of(group) for group in answer.community_groups]

    async def leave_community(self, community: str) -> None:
        asked = pb.LeaveGroupCall(group=community, parent=True)
        await self.call(pb.DeviceCall(leave_group=asked))

    async def deactivate_community(self, community: str) -> None:
        await self.call(pb.DeviceCall(end_community=pb.EndCommunityCall(community=community)))

    async def _create(self, new: NewGroup, *, parent: bool) -> pb.DeviceCallResult:
        asked = pb.CreateGroupCall(
            token=new.token,
            name=new.name,
            description=new.description,
            members=new.members,
            rules=to_rules(new.rules),
            community=new.community,
            parent=parent,
        )
        return await self.call(pb.DeviceCall(create_group=asked))


def _failures(answer: pb.DeviceCallResult) -> list[MemberFailure]:
    return [failure_of_member(failure) for failure in answer.member_failures]
