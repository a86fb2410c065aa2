"""Answers, reactions and whatever else is about an earlier message name it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest

from mesh_core.ids import new_uuid
from mesh_session_node.context.message_rows import message_of_row
from mesh_session_node.drivers.interface.content import Reference
from mesh_session_node.journal import (
    InboundMessage,
)
from sessionmesh.v1 import content_pb2, event_pb2
from sessionmesh.v1 import message_pb2 as pb
from sessionmesh.v1.common_pb2 import MessageRef, Person
from tests.support.incoming import (
    ADA,
    EARLIER,
    HEART,
    UNKNOWN,
    incoming,
    stored_messages,
    with_earlier_message,
    with_own_message,
)
from tests.support.memory_host import PHONE, OneAccount, content_of


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


async def test_a_reaction_is_an_event_about_our_message(account: OneAccount) -> None:
    await account.connected()
    out = await account.send()
    with_own_message(account, out)
    account.driver.link.receive(incoming(content=HEART, target=Reference(out.network_id)))
    await account.settle()
    [row] = [row for row in account.journal.waiting if isinstance(row, InboundMessage)]
    assert row.event is not None
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


def shown(account: OneAccount) -> pb.Message:
    """The message that was stored last, as the API shows it."""
    session = account.session.context
    return message_of_row(session.id, session.people, cast("Any", account.messages.rows[-1]))


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
