"""Contents that are about other messages, through a real node: votes, choices, albums, places that move."""

from __future__ import annotations

from typing import Any

import pytest

from mesh_simulator.ledger.records import Kind
from sessionmesh.simnet.v1 import wire_pb2 as wire
from sessionmesh.v1 import content_pb2, event_pb2
from tests.support.eventually import eventually
from tests.support.fuzz.world import picture
from tests.support.message_acts import act, received, ref, refusal, send_content, written_to
from tests.support.session_node_stage import RECIPIENT, Account, NodeProcess, Stage

pytestmark = pytest.mark.asyncio(loop_scope="module")

POLL = {"poll": {"question": "Tea?", "answers": ["yes", "no"], "max_choices": 1}}


def votes(message: Any) -> dict[str, int]:
    return {total.answer: total.votes for total in message.content.poll.totals}


async def until_votes(stage: Stage, node: NodeProcess, account: Account, poll: Any, **wanted: int) -> None:
    async def counted() -> bool:
        return votes(await stage.message(poll.id, account, node)) == wanted

    await eventually(counted)


async def vote(stage: Stage, node: NodeProcess, account: Account, poll: Any, to: str, *answers: str) -> Any:
    about = {"poll": {"message_id": poll.id}, "answers": answers}
    return await send_content(stage, node, account, to, {"poll_vote": about})


# --- polls


async def test_votes_are_counted_where_the_poll_is_and_told(stage: Stage, node: NodeProcess) -> None:
    asker, voter = await stage.paired(node), await stage.paired(node)
    poll = await send_content(stage, node, asker, voter.phone, POLL)
    at_voter = (await received(stage, voter, "message.received")).message.message

    await vote(stage, node, voter, at_voter, asker.phone, "yes")

    told = (await received(stage, asker, "poll.voted")).poll
    assert told.poll.message_id == poll.id
    assert (told.voter.phone, list(told.answers)) == (voter.phone, ["yes"])
    assert {total.answer: total.votes for total in told.totals} == {"yes": 1, "no": 0}
    await until_votes(stage, node, asker, poll, yes=1, no=0)
    await until_votes(stage, node, voter, at_voter, yes=1, no=0)
    await vote(stage, node, asker, poll, voter.phone, "no")
    await until_votes(stage, node, asker, poll, yes=1, no=1)
    await vote(stage, node, voter, at_voter, asker.phone)
    await until_votes(stage, node, asker, poll, yes=0, no=1)


async def test_a_vote_that_comes_again_is_counted_once(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)
    poll = await send_content(stage, node, account, RECIPIENT, POLL)
    said = content_pb2.PollVoteContent(answers=["yes"])
    said.poll.network_message_id = poll.network_message_id
    content = wire.Content(other=wire.Other(kind="poll_vote", body=said.SerializeToString()))

    for _ in range(2):
        stage.receive(account, content, network_id="VOTE")
    last = stage.receive(account, wire.Content(text="done"))

    await received(stage, account, "message.received", lambda e: e.message.message.network_message_id == last)
    await until_votes(stage, node, account, poll, yes=1, no=0)
    events = await stage.events(account)
    assert [type_ for type_, _ in events].count("poll.voted") == 1


async def test_a_vote_that_comes_behind_a_later_one_changes_nothing(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)
    poll = await send_content(stage, node, account, RECIPIENT, POLL)
    for answer, time_us in (("yes", 2_000_000_000), ("no", 1_000_000_000)):
        said = content_pb2.PollVoteContent(answers=[answer])
        said.poll.network_message_id = poll.network_message_id
        other = wire.Other(kind="poll_vote", body=said.SerializeToString())
        person = f"phone:{RECIPIENT}"
        content = wire.Content(other=other).SerializeToString()
        vote = wire.Inbound(sender=person, chat=person, content=content, time_us=time_us)
        stage.network.inbound.offer(stage.on_network(account), vote)
    stage.network.flush()
    last = stage.receive(account, wire.Content(text="done"))

    await received(stage, account, "message.received", lambda e: e.message.message.network_message_id == last)
    assert votes(await stage.message(poll.id, account, node)) == {"yes": 1, "no": 0}


async def test_a_vote_for_what_the_poll_does_not_offer_is_refused(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)
    poll = await send_content(stage, node, account, RECIPIENT, POLL)
    text = await send_content(stage, node, account, RECIPIENT, {"text": {"body": "hello"}})

    async def said(about: Any, *answers: str) -> str:
        content = {"poll_vote": {"poll": {"message_id": about.id}, "answers": answers}}
        fields = {"recipient": RECIPIENT, "content": content}
        return (await refusal(stage, node, account, "SendMessage", **fields))[2]

    assert await said(poll, "maybe") == "content.poll_vote.answers[0]"
    assert await said(poll, "yes", "no") == "content.poll_vote.answers"
    assert await said(text, "yes") == "content.poll_vote.poll"


# --- choices


async def test_a_choice_says_what_it_was_made_from(stage: Stage, node: NodeProcess) -> None:
    asker, chooser = await stage.paired(node), await stage.paired(node)
    buttons = {"buttons": {"body": "Tea?", "buttons": [{"title": "Yes", "reply_id": "1"}]}}
    asked = await send_content(stage, node, asker, chooser.phone, buttons)
    at_chooser = (await received(stage, chooser, "message.received")).message.message
    choice = {"message": {"message_id": at_chooser.id}, "reply_id": "1", "title": "Yes"}

    await send_content(stage, node, chooser, asker.phone, {"choice": choice})

    told = (await received(stage, asker, "message.received")).message.message.content.choice
    assert (told.message.message_id, told.reply_id, told.title) == (asked.id, "1", "Yes")
    wrong = {"choice": {**choice, "reply_id": "2"}}
    fields = {"recipient": asker.phone, "content": wrong}
    assert (await refusal(stage, node, chooser, "SendMessage", **fields))[2] == "content.choice.reply_id"


# --- albums


async def test_an_album_becomes_a_message_for_each_of_its_parts_once(stage: Stage, node: NodeProcess) -> None:
    await stage.running_media()
    account, other = await stage.paired(node), await stage.paired(node)
    items = [{"image": {"media": {"inline_data": picture()}, "caption": name}} for name in ("one", "two")]
    fields = {"recipient": other.phone, "content": {"album": {"items": items}}, "request_id": "album"}

    answers = [await act(stage, node, account, "SendMessage", **fields) for _ in range(2)]

    album = answers[0].message
    assert answers[1].message.id == album.id
    for caption in ("one", "two"):

        def is_it(event: Any, caption: str = caption) -> bool:
            return bool(event.message.message.content.image.caption == caption)

        part = (await received(stage, other, "message.received", is_it)).message.message
        assert part.album.network_message_id == album.network_message_id
    head = await received(
        stage, other, "message.received", lambda e: e.message.message.content.HasField("album")
    )
    assert head.message.message.content.album.image_count == 2
    assert not head.message.message.content.album.items
    listed = await act(stage, node, account, "ListMessages", order=2)
    parts = [message for message in listed.messages if message.HasField("album")]
    assert [part.content.image.caption for part in parts] == ["one", "two"]
    assert {part.album.message_id for part in parts} == {album.id}
    assert len(stage.records(Kind.ACCEPTED, account)) == 3


# --- places that move


@pytest.mark.read_back("UpdateLiveLocation")
async def test_a_live_location_moves_and_ends(stage: Stage, node: NodeProcess) -> None:
    account, other = await stage.paired(node), await stage.paired(node)
    place = {"live_location": {"latitude": 1.0, "longitude": 2.0, "duration": {"seconds": 900}}}
    shared = await send_content(stage, node, account, other.phone, place)
    moved = {"latitude": 3.0, "longitude": 4.0}

    update = await act(stage, node, account, "UpdateLiveLocation", message=ref(shared), location=moved)

    assert update.message.content.live_location.latitude == 3.0

    def is_it(event: Any) -> bool:
        return bool(event.message.message.content.live_location.latitude == 3.0)

    told = (await received(stage, other, "message.received", is_it)).message.message
    assert told.quoted.ref.network_message_id == shared.network_message_id
    ended = await act(stage, node, account, "UpdateLiveLocation", message=ref(shared), end=True)
    assert ended.message.content.live_location.duration.seconds < 900
    changed = (await received(stage, other, "message.edited")).message_changed.message
    assert changed.content.live_location.duration == ended.message.content.live_location.duration

    async def too_late() -> bool:
        late = await refusal(stage, node, account, "UpdateLiveLocation", message=ref(shared), location=moved)
        return late[:2] == ("FAILED_PRECONDITION", "TOO_LATE")

    assert await too_late()


async def test_what_is_no_live_location_cannot_move(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)
    text = await send_content(stage, node, account, RECIPIENT, {"text": {"body": "hello"}})
    came = await written_to(stage, account)
    moved = {"location": {"latitude": 3.0, "longitude": 4.0}}

    async def said(about: Any, **fields: Any) -> tuple[str, str, str]:
        return await refusal(stage, node, account, "UpdateLiveLocation", message=ref(about), **fields)

    assert (await said(text, **moved))[2] == "message"
    assert (await said(came, **moved))[2] == "message"
    assert (await said(text))[2] == "location"
    wrong = {"location": {"latitude": 91.0, "longitude": 4.0}}
    assert (await said(text, **wrong))[2] == "location.latitude"


async def test_requests_for_places_and_forms_arrive(stage: Stage, node: NodeProcess) -> None:
    account, other = await stage.paired(node), await stage.paired(node)
    await send_content(stage, node, account, other.phone, {"location_request": {"body": "Where?"}})
    told = (await received(stage, other, "message.received")).message.message
    assert told.content.location_request.body == "Where?"


# --- status posts


async def test_a_status_post_reaches_those_whom_it_is_for(stage: Stage, node: NodeProcess) -> None:
    account, friend, other = [await stage.paired(node) for _ in range(3)]
    for person in (friend, other):
        await send_content(stage, node, account, person.phone, {"text": {"body": "hello"}})
    text = {"text": {"body": "news", "style": {"background_color": "#00FF7F", "font": 7}}}
    only = {"audience": {"kind": 3, "addresses": [friend.phone]}}
    all_but = {"audience": {"kind": 2, "addresses": [other.phone]}}

    for options in (only, all_but):
        fields = {"recipient": "status", "content": text, "options": options, "wait_for": 2}
        await act(stage, node, account, "SendMessage", **fields)

    def is_post(event: Any) -> bool:
        return bool(event.message.message.chat == "status")

    told = (await received(stage, friend, "message.received", is_post)).message.message
    assert (told.sender.phone, told.content.text.style.background_color) == (account.phone, "#00FF7F")

    async def both() -> bool:
        events = [body for type_, body in await stage.events(friend) if type_ == "message.received"]
        return sum(is_post(event_pb2.Event.FromString(body)) for body in events) == 2

    await eventually(both)
    posts = [body for type_, body in await stage.events(other) if type_ == "message.received"]
    assert not any(is_post(event_pb2.Event.FromString(body)) for body in posts)
