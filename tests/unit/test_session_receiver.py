"""What the network brings is stored first and acknowledged then."""

from __future__ import annotations

from typing import Any

import pytest
from structlog.testing import capture_logs

from mesh_core.ids import Prefix, encode, new_uuid
from mesh_session_node.drivers.interface.content import Incoming
from mesh_session_node.journal import REFUSED, ContentUpdate, Duplicate, Event, InboundMessage, Poison
from sessionmesh.v1 import common_pb2, content_pb2, event_pb2
from sessionmesh.v1 import message_pb2 as pb
from tests.support.memory_host import OneAccount, content_of

ADA = "phone:+4915100000009"
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


def with_earlier_message(account: OneAccount) -> str:
    """A message that came earlier, by the network's id `EARLIER`; our id of it."""
    earlier = new_uuid()
    stored = pb.Message(content=content_of("how are you?"))
    account.messages.add(earlier, "EARLIER", pb.DIRECTION_INBOUND, stored.SerializeToString())
    return encode(Prefix.MESSAGE, earlier)


CHANGES = {
    "edit": incoming("", target="EARLIER", edited=content_of("how do you do?")),
    "revocation": incoming(
        content=content_pb2.Content(revoked=content_pb2.RevokedContent()), target="EARLIER"
    ),
    "reaction": incoming(
        content=content_pb2.Content(reaction=content_pb2.ReactionContent(emoji="❤")), target="EARLIER"
    ),
}
"""What is about an earlier message."""


async def test_a_message_is_stored_as_the_api_shows_it(account: OneAccount) -> None:
    await account.connected()
    account.driver.link.receive(incoming(forwarded=True, mentions=["user:7"], expire_seconds=60))
    [row] = account.journal.waiting
    assert isinstance(row, InboundMessage)
    assert (row.network_id, row.chat, row.network_time) == ("IN1", ADA, TIME)
    assert row.event.type == "message.received"
    message = pb.Message.FromString(row.content)
    assert (message.content.text.body, message.sender.push_name) == ("good morning", "Ada")
    assert message.sender.address.phone == "+4915100000009"
    assert message.options.forwarded
    assert list(message.options.mentions) == [common_pb2.Recipient(user_id="7")]
    assert message.options.disappear_after_seconds == 60


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


async def test_an_answer_refers_to_our_message(account: OneAccount) -> None:
    await account.connected()
    earlier = with_earlier_message(account)
    account.driver.link.receive(incoming("fine", reply_to="EARLIER"))
    await account.settle()
    await account.journal.commit()
    [row] = account.stored(InboundMessage)
    assert pb.Message.FromString(row.content).options.reply_to_message_id == earlier


async def test_an_answer_to_a_message_that_nobody_knows_is_stored_without_it(account: OneAccount) -> None:
    await account.connected()
    account.driver.link.receive(incoming("fine", reply_to="UNKNOWN"))
    await account.settle()
    await account.journal.commit()
    [row] = account.stored(InboundMessage)
    assert pb.Message.FromString(row.content).options.reply_to_message_id == ""
    assert account.driver.link.acknowledged == ["IN1"]


async def test_a_reaction_is_an_event_about_our_message(account: OneAccount) -> None:
    await account.connected()
    out = await account.send()
    account.messages.add(out.uuid, out.network_id, pb.DIRECTION_OUTBOUND, out.request.SerializeToString())
    content = content_pb2.Content(reaction=content_pb2.ReactionContent(emoji="❤"))
    account.driver.link.receive(incoming(content=content, target=out.network_id))
    await account.settle()
    [row] = [row for row in account.journal.waiting if isinstance(row, InboundMessage)]
    event = event_pb2.Event.FromString(row.event.body)
    assert event.type == "message.reaction"
    assert (event.reaction.message_id, event.reaction.emoji) == (out.id, "❤")


async def test_an_edit_changes_the_message(account: OneAccount) -> None:
    await account.connected()
    with_earlier_message(account)
    account.driver.link.receive(incoming("", target="EARLIER", edited=content_of("how do you do?")))
    await account.settle()
    assert account.driver.link.acknowledged == []
    await account.journal.commit()
    [row] = account.stored(ContentUpdate)
    assert pb.Message.FromString(row.content).content.text.body == "how do you do?"
    [event] = events(account, "message.edited")
    assert event.message_changed.message.content.text.body == "how do you do?"
    assert account.driver.link.acknowledged == ["IN1"]
    assert account.stored(InboundMessage) == []


async def test_a_message_that_is_taken_back_loses_its_content(account: OneAccount) -> None:
    await account.connected()
    with_earlier_message(account)
    revoked = content_pb2.Content(revoked=content_pb2.RevokedContent())
    account.driver.link.receive(incoming(content=revoked, target="EARLIER"))
    await account.settle()
    await account.journal.commit()
    [row] = account.stored(ContentUpdate)
    assert pb.Message.FromString(row.content).content == revoked
    assert len(events(account, "message.revoked")) == 1


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


@pytest.mark.parametrize("kind", ["message", *CHANGES])
async def test_what_the_database_refuses_stays_the_networks_and_is_logged(
    account: OneAccount, kind: str
) -> None:
    await account.connected()
    with_earlier_message(account)
    with capture_logs() as logs:
        account.driver.link.receive(CHANGES.get(kind) or incoming())
        await account.settle()
        await account.journal.commit(Poison(ValueError("too long")))
    assert account.driver.link.acknowledged == []
    [log] = [log for log in logs if log["log_level"] == "error"]
    assert (log["account_id"], log["network_id"]) == (account.session.id, "IN1")
    assert "too long" in log["error"]


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


async def test_nobody_changes_what_the_account_wrote(account: OneAccount) -> None:
    await account.connected()
    out = await account.send()
    account.messages.add(out.uuid, out.network_id, pb.DIRECTION_OUTBOUND, out.request.SerializeToString())
    account.driver.link.receive(incoming("", target=out.network_id, edited=content_of("I owe you money")))
    await account.settle()
    await account.journal.commit()
    assert account.stored(ContentUpdate) == []
    assert account.driver.link.acknowledged == ["IN1"]


async def test_what_comes_after_the_account_has_left_is_not_stored(account: OneAccount) -> None:
    await account.connected()
    link = account.driver.link
    account.driver.link.receive(incoming("fine", reply_to="UNKNOWN"))
    account.session.close()
    await account.settle()
    assert account.journal.waiting == []
    assert link.acknowledged == []
