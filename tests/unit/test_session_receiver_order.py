"""What comes for one chat is stored in its order, and what has no room or no database waits."""

from __future__ import annotations

import time
from typing import Any

import pytest

from mesh_session_node.inbound import receiver
from mesh_session_node.inbound.in_order import MAX_WAITING
from mesh_session_node.journal import Duplicate, InboundMessage
from sessionmesh.v1 import session_pb2
from tests.support.eventually import eventually
from tests.support.incoming import CHANGES, EARLIER, FIRST, HEART, UNKNOWN, incoming, with_earlier_message
from tests.support.memory_host import OneAccount
from tests.support.memory_journal import Clock


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


async def test_what_comes_again_while_the_database_is_away_is_acknowledged_when_it_is_back(
    account: OneAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiver, "_RETRY_SECONDS", 0.0)
    await account.connected()
    account.messages.unavailable = True
    account.driver.link.receive(incoming())
    await account.journal.commit(Duplicate(FIRST))
    await account.settle()
    assert account.driver.link.acknowledged == []
    account.messages.unavailable = False
    await eventually(lambda: account.driver.link.acknowledged == ["IN1"], seconds=5.0)


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
