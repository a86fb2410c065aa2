"""Acts about channels."""

from __future__ import annotations

from collections.abc import Sequence

from mesh_session_node.drivers.interface.channel_actions import ChannelChanges, ListedPost
from mesh_session_node.drivers.whatsapp_web.calling import Calling
from sessionmesh.internal.v1 import linked_device_pb2 as pb
from sessionmesh.v1.channel_pb2 import Channel


class WebChannelActions(Calling):
    """Implements `ChannelActions`."""

    __slots__ = ()

    async def create_channel(self, name: str, description: str, picture: bytes) -> Channel:
        asked = pb.CreateChannelCall(name=name, description=description, picture=picture)
        return (await self.call(pb.DeviceCall(create_channel=asked))).channel

    async def fetch_channel(self, address: str, invite_code: str = "") -> Channel:
        asked = pb.GetChannelCall(channel=address, invite_code=invite_code)
        return (await self.call(pb.DeviceCall(get_channel=asked))).channel

    async def list_channels(self) -> Sequence[Channel]:
        return (await self.call(pb.DeviceCall(list_channels=pb.ListChannelsCall()))).channels

    async def update_channel(self, address: str, changes: ChannelChanges) -> Channel:
        asked = pb.ChangeChannelCall(
            channel=address,
            name=changes.name,
            description=changes.description,
            picture=changes.picture,
            reactions=changes.reactions,
        )
        return (await self.call(pb.DeviceCall(change_channel=asked))).channel

    async def delete_channel(self, address: str) -> None:
        await self.call(pb.DeviceCall(change_channel=pb.ChangeChannelCall(channel=address, delete=True)))

    async def follow_channel(self, address: str) -> Channel:
        asked = pb.FollowChannelCall(channel=address, follow=True)
        return (await self.call(pb.DeviceCall(follow_channel=asked))).channel

    async def unfollow_channel(self, address: str) -> None:
        await self.call(pb.DeviceCall(follow_channel=pb.FollowChannelCall(channel=address)))

    async def mute_channel(self, address: str, *, muted: bool) -> None:
        await self.call(pb.DeviceCall(mute_channel=pb.MuteChannelCall(channel=address, muted=muted)))

    async def list_posts(self, address: str, before: int, most: int) -> Sequence[ListedPost]:
        asked = pb.ListPostsCall(channel=address, before=before, count=most)
        answer = await self.call(pb.DeviceCall(list_posts=asked))
        return [ListedPost(one.number, one.post) for one in answer.posts]
