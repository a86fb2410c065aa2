"""Messages that are edited or taken back once they are stored."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from mesh_core.ids import new_uuid
from mesh_session_node.context.message_rows import message_of_row
from mesh_session_node.drivers.interface.content import Identity, Reference, person_of
from mesh_session_node.journal import (
    ContentUpdate,
    Duplicate,
    InboundMessage,
)
from sessionmesh.v1 import content_pb2
from sessionmesh.v1 import message_pb2 as pb
from sessionmesh.v1.common_pb2 import Person
from tests.support.incoming import (
    ADA,
    CHANGES,
    EARLIER,
    FIRST,
    TIME,
    UNKNOWN,
    events,
    incoming,
    with_earlier_message,
    with_own_message,
)
from tests.support.memory_host import PHONE, OneAccount, content_of


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


def shown(account: OneAccount) -> pb.Message:
    """The message that was stored last, as the API shows it."""
    session = account.session.context
    return message_of_row(session.id, session.people, cast("Any", account.messages.rows[-1]))


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
