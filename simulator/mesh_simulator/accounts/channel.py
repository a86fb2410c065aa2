"""The channels of the network, and their posts. Posts are forgotten when the network starts anew."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec

from mesh_simulator.accounts.account import Account
from mesh_simulator.accounts.addresses import CHANNEL
from sessionmesh.simnet.v1 import wire_pb2 as wire

MAX_NAME = 100
MAX_DESCRIPTION = 2_048
BASIC = frozenset({"👍", "❤️", "😂", "😮", "😢", "🙏"})
"""With what followers react where a channel lets them use a few."""


@dataclass(slots=True)
class Post:
    """A post; `content` is a serialised wire.Content. Times are microseconds since the epoch. `given` is with
    what accounts have reacted, by their phone numbers, beside what others have.
    """

    number: int
    id: str
    content: bytes
    time_us: int
    edit_time_us: int = 0
    views: int = 0
    others: dict[str, int] = field(default_factory=dict)
    given: dict[str, str] = field(default_factory=dict)

    def shown(self, *, content: bool = True) -> wire.Post:
        """As the wire says it, with or without what it says."""
        counts = dict(self.others)
        for emoji in self.given.values():
            counts[emoji] = counts.get(emoji, 0) + 1
        return wire.Post(
            number=self.number,
            id=self.id,
            content=self.content if content else b"",
            time_us=self.time_us,
            edit_time_us=self.edit_time_us,
            views=self.views,
            reactions=counts,
        )


class Channel(msgspec.Struct, kw_only=True):
    """A channel. `followers` maps the phone numbers of accounts to whether they have muted it; owner and
    administrators are among them. `others` is how many more follow it.
    """

    channel_id: str
    name: str
    create_time_us: int
    description: str = ""
    picture_id: str = ""
    invite_code: str = ""
    owner: str = ""
    admins: list[str] = []
    followers: dict[str, bool] = {}
    others: int = 0
    reactions: int = wire.CHANNEL_REACTIONS_ALL
    verified: bool = False
    deleted: bool = False

    @property
    def address(self) -> str:
        return CHANNEL + self.channel_id

    def role(self, phone: str) -> wire.ChannelRole.ValueType:
        """What an account is to it."""
        if phone not in self.followers:
            return wire.CHANNEL_ROLE_GUEST
        if phone == self.owner:
            return wire.CHANNEL_ROLE_OWNER
        return wire.CHANNEL_ROLE_ADMIN if phone in self.admins else wire.CHANNEL_ROLE_FOLLOWER

    def runs(self, phone: str) -> bool:
        """Whether an account posts in it and changes it."""
        return self.role(phone) >= wire.CHANNEL_ROLE_ADMIN

    def shown_to(self, account: Account) -> wire.Channel:
        """As the wire says it to one account."""
        return wire.Channel(
            address=self.address,
            name=self.name,
            description=self.description,
            picture_id=self.picture_id,
            reactions=wire.ChannelReactions.ValueType(self.reactions),
            state=wire.CHANNEL_STATE_DELETED if self.deleted else wire.CHANNEL_STATE_ACTIVE,
            role=self.role(account.phone),
            muted=self.followers.get(account.phone, False),
            verified=self.verified,
            followers=len(self.followers) + self.others,
            invite_code=self.invite_code,
            create_time_us=self.create_time_us,
        )


class Posts:
    """The posts of one channel, by number and by id."""

    __slots__ = ("_by_id", "_posts", "watching")

    def __init__(self) -> None:
        self._posts: list[Post] = []
        self._by_id: dict[str, Post] = {}
        self.watching: dict[str, float] = {}
        """Until when accounts are told of changes, in monotonic seconds, by phone number."""

    def __len__(self) -> int:
        return len(self._posts)

    def add(self, message_id: str, content: bytes) -> Post:
        """A new post."""
        post = Post(
            (self._posts[-1].number if self._posts else 100) + 1, message_id, content, time.time_ns() // 1000
        )
        self._posts.append(post)
        self._by_id[post.id] = post
        return post

    def find(self, message_id: str) -> Post | None:
        return self._by_id.get(message_id)

    def remove(self, post: Post) -> None:
        """It was taken back."""
        del self._by_id[post.id]
        self._posts.remove(post)

    def before(self, number: int) -> Iterator[Post]:
        """Newest first, those below a number; 0: all."""
        end = len(self._posts)
        if number:
            low, high = 0, end
            while low < high:
                middle = (low + high) // 2
                if self._posts[middle].number < number:
                    low = middle + 1
                else:
                    high = middle
            end = low
        for at in range(end - 1, -1, -1):
            yield self._posts[at]


def new_channel_id() -> str:
    """An id that no channel has."""
    return f"1203634{secrets.randbelow(10**11):011}"


def new_code() -> str:
    """The code of an invite link."""
    return secrets.token_hex(11)
