"""The part of SimulatorService in which others run channels, and what their followers do there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesh_core import addresses
from mesh_core.errors import InvalidField, NotFound
from mesh_core.validation import at_least, required_text, text
from mesh_simulator import views
from mesh_simulator.accounts.channel import MAX_DESCRIPTION, MAX_NAME, Channel
from mesh_simulator.messages.channel_posts import channel_at
from mesh_simulator.resolving import Resolving
from sessionmesh.simulator.v1 import simulator_pb2 as api

if TYPE_CHECKING:
    from grpc.aio import ServicerContext

    Context = ServicerContext[object, object]

_MAX_POSTS = 10_000
"""Of one call."""


class ChannelsService(Resolving):
    """Acts of those who run channels, and of the accounts' phones."""

    async def CreateNetworkChannel(
        self, request: api.CreateNetworkChannelRequest, context: Context
    ) -> api.CreateNetworkChannelResponse:
        name = required_text("name", request.name, MAX_NAME)
        description = text("description", request.description, MAX_DESCRIPTION)
        channel = self._network.channels.make(name, description)
        channel.verified = request.verified
        channel.others = at_least("followers", request.followers, 0)
        self._directory.save_channel(channel)
        return api.CreateNetworkChannelResponse(channel=self._channel_view(channel))

    async def ChangeNetworkChannel(
        self, request: api.ChangeNetworkChannelRequest, context: Context
    ) -> api.ChangeNetworkChannelResponse:
        channel = self._channel(request.channel)
        channels, change = self._network.channels, request.WhichOneof("change")
        if change == "name":
            channel.name = required_text("name", request.name, MAX_NAME)
            channels.changed(channel)
        elif change == "deleted":
            channels.delete(channel)
        elif change is not None:
            account = self._account(getattr(request, change), change)
            channels.follow(channel, account, follow=change != "left_by")
            if change == "admin" and account.phone not in channel.admins:
                channel.admins.append(account.phone)
                self._directory.save_channel(channel)
            channels.tell(channel, account)
        else:
            raise InvalidField("change", "is required")
        self._network.flush()
        return api.ChangeNetworkChannelResponse(channel=self._channel_view(channel))

    async def PostInNetworkChannel(
        self, request: api.PostInNetworkChannelRequest, context: Context
    ) -> api.PostInNetworkChannelResponse:
        channel = self._channel(request.channel)
        content = views.posted_content(request)
        if not 0 <= request.count <= _MAX_POSTS:
            raise InvalidField("count", f"must be between 0 and {_MAX_POSTS:,}")
        posts = self._network.posts
        if request.edits:
            post = posts.of(channel).find(request.edits)
            if post is None:
                raise NotFound("network post", request.edits)
            posts.edit(channel, post, "", content, None)
        else:
            post = posts.post(channel, "", content)
            for _ in range(request.count - 1):
                post = posts.post(channel, "", content)
        self._network.flush()
        return api.PostInNetworkChannelResponse(network_message_id=post.id)

    async def ReactInNetworkChannel(
        self, request: api.ReactInNetworkChannelRequest, context: Context
    ) -> api.ReactInNetworkChannelResponse:
        channel = self._channel(request.channel)
        post = self._network.posts.of(channel).find(request.network_message_id)
        if post is None:
            raise NotFound("network post", request.network_message_id)
        post.views = at_least("views", request.views, 0)
        at_least("count", request.count, 0)
        if emoji := text("emoji", request.emoji, 64):
            post.others.pop(emoji, None)
            if request.count:
                post.others[emoji] = request.count
        self._network.posts.changed(channel, post)
        self._network.flush()
        return api.ReactInNetworkChannelResponse()

    def _channel(self, address: str) -> Channel:
        address = addresses.channel("channel", address)
        channel = channel_at(self._directory, address)
        if channel is None:
            raise NotFound("network channel", address)
        return channel

    def _channel_view(self, channel: Channel) -> api.NetworkChannel:
        return views.channel_view(channel, len(self._network.posts.of(channel)))
