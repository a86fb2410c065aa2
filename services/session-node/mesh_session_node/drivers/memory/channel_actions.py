"""What a link does about channels at the network in memory: one list of them, and of their posts, for all."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from mesh_session_node.drivers.interface.channel_actions import ChannelChanges, ListedPost
from mesh_session_node.drivers.interface.content import OutgoingMessage
from mesh_session_node.drivers.interface.outcomes import Refusal, Refused
from sessionmesh.v1 import channel_pb2, message_pb2
from sessionmesh.v1.channel_pb2 import Channel


@dataclass(slots=True)
class MemoryChannel:
    """A channel; `own_role` and `muted` are what every account is to it. `posts`: oldest first."""

    channel: Channel
    posts: list[ListedPost] = field(default_factory=list)


class MemoryChannelActions:
    """Implements `ChannelActions`. `channels` has the network's, by their addresses."""

    channels: dict[str, MemoryChannel]

    def done(self, name: str, *arguments: Any) -> None:
        """Note an act. Raises `Refused`, `ConnectionEnded`."""
        raise NotImplementedError

    async def create_channel(self, name: str, description: str, picture: bytes) -> Channel:
        self.done("create_channel", name, description, picture)
        number = len(self.channels) + 1
        channel = Channel(
            address=f"channel:{number}",
            name=name,
            description=description,
            picture_id=f"picture-{number}" if picture else "",
            reactions=channel_pb2.CHANNEL_REACTIONS_ALL,
            state=channel_pb2.CHANNEL_STATE_ACTIVE,
            own_role=channel_pb2.CHANNEL_ROLE_OWNER,
            follower_count=0,
            invite_code=f"invite-{number}",
        )
        channel.create_time.FromNanoseconds(time.time_ns())
        self.channels[channel.address] = MemoryChannel(channel)
        return _copy(channel)

    async def fetch_channel(self, address: str, invite_code: str = "") -> Channel:
        self.done("fetch_channel", address, invite_code)
        if not address:
            address = next(
                (at for at, one in self.channels.items() if one.channel.invite_code == invite_code), ""
            )
        return _copy(self._channel(address))

    async def list_channels(self) -> Sequence[Channel]:
        self.done("list_channels")
        guest = channel_pb2.CHANNEL_ROLE_GUEST
        return [_copy(one.channel) for one in self.channels.values() if one.channel.own_role != guest]

    async def update_channel(self, address: str, changes: ChannelChanges) -> Channel:
        self.done("update_channel", address, changes)
        channel = self._channel(address, run=True)
        if changes.name is not None:
            channel.name = changes.name
        if changes.description is not None:
            channel.description = changes.description
        if changes.picture is not None:
            channel.picture_id = f"picture of {len(changes.picture)} bytes" if changes.picture else ""
        if changes.reactions is not None:
            channel.reactions = changes.reactions
        return _copy(channel)

    async def delete_channel(self, address: str) -> None:
        self.done("delete_channel", address)
        if self._channel(address).own_role != channel_pb2.CHANNEL_ROLE_OWNER:
            raise Refused(Refusal.NOT_AN_ADMIN)
        del self.channels[address]

    async def follow_channel(self, address: str) -> Channel:
        self.done("follow_channel", address)
        channel = self._channel(address)
        if channel.own_role == channel_pb2.CHANNEL_ROLE_GUEST:
            channel.own_role = channel_pb2.CHANNEL_ROLE_FOLLOWER
        return _copy(channel)

    async def unfollow_channel(self, address: str) -> None:
        self.done("unfollow_channel", address)
        channel = self._channel(address)
        if channel.own_role == channel_pb2.CHANNEL_ROLE_OWNER:
            raise Refused(Refusal.OTHER, "the owner cannot leave")
        channel.own_role, channel.muted = channel_pb2.CHANNEL_ROLE_GUEST, False

    async def mute_channel(self, address: str, *, muted: bool) -> None:
        self.done("mute_channel", address, muted)
        channel = self._channel(address)
        if channel.own_role == channel_pb2.CHANNEL_ROLE_GUEST:
            raise Refused(Refusal.NOT_A_MEMBER)
        channel.muted = muted

    async def list_posts(self, address: str, before: int, most: int) -> Sequence[ListedPost]:
        self.done("list_posts", address, before, most)
        self._channel(address)
        posts = reversed(self.channels[address].posts)
        return [post for post in posts if not before or post.number < before][:most]

    def posted(self, message: OutgoingMessage) -> None:
        """A message was handed over: to a channel it is a post, or a reaction to one."""
        channel = self.channels.get(message.to)
        if channel is None:
            return
        said = message_pb2.SendMessageRequest.FromString(message.payload).content
        if said.HasField("reaction"):
            about = said.reaction.message.network_message_id
            for one in channel.posts:
                if one.post.ref.network_message_id == about:
                    one.post.reactions.add(emoji=said.reaction.emoji, count=1)
            return
        post = channel_pb2.ChannelPost(content=said)
        post.ref.network_message_id, post.ref.chat = message.network_id, message.to
        channel.posts.append(ListedPost(len(channel.posts) + 1, post))

    def _channel(self, address: str, *, run: bool = False) -> Channel:
        if address not in self.channels:
            raise Refused(Refusal.UNKNOWN_CHAT)
        channel = self.channels[address].channel
        if run and channel.own_role < channel_pb2.CHANNEL_ROLE_ADMIN:
            raise Refused(Refusal.NOT_AN_ADMIN)
        return channel


def _copy(channel: Channel) -> Channel:
    copy = Channel()
    copy.CopyFrom(channel)
    return copy
