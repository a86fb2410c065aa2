"""Acts about channels: those that the account follows or runs, and what is posted there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from sessionmesh.v1.channel_pb2 import Channel, ChannelPost, ChannelReactions


@dataclass(frozen=True, slots=True)
class ChannelChanges:
    """What of a channel becomes another; None: it stays. `picture` is a JPEG; empty: there is none then."""

    name: str | None = None
    description: str | None = None
    picture: bytes | None = None
    reactions: ChannelReactions.ValueType | None = None


@dataclass(frozen=True, slots=True)
class ListedPost:
    """A post, and its number in its channel, which rises from post to post. The `ref` has no `message_id`."""

    number: int
    post: ChannelPost


class ChannelActions(Protocol):
    """Acts about channels. What is returned of one has everything that the network tells, and no `etag`,
    `picture_media_id` or `invite_url`. One that is not there, or that is gone, is UNKNOWN_CHAT.
    """

    async def create_channel(self, name: str, description: str, picture: bytes) -> Channel:
        """Make a channel, which the account owns. Doing it twice makes two."""

    async def fetch_channel(self, address: str, invite_code: str = "") -> Channel:
        """What a channel is, by its address, or where that is "" by the code of its invite link."""

    async def list_channels(self) -> Sequence[Channel]:
        """All channels that the account follows or runs, in no order."""

    async def update_channel(self, address: str, changes: ChannelChanges) -> Channel:
        """Change a channel that the account runs; as it is then."""

    async def delete_channel(self, address: str) -> None:
        """Delete a channel that the account owns, for everyone."""

    async def follow_channel(self, address: str) -> Channel:
        """Follow a channel; as it is then."""

    async def unfollow_channel(self, address: str) -> None:
        """Follow a channel no more."""

    async def mute_channel(self, address: str, *, muted: bool) -> None:
        """Mute a channel that the account follows, or mute it no more."""

    async def list_posts(self, address: str, before: int, most: int) -> Sequence[ListedPost]:
        """At most so many posts of a channel, newest first: those whose numbers are below `before`, or with 0
        the newest. Only where there are none is it empty. For a while afterwards the network tells when they
        are seen and reacted to.
        """
