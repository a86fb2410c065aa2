"""What the network brings is stored first and acknowledged then."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from mesh_core.ids import Prefix, encode, new_uuid
from mesh_session_node.context.message_rows import message_of_row
from mesh_session_node.drivers.interface.content import Identity, Incoming, Reference, person_of
from mesh_session_node.inbound import receiver
from mesh_session_node.inbound.in_order import MAX_WAITING
from mesh_session_node.journal import (
    REFUSED,
    ContentUpdate,
    Duplicate,
    Event,
    FetchBegin,
    InboundMessage,
    OutboundMessage,
    PersonIdentity,
    Poison,
)
from mesh_session_node.outbound.outgoing import Outgoing
from sessionmesh.v1 import content_pb2, event_pb2, session_pb2
from sessionmesh.v1 import message_pb2 as pb
from sessionmesh.v1.common_pb2 import MessageRef, Person
from tests.support.eventually import eventually
from tests.support.memory_host import PHONE, OneAccount, content_of
from tests.support.memory_journal import Clock

ADA = "phone:+4915100000009"
STRANGER = "phone:+4915100000008"
FIRST = new_uuid()
TIME = 1_700_000_000_000_000


def incoming(text: str = "good morning", **fields: Any) -> Incoming:
    values = {
        "network_id": "IN1",
        "chat": ADA,
        "sender": ADA,
        "push_name": "Ada",
        "time": 1_700_000_000_000_000,
    }
    return Incoming(**{**values, "content": content_of(text), **fields})


def events(account: OneAccount, type_: str) -> list[event_pb2.Event]:
    """The stored events of one type."""
    return [event_pb2.Event.FromString(event.body) for event in account.stored(Event) if event.type == type_]


def with_earlier_message(account: OneAccount, *, chat: str = ADA, sender: str = ADA, **columns: Any) -> str:
    """A message that came earlier, by the network's id `EARLIER`; our id of it."""
    earlier = new_uuid()
    stored = pb.Message(content=content_of("how are you?"), sender=Person(address=sender))
    content = stored.SerializeToString()
    account.messages.add(earlier, "EARLIER", pb.DIRECTION_INBOUND, content, chat, **columns)
    return encode(Prefix.MESSAGE, earlier)


def with_own_message(account: OneAccount, out: Outgoing, chat: str = ADA) -> None:
    """A message that the account sent is stored."""
    content = out.request.SerializeToString()
    account.messages.add(out.uuid, out.network_id, pb.DIRECTION_OUTBOUND, content, chat)


def stored_messages(account: OneAccount) -> list[pb.Message]:
    return [pb.Message.FromString(row.content) for row in account.stored(InboundMessage)]


EARLIER = Reference("EARLIER", ADA, ADA)
UNKNOWN = Reference("UNKNOWN", ADA, ADA)
REVOKED = content_pb2.Content(revoked=content_pb2.RevokedContent())
HEART = content_pb2.Content(reaction=content_pb2.ReactionContent(emoji="❤"))
CHANGES = {
    "edit": incoming("", target=EARLIER, edited=content_of("how do you do?")),
    "revocation": incoming(content=REVOKED, target=EARLIER),
    "reaction": incoming(content=HEART, target=EARLIER),
}
"""What is about an earlier message."""


async def test_a_message_is_stored_as_the_api_shows_it(account: OneAccount) -> None:
    await account.connected()
    identity = Identity(user_id="7", hidden_id="8", username="ada")
    came = incoming(forward_score=5, mentions=["user:7"], expire_seconds=60, identity=identity, album="A")
    account.driver.link.receive(came)
    await account.settle()
    [row, person] = account.journal.waiting
    assert isinstance(row, InboundMessage)
    assert isinstance(person, PersonIdentity)
    assert (row.network_id, row.chat, row.network_time) == ("IN1", ADA, TIME)
    assert row.event.type == "message.received"
    message = pb.Message.FromString(row.content)
    assert (message.direction, message.chat, message.content.text.body) == (
        pb.DIRECTION_INBOUND,
        ADA,
        "good morning",
    )
    assert message.sender == Person(
        address=ADA,
        phone="+4915100000009",
        user_id="7",
        hidden_id="8",
        username="ada",
        display_name="Ada",
    )
    assert message.options.forward_score == 5
    assert list(message.options.mentions) == ["user:7"]
    assert message.options.disappear_after.seconds == 60
    assert message.album == MessageRef(network_message_id="A", chat=ADA, sender=ADA)


async def test_a_person_who_wrote_is_known_when_somebody_writes_to_them(account: OneAccount) -> None:
    await account.connected()
    account.driver.link.receive(incoming(identity=Identity(user_id="7")))
    await account.send("hello", "+4915100000009")
    [queued] = account.stored(OutboundMessage)
    recipient = event_pb2.Event.FromString(queued.event.body).message_status.recipient
    assert (recipient.user_id, recipient.display_name) == ("7", "Ada")


@pytest.mark.parametrize("restarted", [False, True], ids=["in memory", "stored"])
async def test_who_answers_by_a_hidden_id_is_shown_with_the_number_that_was_written_to(
    account: OneAccount, restarted: bool
) -> None:
    await account.connected()
    out = await account.send(to="+4915100000009")
    account.driver.link.ack(out.network_id, recipient=Identity(hidden_id="8"))
    if restarted:
        account.messages.people = account.stored(PersonIdentity)
        account.session.close()
        await account.connected()
    account.driver.link.receive(incoming(chat="hidden:8", sender="hidden:8", push_name=""))
    await account.settle()
    await account.journal.commit()
    [message] = stored_messages(account)
    assert message.sender == Person(address="hidden:8", phone="+4915100000009", hidden_id="8")


async def test_somebody_edits_by_a_hidden_id_what_they_wrote_by_their_number(account: OneAccount) -> None:
    await account.connected()
    stored = pb.Message(content=content_of("how?"), sender=person_of(ADA))
    account.messages.add(new_uuid(), "EARLIER", pb.DIRECTION_INBOUND, stored.SerializeToString(), ADA)
    account.messages.people = [PersonIdentity("hidden:8", "+4915100000009", "", "8", "", "", 1)]
    account.driver.link.receive(replace(CHANGES["edit"], sender="hidden:8"))
    await account.settle()
    await account.journal.commit()
    assert len(account.stored(ContentUpdate)) == 1


async def test_what_another_device_of_the_account_sent_is_synced(account: OneAccount) -> None:
    await account.connected()
    own = f"phone:{PHONE}"
    account.driver.link.receive(
        incoming(sender=own, from_account=True, identity=Identity(user_id="7"), push_name="")
    )
    await account.journal.commit()
    [row] = account.stored(InboundMessage)
    assert (row.direction, row.status, row.event.type) == (
        pb.DIRECTION_OUTBOUND,
        pb.MESSAGE_STATUS_SENT,
        "message.synced",
    )
    [message] = stored_messages(account)
    assert message.origin == pb.MESSAGE_ORIGIN_OTHER_DEVICE
    assert (message.sender.address, message.sender.phone) == (own, PHONE)
    assert message.recipient == Person(address=ADA, phone="+4915100000009", user_id="7")
    assert account.driver.link.acknowledged == ["IN1"]
    assert account.shown.counters.received == 0


async def test_a_reaction_from_another_device_of_the_account_is_synced_too(account: OneAccount) -> None:
    await account.connected()
    with_earlier_message(account)
    account.driver.link.receive(
        incoming(sender=f"phone:{PHONE}", from_account=True, content=HEART, target=EARLIER)
    )
    await account.settle()
    await account.journal.commit()
    [row] = account.stored(InboundMessage)
    assert row.event.type == "message.synced"


async def test_the_network_is_told_once_the_message_is_stored_and_not_before(account: OneAccount) -> None:
    await account.connected()
    account.driver.link.receive(incoming())
    await account.settle()
    assert account.driver.link.acknowledged == []
    assert account.shown.counters.received == 0
    await account.journal.commit()
    assert account.driver.link.acknowledged == ["IN1"]
    assert account.shown.counters.received == 1


async def test_a_message_that_comes_again_is_acknowledged_again_and_counted_once(account: OneAccount) -> None:
    await account.connected()
    account.driver.link.receive(incoming())
    await account.journal.commit()
    account.driver.link.receive(incoming(blob=b"file"))
    await account.journal.commit(Duplicate(FIRST))
    assert account.driver.link.acknowledged == ["IN1", "IN1"]
    assert account.shown.counters.received == 1
    assert account.fetcher.files == []


async def test_a_message_that_the_fence_refuses_stays_the_networks(account: OneAccount) -> None:
    await account.connected()
    account.driver.link.receive(incoming())
    await account.journal.commit(REFUSED)
    assert account.driver.link.acknowledged == []


@pytest.mark.parametrize("unknown", [True, False], ids=["outcome unknown", "journal full"])
async def test_a_message_that_cannot_be_stored_stays_the_networks(account: OneAccount, unknown: bool) -> None:
    await account.connected()
    account.journal.full = not unknown
    account.driver.link.receive(incoming())
    await account.journal.lose()
    assert account.driver.link.acknowledged == []
    assert account.shown.counters.received == 0


async def test_a_message_is_not_acknowledged_over_a_later_connection(account: OneAccount) -> None:
    await account.connected()
    account.driver.link.receive(incoming())
    account.driver.link.end()
    account.session.connect()
    await account.dial()
    await account.journal.commit()
    assert [link.acknowledged for link in account.driver.links] == [[], []]


async def test_the_file_of_a_message_is_fetched_once_the_message_is_stored(account: OneAccount) -> None:
    await account.connected()
    account.driver.link.receive(incoming("cat.png", blob=b"file"))
    assert account.fetcher.files == []
    await account.journal.commit()
    [row] = account.stored(InboundMessage)
    assert row.media == b"file"
    assert account.fetcher.files == [(row.id, b"file")]


async def test_an_answer_refers_to_our_message_and_says_what_it_said(account: OneAccount) -> None:
    await account.connected()
    earlier = with_earlier_message(account)
    account.driver.link.receive(incoming("fine", reply_to=EARLIER))
    await account.settle()
    await account.journal.commit()
    [message] = stored_messages(account)
    assert message.quoted.ref == MessageRef(
        message_id=earlier, network_message_id="EARLIER", chat=ADA, sender=ADA
    )
    assert message.quoted.content == content_of("how are you?")


async def test_an_answer_to_a_message_that_nobody_knows_keeps_its_reference(account: OneAccount) -> None:
    await account.connected()
    quoted = replace(UNKNOWN, content=content_of("are you there?"))
    account.driver.link.receive(incoming("yes", reply_to=quoted))
    await account.settle()
    await account.journal.commit()
    [message] = stored_messages(account)
    assert message.quoted.ref == MessageRef(network_message_id="UNKNOWN", chat=ADA, sender=ADA)
    assert message.quoted.content == content_of("are you there?")
    assert account.driver.link.acknowledged == ["IN1"]


@pytest.mark.parametrize(
    ("state", "shown"),
    [(content_pb2.MEDIA_STATE_READY, content_pb2.MEDIA_STATE_READY), (content_pb2.MEDIA_STATE_PENDING, 0)],
    ids=["fetched", "still to be fetched"],
)
async def test_what_is_answered_is_quoted_as_it_is_stored(
    account: OneAccount, state: content_pb2.MediaState.ValueType, shown: int
) -> None:
    await account.connected()
    stored = pb.Message(content=content_of("cat.png"), sender=Person(address=ADA))
    stored.content.image.media.media_id, stored.content.image.media.state = "med_1", state
    account.messages.add(new_uuid(), "EARLIER", pb.DIRECTION_INBOUND, stored.SerializeToString(), ADA)
    repeated = content_of("cat.png")
    repeated.image.media.state = content_pb2.MEDIA_STATE_PENDING
    account.driver.link.receive(incoming("fine", reply_to=replace(EARLIER, content=repeated)))
    await account.settle()
    await account.journal.commit()
    [message] = stored_messages(account)
    media = message.quoted.content.image.media
    assert (media.media_id, media.state) == ("med_1", shown)


async def test_a_file_that_the_network_repeats_is_never_said_to_be_on_its_way(account: OneAccount) -> None:
    await account.connected()
    repeated = content_of("cat.png")
    repeated.image.media.state = content_pb2.MEDIA_STATE_PENDING
    account.driver.link.receive(incoming("fine", reply_to=replace(UNKNOWN, content=repeated)))
    await account.settle()
    await account.journal.commit()
    [message] = stored_messages(account)
    assert message.quoted.content.image.caption == "cat.png"
    assert message.quoted.content.image.media.state == content_pb2.MEDIA_STATE_UNSPECIFIED


async def test_every_reference_names_our_message(account: OneAccount) -> None:
    await account.connected()
    earlier = with_earlier_message(account)
    vote = content_pb2.Content(poll_vote=content_pb2.PollVoteContent(answers=["yes"]))
    account.driver.link.receive(incoming(content=vote, target=EARLIER, reply_to=EARLIER, album="EARLIER"))
    await account.settle()
    await account.journal.commit()
    [message] = stored_messages(account)
    named = [message.content.poll_vote.poll, message.quoted.ref, message.album]
    assert [ref.message_id for ref in named] == [earlier] * 3


async def test_what_is_answered_may_be_the_accounts_own_though_it_was_never_stored(
    account: OneAccount,
) -> None:
    await account.connected()
    account.driver.link.receive(incoming("yes", reply_to=Reference("UNKNOWN", "", f"phone:{PHONE}")))
    await account.settle()
    await account.journal.commit()
    [message] = stored_messages(account)
    assert message.quoted.ref == MessageRef(network_message_id="UNKNOWN", chat=ADA, from_account=True)


async def test_an_answer_waits_for_what_it_answers_to_be_stored(account: OneAccount) -> None:
    await account.connected()
    account.driver.link.receive(incoming(network_id="EARLIER"))
    account.driver.link.receive(incoming("again", reply_to=EARLIER))
    await account.settle()
    assert len(account.journal.waiting) == 1
    earlier = with_earlier_message(account)  # as the commit stores it
    await account.journal.commit()
    await account.journal.commit()
    assert stored_messages(account)[-1].quoted.ref.message_id == earlier


async def test_what_comes_for_one_chat_is_stored_in_its_order(account: OneAccount) -> None:
    await account.connected()
    with_earlier_message(account)
    kinds: list[dict[str, Any]] = [
        {"reply_to": EARLIER},
        {},
        {"content": HEART, "target": EARLIER},
        {"album": "A"},
    ]
    ids = [f"IN{number}" for number in range(12)]
    for number, network_id in enumerate(ids):
        account.driver.link.receive(incoming(network_id=network_id, **kinds[number % 4]))
    await account.settle()
    await account.journal.commit()
    await account.settle()
    await account.journal.commit()
    assert [row.network_id for row in account.stored(InboundMessage)] == ids
    assert account.driver.link.acknowledged == ids


async def test_a_chat_waits_for_the_look_up_of_its_messages_and_other_chats_go_on(
    account: OneAccount, clock: Clock
) -> None:
    await account.connected()
    account.messages.unavailable = True
    account.driver.link.receive(incoming(network_id="IN1", reply_to=EARLIER))
    account.driver.link.receive(incoming(network_id="IN2"))
    account.driver.link.receive(incoming(network_id="IN3", chat="group:1"))
    await account.settle()
    assert [row.network_id for row in account.journal.waiting if isinstance(row, InboundMessage)] == ["IN3"]
    await account.journal.commit()
    account.messages.unavailable = False
    await eventually(lambda: len(account.journal.waiting) == 2)
    await account.journal.commit()
    assert account.driver.link.acknowledged == ["IN3", "IN1", "IN2"]


async def test_a_change_comes_before_what_was_written_after_it(account: OneAccount) -> None:
    await account.connected()
    with_earlier_message(account)
    account.driver.link.receive(CHANGES["edit"])
    account.driver.link.receive(incoming(network_id="IN2"))
    await account.settle()
    assert not [row for row in account.journal.waiting if isinstance(row, InboundMessage)]
    await account.journal.commit()
    await account.journal.commit()
    assert account.driver.link.acknowledged == ["IN1", "IN2"]


async def test_what_comes_while_too_much_waits_is_asked_for_again_when_there_is_room(
    account: OneAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiver, "_ASK_SECONDS", 0.0)
    await account.connected()
    first = account.driver.link
    account.messages.unavailable = True
    for number in range(MAX_WAITING + 1):
        account.driver.link.receive(incoming(network_id=f"IN{number}", reply_to=UNKNOWN))
    account.messages.unavailable = False
    await eventually(lambda: len(account.journal.waiting) == MAX_WAITING)
    await account.journal.commit()
    await eventually(lambda: first.aborted)
    await account.dial()
    assert account.driver.link is not first
    assert account.session.connector.failures.recent(time.monotonic()) == []
    account.driver.link.receive(incoming(network_id=f"IN{MAX_WAITING}", reply_to=UNKNOWN))
    await eventually(lambda: len(account.journal.waiting) == 1)
    await account.journal.commit()
    assert account.driver.link.acknowledged == [f"IN{MAX_WAITING}"]


async def test_what_had_no_room_over_a_later_connection_is_asked_for_again_too(
    account: OneAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiver, "_ASK_SECONDS", 0.0)
    await account.connected()
    account.messages.unavailable = True
    for number in range(MAX_WAITING + 1):
        account.driver.link.receive(incoming(network_id=f"IN{number}", reply_to=UNKNOWN))
    account.session.context.connect_anew("lost")
    await account.dial()
    later = account.driver.link
    later.receive(incoming(network_id="LATER", reply_to=UNKNOWN))
    account.messages.unavailable = False
    await eventually(lambda: later.aborted)


async def test_an_account_that_had_no_room_connects_anew_once_and_not_before_there_is_some(
    account: OneAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiver, "_ASK_SECONDS", 0.0)
    await account.connected()
    account.messages.unavailable = True
    for number in range(MAX_WAITING + 5):
        account.driver.link.receive(incoming(network_id=f"IN{number}", reply_to=UNKNOWN))
    await account.settle()
    assert account.shown.state == session_pb2.SESSION_STATE_CONNECTED
    account.messages.unavailable = False
    await eventually(lambda: len(account.host.admitted) == 1)


async def test_a_reaction_is_an_event_about_our_message(account: OneAccount) -> None:
    await account.connected()
    out = await account.send()
    with_own_message(account, out)
    account.driver.link.receive(incoming(content=HEART, target=Reference(out.network_id)))
    await account.settle()
    [row] = [row for row in account.journal.waiting if isinstance(row, InboundMessage)]
    event = event_pb2.Event.FromString(row.event.body)
    assert event.type == "message.reaction"
    assert event.reaction.message == MessageRef(
        message_id=out.id, network_message_id=out.network_id, chat=ADA, from_account=True
    )
    assert (event.reaction.emoji, event.reaction.sender.display_name) == ("❤", "Ada")


@pytest.mark.parametrize(
    "content",
    [
        HEART,
        content_pb2.Content(poll_vote=content_pb2.PollVoteContent(answers=["yes"])),
        content_pb2.Content(choice=content_pb2.ChoiceContent(reply_id="1")),
    ],
    ids=lambda content: content.WhichOneof("kind"),
)
async def test_what_is_about_a_message_that_was_never_stored_keeps_its_reference(
    account: OneAccount, content: content_pb2.Content
) -> None:
    await account.connected()
    account.driver.link.receive(incoming(content=content, target=UNKNOWN))
    await account.settle()
    await account.journal.commit()
    [message] = stored_messages(account)
    kind = getattr(message.content, content.WhichOneof("kind") or "")
    about = kind.poll if kind.DESCRIPTOR.name == "PollVoteContent" else kind.message
    assert about == MessageRef(network_message_id="UNKNOWN", chat=ADA, sender=ADA)


async def test_an_edit_changes_the_message(account: OneAccount) -> None:
    await account.connected()
    earlier = with_earlier_message(account)
    account.driver.link.receive(CHANGES["edit"])
    await account.settle()
    assert account.driver.link.acknowledged == []
    await account.journal.commit()
    [row] = account.stored(ContentUpdate)
    assert row.edit_time == TIME
    assert pb.Message.FromString(row.content).content.text.body == "how do you do?"
    [event] = events(account, "message.edited")
    message = event.message_changed.message
    assert (message.id, message.content.text.body) == (earlier, "how do you do?")
    assert message.edit_time.ToMicroseconds() == TIME
    assert account.driver.link.acknowledged == ["IN1"]
    assert account.stored(InboundMessage) == []


async def test_an_edit_waits_for_its_message_to_be_stored(account: OneAccount) -> None:
    await account.connected()
    account.driver.link.receive(incoming(network_id="EARLIER"))
    account.driver.link.receive(CHANGES["edit"])
    await account.settle()
    with_earlier_message(account)  # as the commit stores it
    await account.journal.commit()
    await account.journal.commit()
    [row] = account.stored(ContentUpdate)
    assert pb.Message.FromString(row.content).content.text.body == "how do you do?"
    assert len(account.stored(InboundMessage)) == 1


async def test_an_edit_of_an_answer_waits_for_the_answer_to_be_stored(account: OneAccount) -> None:
    await account.connected()
    account.driver.link.receive(incoming(network_id="EARLIER", reply_to=UNKNOWN))
    account.driver.link.receive(CHANGES["edit"])
    await account.settle()
    with_earlier_message(account)  # as the commit stores it
    await account.journal.commit()
    await account.journal.commit()
    [row] = account.stored(ContentUpdate)
    assert pb.Message.FromString(row.content).content.text.body == "how do you do?"


async def test_an_edit_that_is_offered_again_is_told_once(account: OneAccount) -> None:
    await account.connected()
    with_earlier_message(account)
    account.driver.link.receive(CHANGES["edit"])
    await account.settle()
    await account.journal.commit()
    [row] = account.stored(ContentUpdate)
    account.messages.rows[0] |= {"content": row.content, "edit_time": datetime.fromtimestamp(TIME / 1e6, UTC)}
    account.driver.link.receive(CHANGES["edit"])
    await account.settle()
    await account.journal.commit()
    assert len(events(account, "message.edited")) == 1
    assert account.driver.link.acknowledged == ["IN1", "IN1"]


async def test_edits_of_one_message_are_stored_in_their_order(account: OneAccount) -> None:
    await account.connected()
    with_earlier_message(account)
    for text in ("one", "two"):
        account.driver.link.receive(incoming("", target=EARLIER, edited=content_of(text)))
    await account.settle()
    assert len(account.journal.units) == 1
    await account.journal.commit()
    await account.journal.commit()
    updates = [pb.Message.FromString(row.content) for row in account.stored(ContentUpdate)]
    assert [message.content.text.body for message in updates] == ["one", "two"]


async def test_another_caption_keeps_the_picture(account: OneAccount) -> None:
    await account.connected()
    stored = pb.Message(content=content_of("cat.png"), sender=Person(address=ADA))
    stored.content.image.media.media_id = "med_1"
    account.messages.add(new_uuid(), "EARLIER", pb.DIRECTION_INBOUND, stored.SerializeToString(), ADA)
    account.driver.link.receive(incoming("", target=EARLIER, edited=content_of("dog.png")))
    await account.settle()
    [row, _] = account.journal.waiting
    assert isinstance(row, ContentUpdate)
    image = pb.Message.FromString(row.content).content.image
    assert (image.caption, image.media.media_id) == ("dog.png", "med_1")


async def test_an_older_edit_does_not_undo_a_later_one(account: OneAccount) -> None:
    await account.connected()
    with_earlier_message(account, edit_time=datetime.fromtimestamp(TIME / 1e6 + 1, UTC))
    account.driver.link.receive(CHANGES["edit"])
    await account.settle()
    await account.journal.commit()
    assert account.stored(ContentUpdate) == []
    assert account.driver.link.acknowledged == ["IN1"]


async def test_what_was_edited_later_is_taken_back_all_the_same(account: OneAccount) -> None:
    await account.connected()
    with_earlier_message(account, edit_time=datetime.fromtimestamp(TIME / 1e6 + 1, UTC))
    account.driver.link.receive(CHANGES["revocation"])
    await account.settle()
    await account.journal.commit()
    assert shown(account).content.HasField("revoked")


async def test_an_edit_is_not_of_a_time_to_come(account: OneAccount) -> None:
    await account.connected()
    with_earlier_message(account)
    now = time.time()
    account.driver.link.receive(replace(CHANGES["edit"], time=int((now + 23 * 3600) * 1e6)))
    await account.settle()
    await account.journal.commit()
    assert abs(shown(account).edit_time.ToSeconds() - now) < 60


@pytest.mark.parametrize("kind", ["edit", "revocation"])
async def test_a_change_of_what_has_no_id_is_acknowledged(account: OneAccount, kind: str) -> None:
    await account.connected()
    account.driver.link.receive(replace(CHANGES[kind], target=replace(EARLIER, network_id="")))
    await account.settle()
    assert account.journal.waiting == []
    assert account.driver.link.acknowledged == ["IN1"]


@pytest.mark.parametrize("kind", ["edit", "revocation"])
async def test_a_change_of_what_was_erased_is_acknowledged(account: OneAccount, kind: str) -> None:
    await account.connected()
    with_earlier_message(account, chat="group:1")
    account.messages.rows[-1]["content"] = b""
    account.driver.link.receive(replace(CHANGES[kind], chat="group:1"))
    await account.settle()
    assert account.journal.waiting == []
    assert account.driver.link.acknowledged == ["IN1"]


async def test_a_message_that_is_taken_back_loses_its_content_and_says_by_whom(account: OneAccount) -> None:
    await account.connected()
    with_earlier_message(account)
    account.driver.link.receive(CHANGES["revocation"])
    await account.settle()
    await account.journal.commit()
    [row] = account.stored(ContentUpdate)
    content = pb.Message.FromString(row.content).content
    assert content.WhichOneof("kind") == "revoked"
    assert (content.revoked.actor.address, content.revoked.actor.display_name) == (ADA, "Ada")
    assert len(events(account, "message.revoked")) == 1


async def with_place(account: OneAccount, change: Incoming) -> pb.Message:
    """A change comes before its message, and is stored; as the message that it has made."""
    account.driver.link.receive(change)
    await account.settle()
    await account.journal.commit()
    return stored_messages(account)[-1]


async def original_comes(account: OneAccount, **fields: Any) -> pb.Message:
    """The message itself comes; as it is stored then."""
    account.driver.link.receive(incoming(network_id="UNKNOWN", **fields))
    await account.settle()
    await account.journal.commit(Duplicate(account.messages.rows[-1]["id"]))
    await account.journal.commit()
    assert account.driver.link.acknowledged[-1] == "UNKNOWN"
    return shown(account)


def shown(account: OneAccount) -> pb.Message:
    """The message that was stored last, as the API shows it."""
    session = account.session.context
    return message_of_row(session.id, session.people, cast("Any", account.messages.rows[-1]))


@pytest.mark.parametrize(("kind", "type_"), [("edit", "edited"), ("revocation", "revoked")])
async def test_a_change_that_comes_before_its_message_is_told_and_has_a_place(
    account: OneAccount, kind: str, type_: str
) -> None:
    await account.connected()
    place = await with_place(account, replace(CHANGES[kind], target=UNKNOWN))
    [row] = account.stored(InboundMessage)
    assert (row.network_id, row.event.type, row.network_time) == ("UNKNOWN", f"message.{type_}", None)
    told = event_pb2.Event.FromString(row.event.body).message_changed.message
    assert told == place
    assert (place.network_message_id, place.chat, place.sender.address) == ("UNKNOWN", ADA, ADA)
    [update] = account.stored(ContentUpdate)
    assert (update.message, update.edit_time) == (row.id, TIME)
    assert account.driver.link.acknowledged == ["IN1"]


async def test_an_edit_that_came_before_its_message_is_applied_when_it_comes(account: OneAccount) -> None:
    await account.connected()
    place = await with_place(account, replace(CHANGES["edit"], target=UNKNOWN, mentions=["user:7"]))
    message = await original_comes(account, mentions=["user:8"], expire_seconds=60)
    assert message.content == content_of("how do you do?")
    assert list(message.options.mentions) == ["user:7"]
    assert message.options.disappear_after.seconds == 60
    assert message.edit_time == place.edit_time
    assert message.network_time.ToMicroseconds() == TIME
    [event] = events(account, "message.received")
    assert event.message.message == message
    assert message.id == place.id
    assert account.shown.counters.received == 1


async def test_a_message_that_was_taken_back_before_it_came_stays_so_and_is_not_received(
    account: OneAccount,
) -> None:
    await account.connected()
    await with_place(account, replace(CHANGES["revocation"], target=UNKNOWN))
    message = await original_comes(account)
    assert message.content.revoked.actor.address == ADA
    assert message.network_time.ToMicroseconds() == TIME
    assert events(account, "message.received") == []


async def test_another_caption_that_came_before_its_picture_keeps_the_picture(account: OneAccount) -> None:
    await account.connected()
    await with_place(account, replace(CHANGES["edit"], target=UNKNOWN, edited=content_of("dog.png")))
    picture = content_of("cat.png")
    picture.image.media.size_bytes = 7
    message = await original_comes(account, content=picture, blob=b"file")
    assert (message.content.image.caption, message.content.image.media.size_bytes) == ("dog.png", 7)
    assert [blob for _, blob in account.fetcher.files] == [b"file"]
    assert account.stored(FetchBegin) == [FetchBegin(account.messages.rows[-1]["id"], b"file")]


async def test_an_edit_by_somebody_else_that_came_before_its_message_is_undone_by_it(
    account: OneAccount,
) -> None:
    await account.connected()
    other = "phone:+4915100000008"
    await with_place(account, replace(CHANGES["edit"], target=UNKNOWN, chat="group:1", sender=other))
    message = await original_comes(account, chat="group:1")
    assert (message.content, message.sender.address) == (content_of("good morning"), ADA)


@pytest.mark.parametrize("kind", ["edit", "revocation"])
async def test_a_message_is_in_its_chat_though_a_stranger_changed_what_has_its_id(
    account: OneAccount, kind: str
) -> None:
    await account.connected()
    target = Reference("UNKNOWN", STRANGER, STRANGER)
    await with_place(account, replace(CHANGES[kind], target=target, chat=STRANGER, sender=STRANGER))
    message = await original_comes(account, chat="group:1")
    assert (message.chat, message.sender.address) == ("group:1", ADA)
    assert (message.content, message.HasField("edit_time")) == (content_of("good morning"), False)
    assert message.network_time.ToMicroseconds() == TIME


async def test_an_answer_does_not_say_what_a_stranger_said_of_the_id_that_it_answers_to(
    account: OneAccount,
) -> None:
    await account.connected()
    target = Reference("UNKNOWN", STRANGER, STRANGER)
    await with_place(account, replace(CHANGES["edit"], target=target, chat=STRANGER, sender=STRANGER))
    account.driver.link.receive(incoming(reply_to=replace(UNKNOWN, content=content_of("said"))))
    await account.settle()
    await account.journal.commit()
    quoted = shown(account).quoted
    assert (quoted.ref.chat, quoted.ref.message_id, quoted.content) == (ADA, "", content_of("said"))


async def test_what_the_accounts_phone_wrote_is_its_own_though_a_stranger_changed_what_has_its_id(
    account: OneAccount,
) -> None:
    await account.connected()
    target = Reference("UNKNOWN", STRANGER, STRANGER)
    await with_place(account, replace(CHANGES["edit"], target=target, chat=STRANGER, sender=STRANGER))
    message = await original_comes(account, sender=f"phone:{PHONE}", from_account=True)
    assert (message.chat, message.content) == (ADA, content_of("good morning"))
    assert (message.direction, message.origin, message.status) == (
        pb.DIRECTION_OUTBOUND,
        pb.MESSAGE_ORIGIN_OTHER_DEVICE,
        pb.MESSAGE_STATUS_SENT,
    )


@pytest.mark.parametrize("sender", [ADA, f"phone:{PHONE}"], ids=["somebody's", "the account's"])
async def test_what_is_taken_back_in_one_group_is_received_in_another_chat(
    account: OneAccount, sender: str
) -> None:
    await account.connected()
    target = Reference("UNKNOWN", "group:1", sender)
    await with_place(account, replace(CHANGES["revocation"], target=target, chat="group:1", sender=STRANGER))
    message = await original_comes(account, sender=sender)
    assert (message.chat, message.content) == (ADA, content_of("good morning"))


async def test_a_place_that_was_erased_is_not_filled(account: OneAccount) -> None:
    await account.connected()
    await with_place(account, replace(CHANGES["edit"], target=UNKNOWN))
    account.messages.rows[-1]["content"] = b""
    account.driver.link.receive(incoming(network_id="UNKNOWN"))
    await account.settle()
    await account.journal.commit(Duplicate(account.messages.rows[-1]["id"]))
    assert account.journal.waiting == []
    assert account.driver.link.acknowledged[-1] == "UNKNOWN"


async def test_a_message_that_took_its_place_and_was_erased_is_not_received_again(
    account: OneAccount,
) -> None:
    await account.connected()
    await with_place(account, replace(CHANGES["edit"], target=UNKNOWN))
    await original_comes(account)
    account.messages.rows[-1]["content"] = b""
    await original_comes(account)
    assert len(events(account, "message.received")) == 1
    assert account.messages.rows[-1]["content"] == b""


async def test_nobody_takes_back_what_the_other_wrote_before_it_comes(account: OneAccount) -> None:
    await account.connected()
    account.driver.link.receive(
        replace(CHANGES["revocation"], target=replace(UNKNOWN, sender=f"phone:{PHONE}"))
    )
    await account.settle()
    assert account.journal.waiting == []
    assert account.driver.link.acknowledged == ["IN1"]


async def test_a_message_that_came_is_not_told_again_when_it_is_offered_again(account: OneAccount) -> None:
    await account.connected()
    await with_place(account, replace(CHANGES["edit"], target=UNKNOWN))
    await original_comes(account)
    await original_comes(account)
    assert len(events(account, "message.received")) == 1


@pytest.mark.parametrize("mentions", [["user:8"], []], ids=["others", "nobody"])
@pytest.mark.parametrize("by_account", [True, False], ids=["sent here", "received"])
async def test_an_edit_says_whom_the_message_mentions_now(
    account: OneAccount, mentions: list[str], by_account: bool
) -> None:
    await account.connected()
    edit = replace(CHANGES["edit"], mentions=mentions)
    if by_account:
        out = await account.send(options=pb.MessageOptions(mentions=["user:7"], forward_score=1))
        with_own_message(account, out)
        own = f"phone:{PHONE}"
        edit = replace(edit, sender=own, from_account=True, target=Reference(out.network_id, ADA, own))
    else:
        stored = pb.Message(content=content_of("how?"), sender=Person(address=ADA))
        stored.options.mentions.append("user:7")
        account.messages.add(new_uuid(), "EARLIER", pb.DIRECTION_INBOUND, stored.SerializeToString(), ADA)
    account.driver.link.receive(edit)
    await account.settle()
    await account.journal.commit()
    [update] = account.stored(ContentUpdate)
    kind = pb.SendMessageRequest if by_account else pb.Message
    assert list(kind.FromString(update.content).options.mentions) == mentions
    [event] = events(account, "message.edited")
    assert list(event.message_changed.message.options.mentions) == mentions


@pytest.mark.parametrize("target", [EARLIER, UNKNOWN], ids=["stored", "not stored"])
async def test_an_edit_that_cannot_be_read_changes_nothing(account: OneAccount, target: Reference) -> None:
    await account.connected()
    with_earlier_message(account)
    unreadable = content_pb2.Content(unknown=content_pb2.UnknownContent(kind="poll"))
    account.driver.link.receive(replace(CHANGES["edit"], target=target, edited=unreadable))
    await account.settle()
    assert account.journal.waiting == []
    assert account.driver.link.acknowledged == ["IN1"]


@pytest.mark.parametrize("kind", [*CHANGES])
async def test_a_change_that_the_fence_refuses_stays_the_networks(account: OneAccount, kind: str) -> None:
    await account.connected()
    with_earlier_message(account)
    account.driver.link.receive(CHANGES[kind])
    await account.settle()
    await account.journal.commit(REFUSED)
    assert account.driver.link.acknowledged == []


@pytest.mark.parametrize("unknown", [True, False], ids=["outcome unknown", "journal full"])
@pytest.mark.parametrize("kind", [*CHANGES])
async def test_a_change_that_cannot_be_stored_stays_the_networks(
    account: OneAccount, kind: str, unknown: bool
) -> None:
    await account.connected()
    with_earlier_message(account)
    account.journal.full = not unknown
    account.driver.link.receive(CHANGES[kind])
    await account.settle()
    await account.journal.lose()
    assert account.driver.link.acknowledged == []


async def refused(account: OneAccount, kind: str) -> None:
    """A message came, and the database refuses its rows."""
    await account.connected()
    with_earlier_message(account)
    account.driver.link.receive(CHANGES.get(kind) or incoming())
    await account.settle()
    await account.journal.commit(Poison(ValueError("too long")))


@pytest.mark.parametrize("kind", ["message", *CHANGES])
async def test_what_the_database_refuses_is_logged(account: OneAccount, kind: str) -> None:
    with capture_logs() as logs:
        await refused(account, kind)
    assert account.driver.link.acknowledged == []
    [log] = [log for log in logs if log["log_level"] == "error"]
    assert (log["account_id"], log["network_id"]) == (account.session.id, "IN1")
    assert "too long" in log["error"]


@pytest.mark.parametrize(
    ("kind", "shown"),
    [("message", "text"), ("edit", "edit"), ("revocation", "revoked"), ("reaction", "reaction")],
)
async def test_a_placeholder_is_stored_for_what_the_database_refuses(
    account: OneAccount, kind: str, shown: str
) -> None:
    await refused(account, kind)
    await account.journal.commit()
    [message] = stored_messages(account)
    assert (message.content.unknown.kind, message.network_message_id, message.chat) == (shown, "IN1", ADA)
    assert account.driver.link.acknowledged == ["IN1"]


async def test_a_placeholder_that_is_refused_too_stays_the_networks(account: OneAccount) -> None:
    await refused(account, "message")
    await account.journal.commit(Poison(ValueError("no partition")))
    assert account.journal.waiting == []
    assert account.driver.link.acknowledged == []


async def test_a_message_without_an_id_is_known_again_when_it_is_offered_again(account: OneAccount) -> None:
    await account.connected()
    for _ in range(2):
        account.driver.link.receive(incoming(network_id=""))
    ids = {row.network_id for row in account.journal.waiting if isinstance(row, InboundMessage)}
    assert len(ids) == 1


@pytest.mark.parametrize("network_id", ["", "nul\0", "x" * 5000, "\ud800"])
async def test_a_message_is_acknowledged_under_the_id_that_it_was_offered_under(
    account: OneAccount, network_id: str
) -> None:
    await account.connected()
    account.driver.link.receive(incoming(network_id=network_id))
    await account.journal.commit()
    assert account.driver.link.acknowledged == [network_id]


@pytest.mark.parametrize("time", [0, -5, 2**62, 2**64 - 1])
async def test_a_time_that_cannot_be_is_the_time_when_it_came(
    account: OneAccount, clock: Clock, time: int
) -> None:
    await account.connected()
    account.driver.link.receive(incoming(time=time))
    [message] = [
        pb.Message.FromString(row.content)
        for row in account.journal.waiting
        if isinstance(row, InboundMessage)
    ]
    assert abs(message.network_time.ToSeconds() - message.create_time.ToSeconds()) <= 1


@pytest.mark.parametrize("kind", ["message", *CHANGES])
async def test_what_comes_while_too_much_waits_for_the_database_is_stored_later_in_its_order(
    account: OneAccount, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(receiver, "_RETRY_SECONDS", 0.0)
    await account.connected()
    with_earlier_message(account)
    account.journal.full = True
    account.driver.link.receive(CHANGES.get(kind) or incoming())
    account.driver.link.receive(incoming("and this", network_id="IN2"))
    await account.settle()
    account.journal.full = False

    async def both() -> bool:
        await account.journal.commit()
        return account.driver.link.acknowledged == ["IN1", "IN2"]

    await eventually(both)


async def test_an_answer_that_comes_while_the_database_is_away_is_stored_when_it_is_back(
    account: OneAccount, clock: Clock
) -> None:
    await account.connected()
    with_earlier_message(account)
    account.messages.unavailable = True
    account.driver.link.receive(CHANGES["reaction"])
    await account.settle()
    account.messages.unavailable = False
    await eventually(lambda: len(account.journal.waiting) == 1)


@pytest.mark.parametrize("kind", [*CHANGES])
async def test_a_change_is_not_acknowledged_over_a_later_connection(account: OneAccount, kind: str) -> None:
    await account.connected()
    with_earlier_message(account)
    account.driver.link.receive(CHANGES[kind])
    account.driver.link.end()
    account.session.connect()
    await account.dial()
    await account.journal.commit()
    assert [link.acknowledged for link in account.driver.links] == [[], []]


@pytest.mark.parametrize("kind", ["edit", "revocation"])
async def test_nobody_else_changes_what_the_account_wrote(account: OneAccount, kind: str) -> None:
    await account.connected()
    out = await account.send()
    with_own_message(account, out)
    account.driver.link.receive(replace(CHANGES[kind], target=Reference(out.network_id, ADA, ADA)))
    await account.settle()
    await account.journal.commit()
    assert account.stored(ContentUpdate) == []
    assert account.driver.link.acknowledged == ["IN1"]


@pytest.mark.parametrize("kind", ["edit", "revocation"])
async def test_nobody_changes_what_somebody_else_wrote(account: OneAccount, kind: str) -> None:
    await account.connected()
    with_earlier_message(account, sender="phone:+4915100000008")
    account.driver.link.receive(CHANGES[kind])
    await account.settle()
    await account.journal.commit()
    assert account.stored(ContentUpdate) == []


async def test_somebody_is_known_by_another_address_too(account: OneAccount) -> None:
    await account.connected()
    stored = pb.Message(content=content_of("how?"), sender=person_of(ADA))
    account.messages.add(new_uuid(), "EARLIER", pb.DIRECTION_INBOUND, stored.SerializeToString(), ADA)
    identity = Identity(phone="+4915100000009")
    account.driver.link.receive(replace(CHANGES["edit"], sender="hidden:8", identity=identity))
    await account.settle()
    await account.journal.commit()
    assert len(account.stored(ContentUpdate)) == 1


async def test_an_administrator_takes_back_what_a_member_wrote(account: OneAccount) -> None:
    await account.connected()
    with_earlier_message(account, chat="group:1", sender="phone:+4915100000008")
    account.driver.link.receive(replace(CHANGES["revocation"], chat="group:1"))
    await account.settle()
    await account.journal.commit()
    [row] = account.stored(ContentUpdate)
    assert pb.Message.FromString(row.content).content.revoked.actor.address == ADA


@pytest.mark.parametrize("kind", ["edit", "revocation"])
async def test_another_device_changes_what_this_api_sent(account: OneAccount, kind: str) -> None:
    await account.connected()
    out = await account.send()
    with_own_message(account, out)
    own = f"phone:{PHONE}"
    account.driver.link.receive(
        replace(CHANGES[kind], target=Reference(out.network_id, ADA, own), sender=own, from_account=True)
    )
    await account.settle()
    await account.journal.commit()
    [row] = account.stored(ContentUpdate)
    content = pb.SendMessageRequest.FromString(row.content).content
    assert content.WhichOneof("kind") == ("text" if kind == "edit" else "revoked")


async def test_what_the_accounts_phone_writes_in_a_group_says_nothing_of_the_group(
    account: OneAccount,
) -> None:
    await account.connected()
    own = Identity(phone=PHONE, user_id="7")
    account.driver.link.receive(
        incoming(chat="group:1", sender=f"phone:{PHONE}", from_account=True, identity=own, push_name="")
    )
    account.driver.link.receive(incoming(network_id="IN2", chat="group:1"))
    await account.journal.commit()
    synced, received = stored_messages(account)
    assert not synced.HasField("recipient")
    assert synced.sender.phone == PHONE
    assert received.sender.user_id == ""
    shown = pb.Message()
    account.session.context.people.show(shown, "group:1")
    assert not shown.HasField("recipient")


@pytest.mark.parametrize(
    ("chat", "sender", "identity"),
    [
        (f"phone:{PHONE}", f"phone:{PHONE}", Identity(phone=PHONE)),
        ("group:1", f"phone:{PHONE}", None),
        ("group:1", "hidden:9", Identity(phone=PHONE, hidden_id="9")),
    ],
    ids=["to itself", "in a group", "in a group by another address"],
)
async def test_what_the_account_wrote_is_never_received(
    account: OneAccount, chat: str, sender: str, identity: Identity | None
) -> None:
    await account.connected()
    account.driver.link.receive(incoming(chat=chat, sender=sender, identity=identity))
    await account.journal.commit()
    [row] = account.stored(InboundMessage)
    assert (row.direction, row.event.type) == (pb.DIRECTION_OUTBOUND, "message.synced")
    assert account.shown.counters.received == 0


@pytest.mark.parametrize("marked", [True, False], ids=["of its own device", "as if somebody wrote"])
async def test_the_echo_of_what_this_api_sent_is_acknowledged_and_not_stored_again(
    account: OneAccount, marked: bool
) -> None:
    await account.connected()
    own = f"phone:{PHONE}"
    out = await account.send(to=PHONE)
    with_own_message(account, out, own)
    account.driver.link.receive(
        incoming(network_id=out.network_id, chat=own, sender=own, from_account=marked)
    )
    await account.settle()
    assert account.journal.waiting == []
    assert account.driver.link.acknowledged == [out.network_id]


async def test_an_echo_of_a_message_that_is_not_stored_is_synced(account: OneAccount) -> None:
    await account.connected()
    out = await account.send(to=PHONE)
    account.driver.link.receive(
        incoming(network_id=out.network_id, chat=f"phone:{PHONE}", sender=f"phone:{PHONE}")
    )
    await account.settle()
    [row] = account.journal.waiting
    assert isinstance(row, InboundMessage)
    assert row.event.type == "message.synced"


async def test_the_account_that_takes_back_its_message_is_shown_with_all_its_names(
    account: OneAccount,
) -> None:
    await account.connected()
    out = await account.send()
    with_own_message(account, out)
    target = Reference(out.network_id, ADA, f"phone:{PHONE}")
    revocation = replace(CHANGES["revocation"], sender=f"phone:{PHONE}", from_account=True, target=target)
    account.driver.link.receive(revocation)
    await account.settle()
    await account.journal.commit()
    [row] = account.stored(ContentUpdate)
    actor = pb.SendMessageRequest.FromString(row.content).content.revoked.actor
    state = account.session.context.driver_state
    assert state is not None
    assert state.user_id
    assert (actor.phone, actor.user_id) == (PHONE, state.user_id)


@pytest.mark.parametrize("sender", ["", ADA])
async def test_who_wrote_what_a_reaction_is_about_is_said_only_where_the_network_does(
    account: OneAccount, sender: str
) -> None:
    await account.connected()
    account.driver.link.receive(
        incoming(content=HEART, chat="group:1", target=Reference("UNKNOWN", "", sender))
    )
    await account.settle()
    await account.journal.commit()
    [message] = stored_messages(account)
    about = message.content.reaction.message
    assert about == MessageRef(network_message_id="UNKNOWN", chat="group:1", sender=sender)


async def test_what_comes_after_the_account_has_left_is_not_stored(account: OneAccount) -> None:
    await account.connected()
    link = account.driver.link
    account.driver.link.receive(incoming("fine", reply_to=UNKNOWN))
    account.session.close()
    await account.settle()
    assert account.journal.waiting == []
    assert link.acknowledged == []


@pytest.mark.parametrize("kind", ["edit", "revocation"])
async def test_a_change_of_a_message_past_its_retention_is_acknowledged(
    account: OneAccount, kind: str
) -> None:
    await account.connected()
    account.driver.link.receive(replace(CHANGES[kind], target=UNKNOWN))
    for _ in range(2):
        await account.settle()
        await account.journal.commit(Duplicate(FIRST))
    assert account.driver.link.acknowledged == ["IN1"]
