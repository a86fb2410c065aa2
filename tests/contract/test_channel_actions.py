"""What drivers do about channels, act by act of `ChannelActions`; what is posted there; what they tell."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_asyncio

from mesh_session_node.drivers.interface.capabilities import Acting, Capability
from mesh_session_node.drivers.interface.channel_actions import ChannelChanges
from mesh_session_node.drivers.interface.content import (
    MediaPart,
    OutgoingMessage,
    Reference,
    References,
)
from mesh_session_node.drivers.interface.notices import ChannelTold, PostsTold
from mesh_session_node.drivers.interface.outcomes import ConnectionEnded, Failure, Refusal, Refused
from sessionmesh.v1 import channel_pb2, media_pb2, message_pb2
from tests.support.driver_capabilities import Can
from tests.support.driver_contract import Connect, needs, pieces, send, text, until
from tests.support.driver_worlds import DriverWorld
from tests.support.eventually import eventually
from tests.support.link_events import RecordedEvents

pytestmark = pytest.mark.asyncio(loop_scope="module")
NOWHERE = "channel:120363000000000404"
JPEG = b"\xff\xd8\xff\xe0 a picture"


@pytest_asyncio.fixture(loop_scope="module")
async def acting(connect: Connect) -> Acting:
    return await connect()  # type: ignore[return-value]  # the cases ask for what it can do


async def refused(act: Any) -> Refusal:
    with pytest.raises(Refused) as caught:
        await act
    return caught.value.refusal


def said(posts: Any) -> list[str]:
    return [one.post.content.text.body for one in posts]


# --- following


@needs(Capability.FOLLOW_CHANNELS)
async def test_a_channel_is_found_by_its_address_and_its_invite(world: DriverWorld, acting: Acting) -> None:
    address = await world.channel_of_others("News")
    found = await acting.fetch_channel(address)
    assert (found.address, found.name, found.own_role) == (address, "News", channel_pb2.CHANNEL_ROLE_GUEST)
    assert found.state == channel_pb2.CHANNEL_STATE_ACTIVE
    assert found.follower_count >= 9
    assert (await acting.fetch_channel("", await world.invite_to(address))).address == address


@needs(Capability.FOLLOW_CHANNELS)
async def test_a_channel_that_is_not_there_is_unknown(acting: Acting) -> None:
    for act in (
        acting.fetch_channel(NOWHERE),
        acting.fetch_channel("", "nosuchcode"),
        acting.follow_channel(NOWHERE),
        acting.mute_channel(NOWHERE, muted=True),
        acting.list_posts(NOWHERE, 0, 10),
    ):
        assert await refused(act) is Refusal.UNKNOWN_CHAT


@needs(Capability.FOLLOW_CHANNELS)
async def test_a_channel_is_listed_while_it_is_followed(world: DriverWorld, acting: Acting) -> None:
    address = await world.channel_of_others("News")
    assert await acting.list_channels() == []
    for _ in range(2):
        followed = await acting.follow_channel(address)
        assert followed.own_role == channel_pb2.CHANNEL_ROLE_FOLLOWER
    assert [one.address for one in await acting.list_channels()] == [address]
    for _ in range(2):
        await acting.unfollow_channel(address)
    assert await acting.list_channels() == []


@needs(Capability.FOLLOW_CHANNELS)
async def test_a_followed_channel_is_muted_and_not_any_more(world: DriverWorld, acting: Acting) -> None:
    address = await world.channel_of_others("News")
    await acting.follow_channel(address)
    await acting.mute_channel(address, muted=True)
    assert (await acting.fetch_channel(address)).muted
    await acting.mute_channel(address, muted=False)
    assert not (await acting.fetch_channel(address)).muted


@needs(Capability.FOLLOW_CHANNELS)
async def test_posts_are_listed_newest_first_and_page_by_page(world: DriverWorld, acting: Acting) -> None:
    address = await world.channel_of_others("News", "one", "two", "three")
    first = await acting.list_posts(address, 0, 2)
    assert said(first) == ["three", "two"]
    assert first[0].number > first[1].number > 0
    assert first[0].post.ref.network_message_id
    rest = await acting.list_posts(address, first[1].number, 2)
    assert said(rest) == ["one"]
    assert await acting.list_posts(address, rest[0].number, 2) == []


@needs(Capability.FOLLOW_CHANNELS)
async def test_a_long_channel_is_listed_whole(world: DriverWorld, acting: Acting) -> None:
    address = await world.channel_of_others("News", *[f"post {number}" for number in range(150)])
    before, seen = 0, list[str]()
    while posts := await acting.list_posts(address, before, 100):
        assert len(posts) <= 100
        seen += said(posts)
        before = posts[-1].number
    assert seen == [f"post {number}" for number in reversed(range(150))]


@needs(Capability.FOLLOW_CHANNELS)
async def test_nothing_is_asked_over_a_link_that_has_ended(world: DriverWorld, acting: Acting) -> None:
    address = await world.channel_of_others("News")
    acting.abort()  # type: ignore[attr-defined]  # it is a link
    with pytest.raises(ConnectionEnded):
        await acting.fetch_channel(address)


# --- running


@needs(Capability.RUN_CHANNELS)
async def test_a_channel_that_was_made_is_owned_and_listed(acting: Acting) -> None:
    made = await acting.create_channel("Ours", "About us", JPEG)
    assert made.address.startswith("channel:")
    assert (made.name, made.description, made.own_role) == (
        "Ours",
        "About us",
        channel_pb2.CHANNEL_ROLE_OWNER,
    )
    assert made.picture_id
    assert made.invite_code
    assert made.create_time.seconds
    (listed,) = await acting.list_channels()
    assert (listed.address, listed.name) == (made.address, "Ours")


@needs(Capability.RUN_CHANNELS)
async def test_what_is_changed_of_a_channel_is_so_then_and_the_rest_stays(acting: Acting) -> None:
    made = await acting.create_channel("Ours", "About us", b"")
    assert not made.picture_id
    changed = await acting.update_channel(made.address, ChannelChanges(name="Better", picture=JPEG))
    assert (changed.name, changed.description) == ("Better", "About us")
    assert changed.picture_id
    none = channel_pb2.CHANNEL_REACTIONS_NONE
    changed = await acting.update_channel(
        made.address, ChannelChanges(description="", picture=b"", reactions=none)
    )
    assert (changed.name, changed.description, changed.picture_id) == ("Better", "", "")
    assert (await acting.fetch_channel(made.address)).reactions == none


@needs(Capability.RUN_CHANNELS)
async def test_who_does_not_run_a_channel_cannot_change_or_delete_it(
    world: DriverWorld, acting: Acting
) -> None:
    address = await world.channel_of_others("News")
    await acting.follow_channel(address)
    assert await refused(acting.update_channel(address, ChannelChanges(name="Mine"))) is Refusal.NOT_AN_ADMIN
    assert await refused(acting.delete_channel(address)) is Refusal.NOT_AN_ADMIN
    assert (await acting.fetch_channel(address)).name == "News"


@needs(Capability.RUN_CHANNELS)
async def test_a_deleted_channel_is_gone(acting: Acting) -> None:
    made = await acting.create_channel("Ours", "", b"")
    await acting.delete_channel(made.address)
    assert await acting.list_channels() == []
    assert await refused(acting.fetch_channel(made.address)) is Refusal.UNKNOWN_CHAT


# --- posting


@needs(Capability.POST_TO_CHANNELS)
async def test_what_is_posted_is_acknowledged_and_listed(
    world: DriverWorld, acting: Any, events: RecordedEvents
) -> None:
    made = await acting.create_channel("Ours", "", b"")
    send(world, acting, "M1", made.address)
    await until(world, lambda: events.acks == ["M1"])
    (listed,) = await acting.list_posts(made.address, 0, 10)
    assert (listed.post.ref.network_message_id, listed.post.content.text.body) == ("M1", "hello")


@needs(Capability.POST_TO_CHANNELS)
async def test_a_post_with_a_file_is_taken(world: DriverWorld, acting: Any, events: RecordedEvents) -> None:
    made = await acting.create_channel("Ours", "", b"")
    blob = await acting.upload("image", pieces(b"picture"), public=True)
    request = message_pb2.SendMessageRequest(recipient=made.address)
    request.content.image.caption = "look"
    part = MediaPart(blob, media_pb2.Media(mime_type="image/jpeg", size_bytes=7))
    payload, blobs = world.driver.encode(request, References(), part)
    acting.send(OutgoingMessage("M1", made.address, payload, blobs))
    await until(world, lambda: events.acks == ["M1"])
    (listed,) = await acting.list_posts(made.address, 0, 10)
    assert listed.post.content.image.caption == "look"


@needs(Capability.POST_TO_CHANNELS, Can.REFUSALS)
async def test_who_does_not_run_a_channel_cannot_post_there(
    world: DriverWorld, acting: Any, events: RecordedEvents
) -> None:
    address = await world.channel_of_others("News")
    await acting.follow_channel(address)
    await world.refuse_posts()
    send(world, acting, "M1", address)
    await until(world, lambda: events.rejects)
    assert events.rejects[0].failure is Failure.NOT_A_MEMBER


@needs(Capability.POST_TO_CHANNELS)
async def test_a_reaction_to_a_post_is_counted(
    world: DriverWorld, acting: Any, events: RecordedEvents
) -> None:
    address = await world.channel_of_others("News", "one", "two")
    await acting.follow_channel(address)
    post = (await acting.list_posts(address, 0, 10))[1].post.ref.network_message_id
    reaction = message_pb2.SendMessageRequest(recipient=address)
    reaction.content.reaction.emoji = "\U0001f44d"
    reaction.content.reaction.message.network_message_id = post
    payload, blobs = world.driver.encode(reaction, References(target=Reference(post, address, address)), None)
    acting.send(OutgoingMessage("M1", address, payload, blobs))
    await until(world, lambda: events.acks == ["M1"])
    counted = (await acting.list_posts(address, 0, 10))[1].post.reactions
    assert [(one.emoji, one.count) for one in counted] == [("\U0001f44d", 1)]


@needs(Capability.POST_TO_CHANNELS, Capability.EDIT, Capability.REVOKE)
async def test_a_post_is_edited_and_taken_back(
    world: DriverWorld, acting: Any, events: RecordedEvents
) -> None:
    made = await acting.create_channel("Ours", "", b"")
    send(world, acting, "M1", made.address)
    await until(world, lambda: events.acks == ["M1"])
    sent = Reference("M1", made.address)
    payload, _ = world.driver.encode(text(made.address), References(), None)
    await acting.edit("C1", sent, payload)
    assert "edit M1" in await world.seen()
    await acting.revoke("C2", sent)
    assert "revoke M1" in await world.seen()


# --- what is told


@needs(Capability.FOLLOW_CHANNELS)
async def test_posts_of_a_followed_channel_come_as_messages_of_the_channel(
    world: DriverWorld, acting: Any, events: RecordedEvents
) -> None:
    address = await world.channel_of_others("News")
    await acting.follow_channel(address)
    post = await world.post_in(address, "hello all")
    (came,) = await eventually(lambda: events.incoming)
    assert (came.network_id, came.chat, came.sender) == (post, address, address)
    assert came.content.text.body == "hello all"
    assert not came.from_account


@needs(Capability.FOLLOW_CHANNELS, Can.FILES)
async def test_the_file_of_a_post_is_fetched(world: DriverWorld, acting: Any, events: RecordedEvents) -> None:
    address = await world.channel_of_others("News")
    await acting.follow_channel(address)
    await world.post_file_in(address, b"a picture")
    (came,) = await eventually(lambda: events.incoming)
    assert came.content.HasField("image")
    assert b"".join([piece async for piece in acting.fetch(came.blob)]) == b"a picture"


@needs(Capability.FOLLOW_CHANNELS)
async def test_an_edited_post_is_told_as_an_edit(
    world: DriverWorld, acting: Any, events: RecordedEvents
) -> None:
    address = await world.channel_of_others("News")
    await acting.follow_channel(address)
    post = await world.post_in(address, "wrong")
    (came,) = await eventually(lambda: events.incoming)
    acting.acknowledge(came.offered_as or came.network_id)
    await world.edit_in(address, post, "right")
    _, edit = await eventually(lambda: events.incoming[1:] and events.incoming)
    assert edit.network_id != post
    assert edit.target == Reference(post, address, address)
    assert edit.edited is not None
    assert edit.edited.text.body == "right"


@needs(Capability.FOLLOW_CHANNELS)
async def test_counts_of_posts_that_were_listed_are_told(
    world: DriverWorld, acting: Any, events: RecordedEvents
) -> None:
    address = await world.channel_of_others("News", "one")
    await acting.follow_channel(address)
    post = (await acting.list_posts(address, 0, 1))[0].post.ref.network_message_id
    await world.react_in(address, post, "\U0001f44d", 3, 70)
    told = (await eventually(lambda: [one for one in events.notices if isinstance(one, PostsTold)]))[0]
    assert told.channel == address
    assert told.posts[0].ref.network_message_id == post
    assert told.posts[0].view_count == 70
    assert [(one.emoji, one.count) for one in told.posts[0].reactions] == [("\U0001f44d", 3)]


@needs(Capability.FOLLOW_CHANNELS)
async def test_what_whoever_runs_a_followed_channel_changes_is_told(
    world: DriverWorld, acting: Any, events: RecordedEvents
) -> None:
    address = await world.channel_of_others("News")
    await acting.follow_channel(address)
    await world.rename(address, "Old news")

    def renamed() -> list[str]:
        told = [one.channel for one in events.notices if isinstance(one, ChannelTold)]
        return [one.name for one in told if one.address == address and one.name == "Old news"]

    assert await eventually(renamed)
