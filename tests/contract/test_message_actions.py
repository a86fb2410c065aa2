"""What drivers do to messages that are there, act by act of `MessageActions`: those that a driver
declares.
"""

from __future__ import annotations

import pytest
import pytest_asyncio

from mesh_session_node.drivers.interface.capabilities import Acting, Capability
from mesh_session_node.drivers.interface.content import STATUS, OutgoingMessage, Reference, References
from mesh_session_node.drivers.interface.outcomes import ConnectionEnded, End, Refusal, Refused
from sessionmesh.v1 import message_pb2
from tests.support.driver_contract import PERSON, Connect, needs, send, text, until
from tests.support.driver_worlds import DriverWorld
from tests.support.eventually import eventually
from tests.support.link_events import RecordedEvents

pytestmark = pytest.mark.asyncio(loop_scope="module")
SENT = Reference("M1", PERSON, time=1)
"""What `acting` has sent, a very long time ago."""


@pytest_asyncio.fixture(loop_scope="module")
async def acting(world: DriverWorld, connect: Connect, events: RecordedEvents) -> Acting:
    """A link that has sent a message."""
    link = await connect()
    send(world, link, "M1")
    await until(world, lambda: events.acks)
    return link  # type: ignore[return-value]  # the cases ask for what it can do


async def saw(world: DriverWorld, what: str) -> None:
    """Wait until the network has seen the account do this."""

    async def seen() -> bool:
        await world.answer()
        return what in await world.seen()

    await eventually(seen)


def changed(world: DriverWorld) -> bytes:
    payload, _ = world.driver.encode(text(), References(), None)
    return payload


@needs(Capability.STATUS)
async def test_a_status_post_goes_to_the_people_named(
    world: DriverWorld, connect: Connect, events: RecordedEvents
) -> None:
    only = message_pb2.StatusAudience(kind=message_pb2.STATUS_AUDIENCE_KIND_ONLY, addresses=[PERSON])
    request = text(STATUS)
    request.options.audience.CopyFrom(only)
    payload, _ = world.driver.encode(request, References(), None)
    link = await connect()
    link.send(OutgoingMessage("M1", STATUS, payload, (), audience=only))
    await until(
        world, lambda: events.acks == ["M1"] and [told.member for told in events.receipts] == [PERSON]
    )


@needs(Capability.EDIT)
async def test_a_message_is_edited(world: DriverWorld, acting: Acting) -> None:
    await acting.edit("C1", Reference("M1", PERSON), changed(world))
    await saw(world, "edit M1")


@needs(Capability.EDIT)
async def test_an_edit_that_comes_too_late_is_refused(world: DriverWorld, acting: Acting) -> None:
    await world.let_it_be_late()
    with pytest.raises(Refused) as refused:
        await acting.edit("C1", SENT, changed(world))
    assert refused.value.refusal is Refusal.TOO_LATE
    assert await world.seen() == []


@needs(Capability.REVOKE)
async def test_a_message_is_taken_back(world: DriverWorld, acting: Acting) -> None:
    await acting.revoke("C1", Reference("M1", PERSON))
    await saw(world, "revoke M1")


@needs(Capability.REVOKE)
async def test_a_message_is_not_taken_back_when_it_is_too_late(world: DriverWorld, acting: Acting) -> None:
    await world.let_it_be_late()
    with pytest.raises(Refused) as refused:
        await acting.revoke("C1", SENT)
    assert refused.value.refusal is Refusal.TOO_LATE


@needs(Capability.REVOKE)
async def test_an_administrator_takes_back_what_a_member_wrote(world: DriverWorld, acting: Acting) -> None:
    group = await world.group_of(PERSON)
    await acting.revoke("C1", Reference("IN1", group, PERSON))
    await saw(world, "revoke IN1")


@needs(Capability.REVOKE)
async def test_nobody_else_takes_back_what_a_member_wrote(world: DriverWorld, acting: Acting) -> None:
    group = await world.group_run_by(PERSON)
    with pytest.raises(Refused) as refused:
        await acting.revoke("C1", Reference("IN1", group, PERSON))
    assert refused.value.refusal is Refusal.NOT_AN_ADMIN


@needs(Capability.PIN)
async def test_a_message_is_pinned_and_unpinned(world: DriverWorld, acting: Acting) -> None:
    await acting.pin("C1", Reference("M1", PERSON), 86_400)
    await saw(world, "pin M1")
    await acting.pin("C2", Reference("M1", PERSON), 0)

    async def twice() -> bool:
        return (await world.seen()).count("pin M1") == 2

    await eventually(twice)


@needs(Capability.STAR)
async def test_a_star_is_told_to_the_accounts_devices(world: DriverWorld, acting: Acting) -> None:
    await acting.star(Reference("M1", PERSON), starred=True)
    await saw(world, "app state")


@needs(Capability.DELETE_FOR_ME)
async def test_a_deletion_is_told_to_the_accounts_devices(world: DriverWorld, acting: Acting) -> None:
    await acting.delete_for_me(SENT, with_media=True)
    await saw(world, "app state")


@needs(Capability.MARK_READ)
@pytest.mark.parametrize("played", [False, True], ids=["read", "played"])
async def test_who_wrote_a_message_is_told_that_it_was_read_or_played(
    world: DriverWorld, acting: Acting, events: RecordedEvents, *, played: bool
) -> None:
    await world.write_to(PERSON, "hello")
    (came,) = await eventually(lambda: events.incoming)
    await acting.mark_read(came.chat, came.sender, [came.network_id], played=played)
    await saw(world, f"{'played' if played else 'read'} {came.network_id}")


@needs(Capability.TYPING)
@pytest.mark.parametrize("shown", ["typing", "recording", "paused"])
async def test_a_chat_shows_what_the_account_does(world: DriverWorld, acting: Acting, shown: str) -> None:
    await acting.show_typing(PERSON, message_pb2.TypingState.Value(f"TYPING_STATE_{shown.upper()}"))
    await saw(world, shown)


@needs(Capability.STAR)
async def test_nothing_is_done_over_a_connection_that_has_ended(
    world: DriverWorld, acting: Acting, events: RecordedEvents
) -> None:
    await world.end(End.LOST)
    await eventually(lambda: events.ends)
    with pytest.raises(ConnectionEnded):
        await acting.star(Reference("M1", PERSON), starred=True)
