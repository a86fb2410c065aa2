"""Messages that were edited or taken back before they came, or could not be shown."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest

from mesh_session_node.context.message_rows import message_of_row
from mesh_session_node.drivers.interface.content import Incoming, Reference
from mesh_session_node.journal import (
    ContentUpdate,
    Duplicate,
    FetchBegin,
    InboundMessage,
)
from sessionmesh.v1 import content_pb2, event_pb2
from sessionmesh.v1 import message_pb2 as pb
from tests.support.incoming import ADA, CHANGES, STRANGER, TIME, UNKNOWN, events, incoming, stored_messages
from tests.support.memory_host import PHONE, OneAccount, content_of


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
    assert row.event is not None
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


async def unavailable(account: OneAccount) -> pb.Message:
    """A message comes that cannot be shown, and is stored."""
    content = content_pb2.Content()
    content.unavailable.reason = content_pb2.UNAVAILABLE_REASON_UNDECRYPTABLE
    account.driver.link.receive(incoming(network_id="UNKNOWN", content=content))
    await account.settle()
    await account.journal.commit()
    return stored_messages(account)[-1]


async def test_what_could_not_be_shown_is_edited_when_it_comes_after_all(account: OneAccount) -> None:
    await account.connected()
    before = await unavailable(account)
    picture = content_of("cat.png")
    message = await original_comes(account, content=picture, blob=b"file", expire_seconds=60)
    assert (message.id, message.content.image.caption) == (before.id, "cat.png")
    assert message.options.disappear_after.seconds == 60
    [event] = events(account, "message.edited")
    assert event.message_changed.message == message
    assert account.stored(FetchBegin) == [FetchBegin(account.messages.rows[-1]["id"], b"file")]


async def test_what_could_not_be_shown_is_not_what_a_stranger_sends_under_its_id(account: OneAccount) -> None:
    await account.connected()
    await unavailable(account)
    account.driver.link.receive(incoming(network_id="UNKNOWN", sender=STRANGER, chat=STRANGER))
    await account.settle()
    await account.journal.commit(Duplicate(account.messages.rows[-1]["id"]))
    await account.settle()
    assert account.journal.waiting == []
    assert shown(account).content.HasField("unavailable")
    assert events(account, "message.edited") == []
