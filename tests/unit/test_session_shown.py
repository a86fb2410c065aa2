"""What is shown of a session, and stored of it for its next owner."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from mesh_session_node.drivers.interface.content import Incoming
from mesh_session_node.journal import Event, SessionSnapshot
from sessionmesh.v1 import content_pb2, event_pb2
from sessionmesh.v1 import session_pb2 as pb
from tests.support.memory_host import SOMEBODY, OneAccount

NO_NEW_CHATS = pb.Restriction(kind=pb.RESTRICTION_KIND_NEW_CHATS, remaining=0, detail="too many strangers")
NOTHING = pb.Restriction(kind=pb.RESTRICTION_KIND_SENDING)


def until(seconds: float) -> pb.Restriction:
    """Nothing may be sent for so long from now."""
    restriction = pb.Restriction(kind=pb.RESTRICTION_KIND_SENDING)
    restriction.until_time.FromMicroseconds(int((time.time() + seconds) * 1e6))
    return restriction


def changes(account: OneAccount) -> list[pb.Session]:
    """The sessions of the events that told of restrictions."""
    events = [row for row in account.stored(Event) if row.type == "session.restrictions_changed"]
    return [event_pb2.Event.FromString(event.body).session.session for event in events]


async def test_a_session_that_was_never_paired_has_no_identity(account: OneAccount) -> None:
    assert not account.shown.HasField("self")


async def test_a_session_without_a_number_is_shown_by_its_user_id(account: OneAccount) -> None:
    account.load(pb.SESSION_STATE_PAUSED, network_user_id="49170", push_name="Shop", hidden_id="7")
    account.session.phone = ""
    shown = account.shown.self
    assert (shown.address, shown.user_id, shown.hidden_id) == ("user:49170", "49170", "7")
    assert (shown.phone, shown.display_name) == ("", "Shop")


async def test_what_the_network_restricts_is_shown_stored_and_told(account: OneAccount) -> None:
    await account.connected()
    account.driver.link.restrict(NO_NEW_CHATS)
    await account.journal.commit()
    assert list(account.shown.restrictions) == [NO_NEW_CHATS]
    stored = account.stored(SessionSnapshot)[-1].restrictions
    assert list(pb.Session.FromString(stored).restrictions) == [NO_NEW_CHATS]
    [told] = changes(account)
    assert list(told.restrictions) == [NO_NEW_CHATS]
    assert told.state == pb.SESSION_STATE_CONNECTED


async def test_what_is_restricted_no_longer_is_told_too(account: OneAccount) -> None:
    await account.connected()
    account.driver.link.restrict(NO_NEW_CHATS, NOTHING)
    account.driver.link.restrict()
    await account.journal.commit()
    assert not account.shown.restrictions
    assert [len(told.restrictions) for told in changes(account)] == [2, 0]


async def test_restrictions_that_did_not_change_are_no_event(account: OneAccount) -> None:
    await account.connected()
    account.driver.link.restrict()
    account.driver.link.restrict(NO_NEW_CHATS)
    account.driver.link.restrict(NO_NEW_CHATS)
    await account.journal.commit()
    assert len(changes(account)) == 1


async def test_a_restriction_is_shown_until_it_ends(account: OneAccount) -> None:
    await account.connected()
    ahead = until(60)
    account.driver.link.restrict(until(-1), ahead)
    assert list(account.shown.restrictions) == [ahead]


async def test_restrictions_go_with_the_account_to_its_next_owner(account: OneAccount) -> None:
    account.load(pb.SESSION_STATE_PAUSED, restrictions=(NO_NEW_CHATS,))
    assert list(account.shown.restrictions) == [NO_NEW_CHATS]


async def test_a_watcher_is_told_of_restrictions(account: OneAccount) -> None:
    await account.connected()
    changes = account.session.context.changes
    version = changes.version
    account.driver.link.restrict(NO_NEW_CHATS)
    assert changes.version > version


async def test_the_last_message_that_came_in_is_remembered(account: OneAccount) -> None:
    await account.connected()
    assert not account.shown.HasField("last_inbound_time")
    for number, micros in enumerate((5_000_000, 7_000_001, 6_000_000)):
        account.driver.link.receive(incoming(f"in-{number}", micros))
    await account.journal.commit()
    account.tick()
    await account.journal.commit()
    assert account.shown.last_inbound_time.ToMicroseconds() == 7_000_001
    assert account.stored(SessionSnapshot)[-1].last_inbound_time == 7_000_001


async def test_the_next_owner_knows_the_last_message_that_came_in(account: OneAccount) -> None:
    came = datetime(2026, 5, 4, 3, 2, 1, 123456, tzinfo=UTC)
    account.load(pb.SESSION_STATE_PAUSED, last_inbound_time=came)
    assert account.shown.last_inbound_time.ToDatetime(UTC) == came


def incoming(network_id: str, micros: int) -> Incoming:
    return Incoming(
        network_id=network_id,
        chat=f"phone:{SOMEBODY}",
        sender=f"phone:{SOMEBODY}",
        push_name="Ada",
        content=content_pb2.Content(text=content_pb2.TextContent(body="hello")),
        time=micros,
    )
