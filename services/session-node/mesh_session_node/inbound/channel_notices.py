"""What networks tell of channels beside the messages that posts are."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, nullcontext

from mesh_core.ids import Prefix, encode
from mesh_session_node.context.context import SessionContext
from mesh_session_node.drivers.interface.notices import ChannelTold, PostsTold
from mesh_session_node.inbound.channels import Channels, changes
from mesh_session_node.journal import Row
from mesh_session_node.store.messages import MessageStore
from sessionmesh.v1 import channel_pb2


class ChannelNotices:
    """Implements `NoticeTaker`; one for all accounts."""

    def __init__(self, channels: Channels, messages: MessageStore) -> None:
        self._channels = channels
        self._messages = messages

    def turn(
        self, session: SessionContext, notice: ChannelTold | PostsTold
    ) -> AbstractAsyncContextManager[object]:
        if isinstance(notice, PostsTold):
            return nullcontext()  # nothing of them is stored
        return self._channels.turn(session)

    async def take(self, session: SessionContext, notice: ChannelTold | PostsTold) -> Sequence[Row]:
        if isinstance(notice, PostsTold):
            return await self._posts(session, notice)
        before = await self._channels.stored(session, notice.channel.address)
        return changes(session, before, notice.channel)

    async def _posts(self, session: SessionContext, notice: PostsTold) -> Sequence[Row]:
        await name_stored(self._messages, session, notice.posts)
        micros = time.time_ns() // 1000
        return [
            session.events.of(
                "channel.post_updated",
                micros,
                channel_post=channel_pb2.ChannelPostEvent(channel=notice.channel, post=post),
            )
            for post in notice.posts
        ]


async def name_stored(
    messages: MessageStore, session: SessionContext, posts: Sequence[channel_pb2.ChannelPost]
) -> None:
    """Say which posts the mesh has as messages."""
    driver = session.driver
    ids = [post.ref.network_message_id for post in posts]
    own = [uuid for one in ids if (uuid := driver.message_of(one)) is not None]
    stored = await messages.by_network_ids(session.ref.uuid, ids, own)
    for post in posts:
        if (uuid := stored.get(post.ref.network_message_id)) is not None:
            post.ref.message_id = encode(Prefix.MESSAGE, uuid)
