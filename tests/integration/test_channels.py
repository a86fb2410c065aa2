"""Channels through a real node: run, followed, posted in and reacted to, and what others do there."""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import Any

import grpc.aio
import pytest

from mesh_core.database.requests import RecordKind
from mesh_core.rpc.server.status import from_rpc_error
from mesh_simulator.accounts.channel import Channel
from sessionmesh.simnet.v1 import wire_pb2 as wire
from sessionmesh.v1 import channel_pb2, channel_pb2_grpc, message_pb2
from tests.support.eventually import eventually
from tests.support.message_acts import act, received, ref, refusal, sent, words
from tests.support.session_node_stage import Account, NodeProcess, Stage

pytestmark = pytest.mark.asyncio(loop_scope="module")

NOWHERE = "channel:120363000000000404"
INVALID = ["INVALID_ARGUMENT", "INVALID_FIELD"]


async def ask(stage: Stage, node: NodeProcess, account: Account, method: str, **fields: Any) -> Any:
    request = getattr(channel_pb2, f"{method}Request")(account_id=account.id, **fields)
    stub = channel_pb2_grpc.ChannelServiceStub(node.channel)
    return await getattr(stub, method)(request, metadata=stage.metadata, timeout=20)


async def refused(stage: Stage, node: NodeProcess, account: Account, method: str, **fields: Any) -> list[str]:
    """Code, reason and, where there is one, field of the error that a call is answered with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ask(stage, node, account, method, **fields)
    error = from_rpc_error(caught.value)
    named = [caught.value.code().name, error.reason, getattr(error, "field", "")]
    return [part for part in named if part]


async def made(stage: Stage, node: NodeProcess, account: Account, name: str = "Ours") -> Any:
    """A channel that the account runs."""
    fields = {"request_id": secrets.token_hex(8), "name": name}
    return (await ask(stage, node, account, "CreateChannel", **fields)).channel


def of_others(stage: Stage, name: str = "News", posts: int = 0) -> Channel:
    """A channel that somebody else runs, with so many posts."""
    channel = stage.network.channels.make(name, "What happens")
    for number in range(posts):
        post(stage, channel, f"post {number}")
    return channel


def post(stage: Stage, channel: Channel, said: str) -> str:
    posted = stage.network.posts.post(channel, "", wire.Content(text=said).SerializeToString())
    stage.network.flush()
    return posted.id


async def listed(stage: Stage, node: NodeProcess, account: Account) -> list[str]:
    return [one.address for one in (await ask(stage, node, account, "ListChannels")).channels]


async def told(stage: Stage, account: Account, type_: str, address: str) -> Any:
    """The channel of an event about it."""

    def is_it(event: Any) -> bool:
        return bool(event.channel.channel.address == address)

    return (await received(stage, account, type_, is_it)).channel.channel


async def posts_of(stage: Stage, node: NodeProcess, account: Account, address: str, **fields: Any) -> Any:
    return await ask(stage, node, account, "ListChannelPosts", channel=address, **fields)


# --- running


@pytest.mark.read_back("CreateChannel", "GetChannel", "ListChannels")
async def test_a_channel_that_was_made_is_stored_told_and_listed(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)
    fields = {"request_id": "make", "name": "Ours", "description": "About us"}

    channel = (await ask(stage, node, account, "CreateChannel", **fields)).channel

    assert (channel.name, channel.description) == ("Ours", "About us")
    assert channel.own_role == channel_pb2.CHANNEL_ROLE_OWNER
    assert channel.state == channel_pb2.CHANNEL_STATE_ACTIVE
    assert channel.invite_url.endswith(channel.invite_code)
    assert channel.etag
    assert (await ask(stage, node, account, "GetChannel", channel=channel.address)).channel == channel
    assert await listed(stage, node, account) == [channel.address]
    assert await told(stage, account, "channel.followed", channel.address) == channel
    assert (await ask(stage, node, account, "CreateChannel", **fields)).channel == channel
    assert await listed(stage, node, account) == [channel.address]


async def test_a_channel_that_was_made_before_a_crash_is_found_by_the_repeat(
    stage: Stage, node: NodeProcess
) -> None:
    account = await stage.paired(node)
    orphan = stage.network.channels.make("Ours", "", b"", account.phone)
    await stage.database.execute(
        "INSERT INTO account_record (account, kind, key, value, time) VALUES ($1, $2, $3, '', now())",
        account.uuid,
        RecordKind.CHANNEL_BEGUN,
        "again",
    )

    channel = (await ask(stage, node, account, "CreateChannel", request_id="again", name="Ours")).channel

    assert channel.address == orphan.address
    other = (await ask(stage, node, account, "CreateChannel", request_id="new", name="Ours")).channel
    assert other.address != orphan.address
    begun = "SELECT count(*) FROM account_record WHERE account = $1 AND kind = $2"
    assert await stage.database.fetchval(begun, account.uuid, RecordKind.CHANNEL_BEGUN) == 0


@pytest.mark.read_back("UpdateChannel")
async def test_a_change_is_told_and_gives_another_etag(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)
    before = await made(stage, node, account)
    change = {"address": before.address, "name": "Better", "reactions": 3, "etag": before.etag}
    mask = {"paths": ["name", "reactions"]}

    after = (await ask(stage, node, account, "UpdateChannel", channel=change, update_mask=mask)).channel

    assert (after.name, after.reactions) == ("Better", channel_pb2.CHANNEL_REACTIONS_NONE)
    assert after.etag != before.etag
    assert (await ask(stage, node, account, "GetChannel", channel=after.address)).channel == after
    assert await told(stage, account, "channel.updated", after.address) == after
    stale = await refused(stage, node, account, "UpdateChannel", channel=change, update_mask=mask)
    assert stale == ["ABORTED", "ETAG_MISMATCH"]
    again = await refused(stage, node, account, "DeleteChannel", channel=after.address, etag=before.etag)
    assert again == ["ABORTED", "ETAG_MISMATCH"]


@pytest.mark.read_back("DeleteChannel")
async def test_a_deleted_channel_is_gone_for_everyone(stage: Stage, node: NodeProcess) -> None:
    account, other = await stage.paired(node), await stage.paired(node)
    channel = await made(stage, node, account)
    await ask(stage, node, other, "FollowChannel", channel=channel.address)

    await ask(stage, node, account, "DeleteChannel", channel=channel.address, etag=channel.etag)

    assert (await told(stage, account, "channel.deleted", channel.address)).name == "Ours"
    assert (await told(stage, other, "channel.deleted", channel.address)).state == 3
    assert await listed(stage, node, account) == await listed(stage, node, other) == []
    gone = ["NOT_FOUND", "RESOURCE_NOT_FOUND"]
    for method in ("GetChannel", "FetchChannel", "DeleteChannel", "FollowChannel", "ListChannelPosts"):
        assert await refused(stage, node, account, method, channel=channel.address) == gone


async def test_only_who_runs_a_channel_changes_it(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)
    channel = of_others(stage)
    await ask(stage, node, account, "FollowChannel", channel=channel.address)
    forbidden = ["FAILED_PRECONDITION", "NOT_AN_ADMIN"]
    change = {"address": channel.address, "name": "Mine"}
    mask = {"paths": ["name"]}
    said = await refused(stage, node, account, "UpdateChannel", channel=change, update_mask=mask)
    assert said == forbidden
    assert await refused(stage, node, account, "DeleteChannel", channel=channel.address) == forbidden


# --- following


@pytest.mark.read_back("FollowChannel", "UnfollowChannel", "SetChannelMuted", "FetchChannel")
async def test_a_channel_is_followed_muted_and_unfollowed(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)
    channel = of_others(stage)
    found = (await ask(stage, node, account, "FetchChannel", channel=channel.address)).channel
    assert found.own_role == channel_pb2.CHANNEL_ROLE_GUEST
    link = f"https://whatsapp.com/channel/{channel.invite_code}"
    assert (await ask(stage, node, account, "FetchChannel", invite_code=link)).channel == found
    assert await listed(stage, node, account) == []

    for _ in range(2):
        followed = (await ask(stage, node, account, "FollowChannel", channel=channel.address)).channel
        assert followed.own_role == channel_pb2.CHANNEL_ROLE_FOLLOWER
    assert await told(stage, account, "channel.followed", channel.address) == followed
    await ask(stage, node, account, "SetChannelMuted", channel=channel.address, muted=True)
    assert (await ask(stage, node, account, "GetChannel", channel=channel.address)).channel.muted

    for _ in range(2):
        await ask(stage, node, account, "UnfollowChannel", channel=channel.address)
    left = await told(stage, account, "channel.unfollowed", channel.address)
    assert (left.own_role, left.muted) == (channel_pb2.CHANNEL_ROLE_GUEST, False)
    assert await listed(stage, node, account) == []
    types = [type_ for type_, _ in await stage.events(account) if type_.startswith("channel.")]
    assert types == ["channel.followed", "channel.updated", "channel.unfollowed"]
    muted = await refused(stage, node, account, "SetChannelMuted", channel=channel.address, muted=True)
    assert muted == ["FAILED_PRECONDITION", "NOT_A_MEMBER"]


async def test_what_was_followed_on_the_phone_before_is_listed(stage: Stage, node: NodeProcess) -> None:
    account = await stage.create_account()
    await stage.pair(node, account)
    channels = sorted(
        (of_others(stage, f"News {number}") for number in range(3)), key=lambda one: one.address
    )
    for channel in channels:
        stage.network.channels.follow(channel, stage.on_network(account), follow=True)
    await stage.until_state(node, account, 4)

    first = await ask(stage, node, account, "ListChannels", page_size=2)
    rest = await ask(stage, node, account, "ListChannels", page_size=2, page_token=first.next_page_token)

    assert [one.address for one in (*first.channels, *rest.channels)] == [one.address for one in channels]
    assert rest.next_page_token == ""
    assert not [type_ for type_, _ in await stage.events(account) if type_.startswith("channel.")]


async def test_what_others_change_is_stored_and_told(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)
    channel = of_others(stage)
    await ask(stage, node, account, "FollowChannel", channel=channel.address)

    channel.name = "Old news"
    stage.network.channels.changed(channel)
    stage.network.flush()

    assert (await told(stage, account, "channel.updated", channel.address)).name == "Old news"
    stored = (await ask(stage, node, account, "GetChannel", channel=channel.address)).channel
    assert stored.name == "Old news"
    stage.network.channels.follow(channel, stage.on_network(account), follow=False)
    stage.network.channels.tell(channel, stage.on_network(account))
    stage.network.flush()
    await told(stage, account, "channel.unfollowed", channel.address)


async def test_who_is_not_there_or_says_too_little_is_told_why(stage: Stage, node: NodeProcess) -> None:
    account, foreign = await stage.paired(node), await stage.of_another_tenant()
    unpaired = await stage.create_account()

    async def said(method: str, about: Account = account, **fields: Any) -> list[str]:
        return await refused(stage, node, about, method, **fields)

    assert await said("CreateChannel", request_id="r") == [*INVALID, "name"]
    assert await said("CreateChannel", request_id="r", name="x" * 101) == [*INVALID, "name"]
    assert await said("CreateChannel", name="x") == [*INVALID, "request_id"]
    too_long: dict[str, Any] = {"request_id": "r", "name": "x", "description": "x" * 2049}
    assert await said("CreateChannel", **too_long) == [*INVALID, "description"]
    assert await said("FollowChannel", channel="group:1") == [*INVALID, "channel"]
    assert await said("ListChannelPosts", channel="phone:+4915112345678") == [*INVALID, "channel"]
    assert await said("FetchChannel") == [*INVALID, "by"]
    assert await said("FetchChannel", invite_code="no code") == [*INVALID, "invite_code"]
    own: dict[str, Any] = {"channel": {"address": NOWHERE, "name": "x"}}
    assert await said("UpdateChannel", **own, update_mask={"paths": ["state"]}) == [*INVALID, "update_mask"]
    missing = ["NOT_FOUND", "RESOURCE_NOT_FOUND"]
    for method in ("GetChannel", "FollowChannel", "UnfollowChannel", "ListChannelPosts", "SetChannelMuted"):
        assert await said(method, channel=NOWHERE) == missing
        assert await said(method, foreign, channel=NOWHERE) == missing
    not_paired = ["FAILED_PRECONDITION", "NOT_PAIRED"]
    assert await said("FollowChannel", unpaired, channel=NOWHERE) == not_paired
    assert await said("CreateChannel", unpaired, request_id="r", name="x") == not_paired


# --- posts


@pytest.mark.read_back("ListChannelPosts")
async def test_what_is_posted_reaches_followers_and_is_listed(stage: Stage, node: NodeProcess) -> None:
    account, follower = await stage.paired(node), await stage.paired(node)
    channel = await made(stage, node, account)
    await ask(stage, node, follower, "FollowChannel", channel=channel.address)

    message = await sent(stage, node, account, channel.address, "hello all")

    assert message.status == message_pb2.MESSAGE_STATUS_SENT
    came = (await received(stage, follower, "message.received")).message.message
    assert (came.chat, came.sender.address) == (channel.address, channel.address)
    assert came.content.text.body == "hello all"
    (shown,) = (await posts_of(stage, node, account, channel.address)).posts
    assert (shown.ref.message_id, shown.ref.network_message_id) == (message.id, message.network_message_id)
    assert shown.content.text.body == "hello all"
    (theirs,) = (await posts_of(stage, node, follower, channel.address)).posts
    assert theirs.ref.message_id == came.id


async def test_who_does_not_run_a_channel_cannot_post_there(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)
    channel = of_others(stage)
    for follows in (False, True):
        if follows:
            await ask(stage, node, account, "FollowChannel", channel=channel.address)
        fields = {"recipient": channel.address, "content": words("mine"), "wait_for": 2}
        message = (await act(stage, node, account, "SendMessage", **fields)).message
        assert message.status == message_pb2.MESSAGE_STATUS_FAILED
        assert message.failure == message_pb2.FAILURE_REASON_NOT_A_MEMBER


async def test_what_channels_do_not_take_is_refused(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)
    channel = await made(stage, node, account)

    async def said(content: dict[str, Any], **fields: Any) -> list[str]:
        request = {"recipient": channel.address, "content": content, **fields}
        return list(await refusal(stage, node, account, "SendMessage", **request))

    place = {"location": {"latitude": 1.0, "longitude": 2.0}}
    assert "content.location" in await said(place)
    answer = {"reply_to": {"network_message_id": "1", "chat": channel.address}}
    assert "options.reply_to" in await said(words("x"), options=answer)
    assert "options.mentions" in await said(words("x"), options={"mentions": ["phone:+4915112345678"]})


async def test_a_post_is_edited_and_taken_back(stage: Stage, node: NodeProcess) -> None:
    account, follower = await stage.paired(node), await stage.paired(node)
    channel = await made(stage, node, account)
    await ask(stage, node, follower, "FollowChannel", channel=channel.address)
    message = await sent(stage, node, account, channel.address, "wrong")

    await act(stage, node, account, "EditMessage", message=ref(message), content=words("right"))

    edited = (await received(stage, follower, "message.edited")).message_changed.message
    assert edited.content.text.body == "right"
    (shown,) = (await posts_of(stage, node, follower, channel.address)).posts
    assert shown.content.text.body == "right"
    assert shown.HasField("edit_time")
    await act(stage, node, account, "RevokeMessage", message=ref(message))
    await received(stage, follower, "message.revoked")
    assert not (await posts_of(stage, node, follower, channel.address)).posts


async def test_reactions_to_posts_are_counted_and_told(stage: Stage, node: NodeProcess) -> None:
    account, follower = await stage.paired(node), await stage.paired(node)
    channel = await made(stage, node, account)
    await ask(stage, node, follower, "FollowChannel", channel=channel.address)
    message = await sent(stage, node, account, channel.address, "hello")
    came = (await received(stage, follower, "message.received")).message.message
    await posts_of(stage, node, account, channel.address)

    await act(stage, node, follower, "ReactToMessage", message=ref(came), emoji="👍", request_id="react")

    changed = (await received(stage, account, "channel.post_updated")).channel_post
    assert (changed.channel, changed.post.ref.message_id) == (channel.address, message.id)
    assert [(one.emoji, one.count) for one in changed.post.reactions] == [("👍", 1)]
    (shown,) = (await posts_of(stage, node, follower, channel.address)).posts
    assert [(one.emoji, one.count) for one in shown.reactions] == [("👍", 1)]
    unstored = {"network_message_id": message.network_message_id, "chat": channel.address}
    await act(stage, node, follower, "ReactToMessage", message=unstored, emoji="", request_id="no more")

    async def taken_back() -> bool:
        (one,) = (await posts_of(stage, node, follower, channel.address)).posts
        return not one.reactions

    await eventually(taken_back)


async def test_ten_thousand_posts_are_listed_while_others_send(stage: Stage, node: NodeProcess) -> None:
    account, other = await stage.paired(node), await stage.paired(node)
    channel = of_others(stage, posts=10_000)
    seen: list[str] = []
    slowest = 0.0

    async def all_posts() -> None:
        token = ""
        while True:
            page = await posts_of(stage, node, account, channel.address, page_size=1000, page_token=token)
            seen.extend(one.content.text.body for one in page.posts)
            token = page.next_page_token
            if not token:
                return

    reading = asyncio.create_task(all_posts())
    while not reading.done():
        began = time.monotonic()
        await stage.send(node, other)
        slowest = max(slowest, time.monotonic() - began)
    await reading
    assert seen == [f"post {number}" for number in reversed(range(10_000))]
    assert slowest < 5.0
