"""What happens in channels: posts, reactions and views, and who is told of them."""

from __future__ import annotations

import secrets
import time

from google.protobuf.message import DecodeError

from mesh_simulator.accounts.account import Account
from mesh_simulator.accounts.addresses import CHANNEL
from mesh_simulator.accounts.channel import BASIC, Channel, Post, Posts
from mesh_simulator.accounts.directory import Directory
from mesh_simulator.messages.inbound import InboundMessages
from sessionmesh.simnet.v1 import wire_pb2 as wire

WATCH_SECONDS = 300
"""How long an account that has asked for a channel's posts is told of changes."""
CHANGE_SECONDS = 30 * 86_400
"""How long a post can be edited and taken back."""


class ChannelPosts:
    """One for all channels."""

    def __init__(self, directory: Directory, inbound: InboundMessages) -> None:
        self._directory = directory
        self._inbound = inbound
        self._posts: dict[str, Posts] = {}

    def of(self, channel: Channel) -> Posts:
        """A channel's posts."""
        return self._posts.setdefault(channel.channel_id, Posts())

    def refuse(
        self, account: Account, channel: Channel, message: bytes
    ) -> wire.RejectReason.ValueType | None:
        """Why the network does not take a message of an account to a channel; None: it does."""
        said = _read(message)
        if said is None:
            return wire.REJECT_REASON_MALFORMED
        if said.WhichOneof("kind") != "reaction":
            return None if channel.runs(account.phone) else wire.REJECT_REASON_NOT_A_MEMBER
        if account.phone not in channel.followers or self.of(channel).find(said.reaction.id) is None:
            return wire.REJECT_REASON_NOT_A_MEMBER
        basic = channel.reactions == wire.CHANNEL_REACTIONS_BASIC and said.reaction.emoji not in ("", *BASIC)
        if channel.reactions == wire.CHANNEL_REACTIONS_NONE or basic:
            return wire.REJECT_REASON_TOO_LARGE
        return None

    def take(self, account: Account, channel: Channel, message_id: str, message: bytes) -> None:
        """A message to a channel that is not refused."""
        said = _read(message)
        if said is None or said.WhichOneof("kind") != "reaction":
            self.post(channel, message_id, message, by=account)
            return
        post = self.of(channel).find(said.reaction.id)
        if post is None:
            return
        post.given.pop(account.phone, None)
        if said.reaction.emoji:
            post.given[account.phone] = said.reaction.emoji
        self.changed(channel, post)

    def post(self, channel: Channel, message_id: str, message: bytes, by: Account | None = None) -> Post:
        """A new post, which everybody gets who follows the channel, but who wrote it."""
        post = self.of(channel).add(message_id or secrets.token_hex(10).upper(), message)
        self._offer(channel, post.id, message, by)
        return post

    def edit(self, channel: Channel, post: Post, message_id: str, message: bytes, by: Account | None) -> None:
        """A post says something else."""
        post.content, post.edit_time_us = message, time.time_ns() // 1000
        content = wire.Content()
        content.edit.id, content.edit.content = post.id, message
        self._offer(channel, message_id or secrets.token_hex(10).upper(), content.SerializeToString(), by)
        self.changed(channel, post, content=True)

    def take_back(self, channel: Channel, post: Post, message_id: str, by: Account | None) -> None:
        """A post is gone."""
        self.of(channel).remove(post)
        content = wire.Content()
        content.revoke.id, content.revoke.sender = post.id, channel.address
        self._offer(channel, message_id, content.SerializeToString(), by)

    def change(
        self, account: Account, channel: Channel, change: wire.ChangeMessage
    ) -> wire.QueryErrorReason.ValueType | None:
        """Change a post; why not, or None: it is done."""
        post = self.of(channel).find(change.message_id)
        if not channel.runs(account.phone):
            return wire.QUERY_ERROR_REASON_NOT_AN_ADMIN
        if post is None:
            return wire.QUERY_ERROR_REASON_UNKNOWN_MESSAGE
        behaviour = account.behaviour
        most = min(
            CHANGE_SECONDS, behaviour.edit_within if change.HasField("edit") else behaviour.revoke_within
        )
        if most in (0, CHANGE_SECONDS) and time.time_ns() // 1000 - post.time_us > most * 1_000_000:
            return wire.QUERY_ERROR_REASON_TOO_LATE
        if change.HasField("edit"):
            self.edit(channel, post, change.id, change.edit, account)
        elif change.HasField("revoke"):
            self.take_back(channel, post, change.id, account)
        else:
            return wire.QUERY_ERROR_REASON_FORBIDDEN
        return None

    def watch(self, account: Account, channel: Channel) -> None:
        """Tell an account of changes, for a while."""
        self.of(channel).watching[account.phone] = time.monotonic() + WATCH_SECONDS

    def changed(self, channel: Channel, post: Post, *, content: bool = False) -> None:
        """Tell who watches."""
        watching, now = self.of(channel).watching, time.monotonic()
        for phone in [phone for phone, until in watching.items() if until < now]:
            del watching[phone]
        for phone in watching:
            account = self._directory.by_phone.get(phone)
            if account is not None and account.client is not None:
                changed = wire.ChangedPosts(channel=channel.address, posts=[post.shown(content=content)])
                account.client.send(wire.Frame(notice=wire.Notice(posts=changed)))

    def _offer(self, channel: Channel, message_id: str, message: bytes, by: Account | None) -> None:
        for phone in channel.followers:
            follower = self._directory.by_phone.get(phone)
            if follower is None or follower is by:
                continue
            came = wire.Inbound(
                id=message_id,
                sender=channel.address,
                chat=channel.address,
                push_name=channel.name,
                content=message,
            )
            self._inbound.offer(follower, came)


def channel_at(directory: Directory, address: str) -> Channel | None:
    """The channel at an address, if it is one and there."""
    channel = directory.channels.get(address.removeprefix(CHANNEL)) if address.startswith(CHANNEL) else None
    return None if channel is None or channel.deleted else channel


def _read(message: bytes) -> wire.Content | None:
    try:
        return wire.Content.FromString(message)
    except DecodeError:
        return None
