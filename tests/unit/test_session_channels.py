"""What networks tell of channels, made fit, and what becomes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from mesh_core.database.requests import RecordKind
from mesh_core.ids import new_uuid
from mesh_session_node.calls.channels.channel_service import ChannelService
from mesh_session_node.drivers.interface.capabilities import Capability
from mesh_session_node.drivers.interface.notices import ChannelTold, PostsTold
from mesh_session_node.inbound.channels import (
    MAX_DESCRIPTION,
    MAX_NAME,
    Channels,
    changes,
    fit_post,
    made_fit,
)
from mesh_session_node.inbound.fitting_notices import MAX_POSTS, fit_notice
from mesh_session_node.journal import AccountRecord, Event, Row
from mesh_session_node.store.records import StoredRecord
from sessionmesh.v1 import channel_pb2, content_pb2
from sessionmesh.v1.channel_pb2 import Channel, ChannelPost

OWNER, FOLLOWER, GUEST = (
    channel_pb2.CHANNEL_ROLE_OWNER,
    channel_pb2.CHANNEL_ROLE_FOLLOWER,
    channel_pb2.CHANNEL_ROLE_GUEST,
)


class Events:
    """Stands for `EventMaker`."""

    def of(self, type_: str, _micros: int, **_payload: Any) -> Event:
        return Event(None, type_, b"")  # type: ignore[arg-type]  # nobody reads the id


class Session:
    """Stands for `SessionContext`."""

    events = Events()


def told(before: Channel | None, now: Channel) -> list[str]:
    """The types of the events, and `+` or `-` for the record."""
    rows = changes(Session(), before, now)  # type: ignore[arg-type]  # what it reads of it
    return [
        row.type if isinstance(row, Event) else "+" if row.value else "-"
        for row in rows
        if isinstance(row, Event | AccountRecord)
    ]


def followed(**fields: Any) -> Channel:
    fields.setdefault("own_role", FOLLOWER)
    return made_fit(Channel(address="channel:1", name="News", **fields))


def test_what_cannot_be_shown_of_a_channel_is_cut_or_taken_out() -> None:
    hostile = Channel(
        address="channel:no such id",
        name="n" * 10_000 + "\0",
        description="d" * 100_000,
        picture_media_id="somebody else's",
        follower_count=-5,
        own_role=99,  # type: ignore[arg-type]  # as a network of later may say
        invite_code="c" * 10_000,
    )
    hostile.create_time.seconds = 2**60
    fit = made_fit(hostile)
    assert fit.address.startswith("channel:unfit-")
    assert len(fit.name) <= MAX_NAME
    assert "\0" not in fit.name
    assert len(fit.description) <= MAX_DESCRIPTION
    assert not fit.picture_media_id
    assert not fit.HasField("follower_count")
    assert not fit.HasField("create_time")
    assert fit.own_role == channel_pb2.CHANNEL_ROLE_UNSPECIFIED
    assert len(fit.invite_code) <= 256


def test_the_same_channel_has_the_same_etag_however_many_follow_it() -> None:
    assert followed(follower_count=1).etag == followed(follower_count=2).etag
    assert followed(muted=True).etag != followed().etag
    assert followed(description="x").etag != followed().etag


def test_what_changes_of_a_channel_is_stored_and_told_once() -> None:
    one = followed()
    assert told(None, one) == ["+", "channel.followed"]
    assert told(one, followed()) == []
    assert told(one, followed(follower_count=7)) == ["+"]
    assert told(one, followed(muted=True)) == ["+", "channel.updated"]
    assert told(one, followed(own_role=GUEST)) == ["-", "channel.unfollowed"]
    assert told(one, made_fit(Channel(address="channel:1", state=channel_pb2.CHANNEL_STATE_DELETED))) == [
        "-",
        "channel.deleted",
    ]


class SlowList:
    """A network whose list of channels is of before it was asked for more."""

    def __init__(self) -> None:
        self.asked, self.answers = asyncio.Event(), asyncio.Event()

    async def list_channels(self) -> list[Channel]:
        self.asked.set()
        await self.answers.wait()
        return []

    async def follow_channel(self, address: str) -> Channel:
        return Channel(address=address, name="News", own_role=FOLLOWER)


class Calls:
    """Stands for `AccountCalls` and `RecordStore`, for one account."""

    def __init__(self, link: SlowList) -> None:
        self.stored: dict[tuple[int, str], StoredRecord] = {}
        self._link = link
        driver = SimpleNamespace(capabilities={Capability.FOLLOW_CHANNELS})
        ref = SimpleNamespace(uuid=new_uuid())
        self.context = SimpleNamespace(driver=driver, link=link, ref=ref, events=Events())

    async def session(self, _account_id: str, _context: object) -> Any:
        return SimpleNamespace(context=self.context)

    async def act(
        self, _session: object, _capability: Capability, act: Callable[[Any], Any], *, about: str = ""
    ) -> Any:
        return await act(self._link)

    async def write(self, _session: object, *rows: Row) -> None:
        for row in rows:
            if isinstance(row, AccountRecord):
                self.stored.pop((row.kind, row.key), None)
                if row.value is not None:
                    self.stored[row.kind, row.key] = StoredRecord("", row.value, row.time, row.key)

    async def one(self, _account: object, kind: int, key: str) -> StoredRecord | None:
        return self.stored.get((kind, key))

    async def page(self, _account: object, kind: int, _after: str, _limit: int) -> list[StoredRecord]:
        return [one for (of, _), one in self.stored.items() if of == kind]


async def test_what_is_followed_while_the_list_is_read_stays_followed() -> None:
    link = SlowList()
    calls: Any = Calls(link)
    nothing: Any = None
    service = ChannelService(calls, Channels(calls), nothing, nothing, nothing)
    session = await calls.session("", None)

    reading = asyncio.create_task(service._read_list(session))
    await link.asked.wait()
    request = channel_pb2.FollowChannelRequest(channel="channel:1")
    following = asyncio.create_task(service.FollowChannel(request, nothing))
    for _ in range(10):
        await asyncio.sleep(0)
    link.answers.set()
    await asyncio.gather(reading, following)

    assert (RecordKind.CHANNEL, "channel:1") in calls.stored


def test_of_a_channel_that_was_not_followed_nothing_is_told() -> None:
    assert told(None, followed(own_role=GUEST)) == []
    assert told(None, followed(own_role=OWNER, state=channel_pb2.CHANNEL_STATE_DELETED)) == []


def test_the_media_of_a_picture_stay_while_the_picture_does() -> None:
    before = followed(picture_id="p1")
    before.picture_media_id = "med_1"
    same, other = followed(picture_id="p1", muted=True), followed(picture_id="p2")
    told(before, same)
    told(before, other)
    assert (same.picture_media_id, other.picture_media_id) == ("med_1", "")


def test_a_post_has_its_most_frequent_reactions_first_and_no_file_that_is_fetched() -> None:
    post = ChannelPost(view_count=-1)
    post.content.image.media.state = content_pb2.MEDIA_STATE_PENDING
    post.ref.message_id = "somebody else's"
    for emoji, count in (("a", 1), ("b", 9), ("", 5), ("c", -3)):
        post.reactions.add(emoji=emoji, count=count)
    fit_post("channel:1", post)
    assert [(one.emoji, one.count) for one in post.reactions] == [("b", 9), ("a", 1)]
    assert not post.HasField("view_count")
    assert not post.content.image.media.state
    assert (post.ref.message_id, post.ref.chat, post.ref.sender) == ("", "channel:1", "channel:1")


def test_notices_of_channels_are_bounded() -> None:
    many = PostsTold("channel:1", [ChannelPost() for _ in range(1_000)])
    fit = fit_notice(many)
    assert isinstance(fit, PostsTold)
    assert len(fit.posts) == MAX_POSTS
    one = fit_notice(ChannelTold(Channel(address="group:1")))
    assert isinstance(one, ChannelTold)
    assert one.channel.address.startswith("channel:unfit-")
