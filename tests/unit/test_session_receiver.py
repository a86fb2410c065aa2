"""What the network brings is stored first and acknowledged then."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from mesh_core.ids import new_uuid
from mesh_session_node.context.message_rows import message_of_row
from mesh_session_node.drivers.interface.content import Identity, person_of
from mesh_session_node.journal import (
    REFUSED,
    ContentUpdate,
    Duplicate,
    InboundMessage,
    OutboundMessage,
    PersonIdentity,
    Poison,
)
from sessionmesh.v1 import event_pb2
from sessionmesh.v1 import message_pb2 as pb
from sessionmesh.v1.common_pb2 import MessageRef, Person
from tests.support.incoming import (
    ADA,
    CHANGES,
    FIRST,
    TIME,
    UNKNOWN,
    incoming,
    stored_messages,
    with_earlier_message,
)
from tests.support.memory_host import OneAccount, content_of
from tests.support.memory_journal import Clock


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
    assert row.event is not None
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


def shown(account: OneAccount) -> pb.Message:
    """The message that was stored last, as the API shows it."""
    session = account.session.context
    return message_of_row(session.id, session.people, cast("Any", account.messages.rows[-1]))


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


async def test_what_comes_after_the_account_has_left_is_not_stored(account: OneAccount) -> None:
    await account.connected()
    link = account.driver.link
    account.driver.link.receive(incoming("fine", reply_to=UNKNOWN))
    account.session.close()
    await account.settle()
    assert account.journal.waiting == []
    assert link.acknowledged == []
