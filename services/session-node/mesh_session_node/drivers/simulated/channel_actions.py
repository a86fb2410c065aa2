"""Acts about channels."""

from __future__ import annotations

from collections.abc import Sequence

from mesh_session_node.drivers.interface.channel_actions import ChannelChanges, ListedPost
from mesh_session_node.drivers.simulated.asking import Asking
from mesh_session_node.drivers.simulated.encoding import content_of
from sessionmesh.simnet.v1 import wire_pb2 as wire
from sessionmesh.v1 import channel_pb2
from sessionmesh.v1.channel_pb2 import Channel

_INT64 = 2**63 - 1


class SimulatedChannelActions(Asking):
    """Implements `ChannelActions`. The wire's enums have the API's numbers."""

    __slots__ = ()

    async def create_channel(self, name: str, description: str, picture: bytes) -> Channel:
        asked = wire.CreateChannel(name=name, description=description, picture=picture)
        return channel_of((await self.ask(wire.Query(create_channel=asked))).channel)

    async def fetch_channel(self, address: str, invite_code: str = "") -> Channel:
        asked = wire.GetChannel(address=address, invite_code=invite_code)
        return channel_of((await self.ask(wire.Query(get_channel=asked))).channel)

    async def list_channels(self) -> Sequence[Channel]:
        answer = await self.ask(wire.Query(list_channels=wire.ListChannels()))
        return [channel_of(one) for one in answer.channels.channels]

    async def update_channel(self, address: str, changes: ChannelChanges) -> Channel:
        asked = wire.ChangeChannel(
            address=address,
            name=changes.name,
            description=changes.description,
            picture=changes.picture,
            reactions=changes.reactions,  # type: ignore[arg-type]  # the same numbers
        )
        return channel_of((await self.ask(wire.Query(change_channel=asked))).channel)

    async def delete_channel(self, address: str) -> None:
        await self.ask(wire.Query(change_channel=wire.ChangeChannel(address=address, delete=True)))

    async def follow_channel(self, address: str) -> Channel:
        asked = wire.FollowChannel(address=address, follow=True)
        return channel_of((await self.ask(wire.Query(follow_channel=asked))).channel)

    async def unfollow_channel(self, address: str) -> None:
        await self.ask(wire.Query(follow_channel=wire.FollowChannel(address=address)))

    async def mute_channel(self, address: str, *, muted: bool) -> None:
        await self.ask(wire.Query(mute_channel=wire.MuteChannel(address=address, muted=muted)))

    async def list_posts(self, address: str, before: int, most: int) -> Sequence[ListedPost]:
        asked = wire.ListPosts(address=address, before=before, count=most, watch=True)
        answer = await self.ask(wire.Query(list_posts=asked))
        return [ListedPost(min(post.number, _INT64), post_of(address, post)) for post in answer.posts.posts]


def channel_of(told: wire.Channel) -> Channel:
    """A channel as the wire says it."""
    channel = Channel(
        address=told.address,
        name=told.name,
        description=told.description,
        picture_id=told.picture_id,
        reactions=told.reactions,  # type: ignore[arg-type]  # the same numbers
        state=told.state,  # type: ignore[arg-type]
        own_role=told.role,  # type: ignore[arg-type]
        muted=told.muted,
        verified=told.verified,
        follower_count=min(told.followers, _INT64),
        invite_code=told.invite_code,
    )
    if told.create_time_us:
        channel.create_time.FromMicroseconds(min(told.create_time_us, _LATEST))
    return channel


def post_of(address: str, told: wire.Post) -> channel_pb2.ChannelPost:
    """A post as the wire says it."""
    post = channel_pb2.ChannelPost(view_count=min(told.views, _INT64))
    post.ref.network_message_id, post.ref.chat, post.ref.sender = told.id, address, address
    if told.content:
        post.content.CopyFrom(content_of(told.content))
    if told.time_us:
        post.post_time.FromMicroseconds(min(told.time_us, _LATEST))
    if told.edit_time_us:
        post.edit_time.FromMicroseconds(min(told.edit_time_us, _LATEST))
    for emoji, count in told.reactions.items():
        post.reactions.add(emoji=emoji, count=min(count, _INT64))
    return post


_LATEST = 253_402_300_799_999_999
"""Microseconds: the end of the year 9999, after which the proto's times have no form."""
