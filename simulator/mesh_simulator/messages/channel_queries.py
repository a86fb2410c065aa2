"""Queries about channels, and what else changes them."""

from __future__ import annotations

import time
from hashlib import sha256

from mesh_core.framing import MAX_FRAME_BYTES
from mesh_simulator.accounts.account import Account
from mesh_simulator.accounts.channel import MAX_DESCRIPTION, MAX_NAME, Channel, new_channel_id, new_code
from mesh_simulator.accounts.directory import Directory
from mesh_simulator.accounts.queries import Handlers, done, error
from mesh_simulator.messages.channel_posts import WATCH_SECONDS, ChannelPosts, channel_at
from mesh_simulator.messages.notices import Notices
from sessionmesh.simnet.v1 import wire_pb2 as wire

MAX_POSTS = 100
"""Of one answer."""
MAX_ANSWER_BYTES = MAX_FRAME_BYTES // 2


class ChannelQueries:
    """Answers them."""

    def __init__(self, directory: Directory, posts: ChannelPosts, notices: Notices) -> None:
        self._directory = directory
        self._posts = posts
        self._notices = notices

    def handlers(self) -> Handlers:
        """By the kind of query."""
        return {
            "create_channel": self._create,
            "get_channel": self._get,
            "list_channels": self._list,
            "change_channel": self._change,
            "follow_channel": self._follow,
            "mute_channel": self._mute,
            "list_posts": self._list_posts,
        }

    def make(self, name: str, description: str, picture: bytes = b"", owner: str = "") -> Channel:
        """A new channel; `owner` is an account's phone number, empty: nobody's here."""
        channel = Channel(
            channel_id=new_channel_id(),
            name=name,
            create_time_us=time.time_ns() // 1000,
            description=description,
            picture_id=_picture_id(picture),
            invite_code=new_code(),
            owner=owner,
            followers={owner: False} if owner else {},
        )
        self._directory.channels[channel.channel_id] = channel
        self._directory.save_channel(channel)
        return channel

    def changed(self, channel: Channel, by: str = "") -> None:
        """A channel is another now: everybody is told who follows it, but who has changed it."""
        self._directory.save_channel(channel)
        for phone in channel.followers:
            account = self._directory.by_phone.get(phone)
            if account is not None and phone != by:
                self.tell(channel, account)

    def tell(self, channel: Channel, account: Account) -> None:
        """Tell an account of a channel as it is now."""
        self._notices.offer(account, wire.Notice(channel=channel.shown_to(account)))

    def follow(self, channel: Channel, account: Account, *, follow: bool) -> None:
        """An account follows a channel, or does so no more."""
        if follow:
            channel.followers.setdefault(account.phone, False)
        else:
            channel.followers.pop(account.phone, None)
            if account.phone in channel.admins:
                channel.admins.remove(account.phone)
        self._directory.save_channel(channel)

    def delete(self, channel: Channel, by: str = "") -> None:
        """A channel goes, for everyone."""
        channel.deleted = True
        self.changed(channel, by)
        channel.followers.clear()
        self._directory.save_channel(channel)

    def _create(self, account: Account, query: wire.Query) -> wire.Answer:
        asked = query.create_channel
        if not _fits(asked.name, asked.description):
            return error(query, wire.QUERY_ERROR_REASON_MALFORMED, "no such name or description")
        channel = self.make(asked.name, asked.description, asked.picture, account.phone)
        return _shown(query, channel, account)

    def _get(self, account: Account, query: wire.Query) -> wire.Answer:
        asked = query.get_channel
        if asked.address:
            channel = channel_at(self._directory, asked.address)
        else:
            codes = {one.invite_code: one for one in self._directory.channels.values() if not one.deleted}
            channel = codes.get(asked.invite_code)
        return _missing(query) if channel is None else _shown(query, channel, account)

    def _list(self, account: Account, query: wire.Query) -> wire.Answer:
        answer = wire.Answer(id=query.id)
        answer.channels.SetInParent()
        for channel in self._directory.channels.values():
            if account.phone in channel.followers and answer.ByteSize() < MAX_ANSWER_BYTES:
                answer.channels.channels.append(channel.shown_to(account))
        return answer

    def _change(self, account: Account, query: wire.Query) -> wire.Answer:
        asked = query.change_channel
        channel = channel_at(self._directory, asked.address)
        if channel is None:
            return _missing(query)
        role = channel.role(account.phone)
        if role < (wire.CHANNEL_ROLE_OWNER if asked.delete else wire.CHANNEL_ROLE_ADMIN):
            return done(query, wire.QUERY_ERROR_REASON_NOT_AN_ADMIN)
        if asked.delete:
            self.delete(channel, account.phone)
            return done(query, None)
        name = asked.name if asked.HasField("name") else channel.name
        description = asked.description if asked.HasField("description") else channel.description
        if not _fits(name, description):
            return error(query, wire.QUERY_ERROR_REASON_MALFORMED, "no such name or description")
        channel.name, channel.description = name, description
        if asked.HasField("picture"):
            channel.picture_id = _picture_id(asked.picture)
        if asked.HasField("reactions"):
            channel.reactions = asked.reactions or wire.CHANNEL_REACTIONS_ALL
        self.changed(channel, account.phone)
        return _shown(query, channel, account)

    def _follow(self, account: Account, query: wire.Query) -> wire.Answer:
        asked = query.follow_channel
        channel = channel_at(self._directory, asked.address)
        if channel is None:
            return _missing(query)
        if not asked.follow and account.phone == channel.owner:
            return error(query, wire.QUERY_ERROR_REASON_MALFORMED, "the owner cannot leave")
        self.follow(channel, account, follow=asked.follow)
        return _shown(query, channel, account)

    def _mute(self, account: Account, query: wire.Query) -> wire.Answer:
        asked = query.mute_channel
        channel = channel_at(self._directory, asked.address)
        if channel is None:
            return _missing(query)
        if account.phone not in channel.followers:
            return done(query, wire.QUERY_ERROR_REASON_NOT_A_MEMBER)
        channel.followers[account.phone] = asked.muted
        self._directory.save_channel(channel)
        return _shown(query, channel, account)

    def _list_posts(self, account: Account, query: wire.Query) -> wire.Answer:
        asked = query.list_posts
        channel = channel_at(self._directory, asked.address)
        if channel is None:
            return _missing(query)
        answer = wire.Answer(id=query.id)
        if asked.watch:
            self._posts.watch(account, channel)
            answer.posts.watched_seconds = WATCH_SECONDS
        answer.posts.SetInParent()
        size, most = 0, min(asked.count or MAX_POSTS, MAX_POSTS)
        for post in self._posts.of(channel).before(asked.before):
            shown = post.shown()
            size += shown.ByteSize()
            if len(answer.posts.posts) == most or (answer.posts.posts and size > MAX_ANSWER_BYTES):
                break
            answer.posts.posts.append(shown)
        return answer


def _fits(name: str, description: str) -> bool:
    return 0 < len(name) <= MAX_NAME and len(description) <= MAX_DESCRIPTION


def _picture_id(picture: bytes) -> str:
    return sha256(picture).hexdigest()[:16] if picture else ""


def _shown(query: wire.Query, channel: Channel, account: Account) -> wire.Answer:
    return wire.Answer(id=query.id, channel=channel.shown_to(account))


def _missing(query: wire.Query) -> wire.Answer:
    return error(query, wire.QUERY_ERROR_REASON_NOT_FOUND, "no such channel")
