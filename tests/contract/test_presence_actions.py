"""What drivers do about who is online, and about calls, act by act: those that a driver declares."""

from __future__ import annotations

import pytest
import pytest_asyncio

from mesh_session_node.drivers.interface.capabilities import Acting, Capability
from mesh_session_node.drivers.interface.notices import PresenceShown
from mesh_session_node.drivers.interface.outcomes import End, Refusal, Refused
from tests.support.driver_contract import Connect, needs
from tests.support.driver_worlds import DriverWorld
from tests.support.eventually import eventually
from tests.support.link_events import RecordedEvents

pytestmark = pytest.mark.asyncio(loop_scope="module")
PERSON, STRANGER, MISSING = "phone:+4915100000022", "phone:+4915100000024", "+4915100000023"
SEEN = 1_700_000_000_000_000


@pytest_asyncio.fixture(loop_scope="module")
async def acting(world: DriverWorld, connect: Connect) -> Acting:
    """A link; two people are on its network, and a number is not."""
    await world.register(PERSON.removeprefix("phone:"), on_network=True)
    await world.register(MISSING, on_network=False)
    return await connect()  # type: ignore[return-value]  # the cases ask for what it can do


def told(events: RecordedEvents) -> list[tuple[str, bool, int | None]]:
    return [
        (one.person, one.online, one.last_seen) for one in events.notices if isinstance(one, PresenceShown)
    ]


@needs(Capability.PRESENCE)
async def test_the_account_shows_as_online_until_it_does_not(world: DriverWorld, acting: Acting) -> None:
    assert not await world.shows_online()
    await acting.show_online(online=True)
    await eventually(world.shows_online)
    await acting.show_online(online=False)

    async def gone() -> bool:
        return not await world.shows_online()

    await eventually(gone)


@needs(Capability.WATCH_PRESENCE)
async def test_who_is_watched_is_told_when_they_come_and_go(
    world: DriverWorld, acting: Acting, events: RecordedEvents
) -> None:
    await acting.watch_presence(PERSON)
    await acting.watch_presence(PERSON)
    await world.show_presence(PERSON, online=True)
    await eventually(lambda: told(events)[-1:] == [(PERSON, True, None)])
    await world.show_presence(PERSON, online=False, last_seen=SEEN)
    await eventually(lambda: told(events)[-1:] == [(PERSON, False, SEEN)])
    await world.show_presence(PERSON, online=False)
    await eventually(lambda: told(events)[-1:] == [(PERSON, False, None)])


@needs(Capability.WATCH_PRESENCE)
async def test_who_is_watched_again_after_a_new_login_is_told_anew(
    world: DriverWorld, acting: Acting, events: RecordedEvents, connect: Connect
) -> None:
    await acting.watch_presence(PERSON)
    await world.end(End.LOST)
    await eventually(lambda: events.ends)
    again: Acting = await connect()  # type: ignore[assignment]  # as above
    await again.watch_presence(PERSON)
    await world.show_presence(PERSON, online=True)
    await eventually(lambda: (PERSON, True, None) in told(events))


@needs(Capability.WATCH_PRESENCE)
async def test_who_is_not_on_the_network_cannot_be_watched(acting: Acting) -> None:
    with pytest.raises(Refused) as refused:
        await acting.watch_presence(f"phone:{MISSING}")
    assert refused.value.refusal is Refusal.UNKNOWN_PERSON


@needs(Capability.REJECT_CALL)
async def test_a_call_that_is_rejected_rings_no_more(world: DriverWorld, acting: Acting) -> None:
    call_id = await world.place_call(PERSON, video=False)
    assert await world.ringing_calls() == 1
    await acting.reject_call(call_id, PERSON)

    async def silent() -> bool:
        return await world.ringing_calls() == 0

    await eventually(silent)
    await acting.reject_call(call_id, PERSON)
