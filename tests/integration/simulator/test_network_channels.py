"""Channels that operators run for others, as the accounts that follow them see them."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from sessionmesh.simnet.v1 import wire_pb2 as wire
from sessionmesh.simulator.v1 import simulator_pb2 as api
from tests.support.simulated_client import SimulatedClient
from tests.support.simulated_network import ALICE
from tests.support.simulator_operator import Operator

GONE = "channel:1000"


async def made(operator: Operator) -> api.NetworkChannel:
    """A channel that has more followers than the network has accounts."""
    fields = {"name": "News", "description": "What is new", "verified": True, "followers": 9}
    channel: api.NetworkChannel = (await operator.ask("CreateNetworkChannel", **fields)).channel
    return channel


async def answer(client: SimulatedClient, **query: Any) -> wire.Answer:
    """What the network answers the account."""
    client.write(wire.Frame(query=wire.Query(id=1, **query)))
    return (await client.expect("answer")).answer


async def posts_in(client: SimulatedClient, channel: str) -> list[wire.Post]:
    return [*(await answer(client, list_posts=wire.ListPosts(address=channel, count=50))).posts.posts]


@pytest.mark.read_back("CreateNetworkChannel")
async def test_accounts_find_a_channel_that_others_run(operator: Operator) -> None:
    client = await operator.client(ALICE)
    channel = await made(operator)
    found = (await answer(client, get_channel=wire.GetChannel(address=channel.address))).channel
    assert (found.name, found.description, found.verified) == ("News", "What is new", True)
    client.abort()


@pytest.mark.read_back("ChangeNetworkChannel")
async def test_followers_are_told_what_becomes_of_a_channel(operator: Operator) -> None:
    client = await operator.client(ALICE)
    address = (await made(operator)).address
    followed = await operator.ask("ChangeNetworkChannel", channel=address, followed_by=ALICE)
    assert list(followed.channel.followers) == [ALICE]
    await operator.ask("ChangeNetworkChannel", channel=address, name="Old")
    told = await client.expect_where(lambda frame: frame.notice.channel.name == "Old")
    assert told.notice.channel.address == address
    gone = await operator.ask("ChangeNetworkChannel", channel=address, deleted=True)
    assert gone.channel.deleted
    client.abort()


@pytest.mark.read_back("PostInNetworkChannel", "ReactInNetworkChannel")
async def test_posts_are_there_to_read_with_their_reactions(operator: Operator) -> None:
    client = await operator.client(ALICE)
    address = (await made(operator)).address
    posted = await operator.ask("PostInNetworkChannel", channel=address, text="First", count=2)
    post = {"channel": address, "network_message_id": posted.network_message_id}
    await operator.ask("ReactInNetworkChannel", **post, emoji="\N{THUMBS UP SIGN}", count=5, views=40)
    first, last = sorted(await posts_in(client, address), key=lambda one: one.number)
    assert last.id == posted.network_message_id != first.id
    assert (last.views, dict(last.reactions)) == (40, {"\N{THUMBS UP SIGN}": 5})
    edited = {"channel": address, "text": "Second", "edits": last.id}
    await operator.ask("PostInNetworkChannel", **edited)
    says = {one.id: wire.Content.FromString(one.content).text for one in await posts_in(client, address)}
    assert says == {first.id: "First", last.id: "Second"}
    client.abort()


@pytest.mark.parametrize(
    ("field", "method", "fields"),
    [
        ("name", "CreateNetworkChannel", {"name": "x" * 101}),
        ("followers", "CreateNetworkChannel", {"name": "News", "followers": -1}),
        ("change", "ChangeNetworkChannel", {}),
        ("followed_by", "ChangeNetworkChannel", {"followed_by": "alice"}),
        ("count", "PostInNetworkChannel", {"text": "First", "count": 10_001}),
        ("encoded", "PostInNetworkChannel", {"encoded": b"\xff"}),
    ],
)
async def test_what_no_channel_can_be_is_refused(
    operator: Operator, field: str, method: str, fields: dict[str, Any]
) -> None:
    if method != "CreateNetworkChannel":
        fields = {"channel": (await made(operator)).address} | fields
    with pytest.raises(grpc.aio.AioRpcError, match=f"{field}: ") as refused:
        await operator.ask(method, **fields)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_what_is_not_there_is_not_found(operator: Operator) -> None:
    channel = (await made(operator)).address
    for method, fields in (
        ("ChangeNetworkChannel", {"channel": GONE, "name": "Old"}),
        ("PostInNetworkChannel", {"channel": GONE, "text": "First"}),
        ("PostInNetworkChannel", {"channel": channel, "text": "Second", "edits": "M9"}),
        ("ReactInNetworkChannel", {"channel": channel, "network_message_id": "M9", "views": 1}),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await operator.ask(method, **fields)
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND
