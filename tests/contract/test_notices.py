"""What networks tell by themselves beside messages, kind by kind of `Notice`."""

from __future__ import annotations

import pytest

from mesh_session_node.drivers.interface.contact_notices import PersonChanged
from mesh_session_node.drivers.interface.notices import CallEnded, CallOffered, TypingShown
from mesh_session_node.drivers.interface.outcomes import End
from sessionmesh.v1 import call_pb2, message_pb2
from tests.support.driver_capabilities import Can
from tests.support.driver_contract import PERSON, Connect, needs
from tests.support.driver_worlds import DriverWorld
from tests.support.eventually import eventually
from tests.support.link_events import RecordedEvents

pytestmark = pytest.mark.asyncio(loop_scope="module")


@needs(Can.TELLS_TYPING)
@pytest.mark.parametrize("does", ["typing", "recording", "paused"])
async def test_what_a_person_does_in_a_chat_is_told(
    world: DriverWorld, connect: Connect, events: RecordedEvents, does: str
) -> None:
    await connect()
    shown = message_pb2.TypingState.Value(f"TYPING_STATE_{does.upper()}")
    await world.show_typing(PERSON, shown)
    (notice,) = await eventually(lambda: events.notices)
    assert isinstance(notice, TypingShown)
    assert (notice.chat, notice.person, notice.state) == (PERSON, PERSON, shown)
    assert notice.identity is not None
    assert notice.identity.phone == PERSON.removeprefix("phone:")
    assert events.sequences == [0]


@needs(Can.TELLS_TYPING)
async def test_what_a_member_does_in_a_group_is_told_of_the_group(
    world: DriverWorld, connect: Connect, events: RecordedEvents
) -> None:
    await connect()
    group = await world.group_of(PERSON)
    await world.show_typing(PERSON, message_pb2.TYPING_STATE_TYPING, group)
    (notice,) = await eventually(lambda: [one for one in events.notices if isinstance(one, TypingShown)])
    assert (notice.chat, notice.person) == (group, PERSON)


@needs(Can.TELLS_CALLS)
@pytest.mark.parametrize("video", [False, True], ids=["voice", "video"])
async def test_a_call_is_told_when_it_comes_and_when_it_ends(
    world: DriverWorld, connect: Connect, events: RecordedEvents, *, video: bool
) -> None:
    await connect()
    call_id = await world.place_call(PERSON, video=video)
    (offered,) = await eventually(lambda: events.notices)
    assert isinstance(offered, CallOffered)
    assert (offered.call_id, offered.caller, offered.video) == (call_id, PERSON, video)
    assert (offered.group, offered.time > 0) == ("", True)
    await world.end_call(call_id, call_pb2.CALL_END_CAUSE_MISSED)
    _, ended = await eventually(lambda: events.notices[1:] and events.notices)
    assert isinstance(ended, CallEnded)
    assert (ended.call_id, ended.caller, ended.cause) == (call_id, PERSON, call_pb2.CALL_END_CAUSE_MISSED)


@needs(Can.TELLS_CALLS, Can.OFFERS_NOTICES_AGAIN)
async def test_what_is_not_acknowledged_is_told_again_after_the_next_login(
    world: DriverWorld, connect: Connect, events: RecordedEvents
) -> None:
    await connect()
    await world.place_call(PERSON, video=False)
    (offered,) = await eventually(lambda: events.notices)
    await world.end(End.LOST)
    await eventually(lambda: events.ends)
    link = await connect()
    again = await eventually(lambda: events.notices[1:])
    assert again == [offered]
    link.acknowledge_notice(events.sequences[-1])

    async def acknowledged() -> bool:
        return await world.unacknowledged_notices() == 0

    await eventually(acknowledged)


@needs(Can.TELLS_CALLS, Can.OFFERS_NOTICES_AGAIN)
async def test_the_network_hears_of_nothing_before_it_is_acknowledged(
    world: DriverWorld, connect: Connect, events: RecordedEvents
) -> None:
    link = await connect()
    first = await world.place_call(PERSON, video=False)
    await eventually(lambda: events.notices)
    await world.end_call(first, call_pb2.CALL_END_CAUSE_TIMED_OUT)
    await eventually(lambda: events.notices[1:])
    assert await world.unacknowledged_notices() == 2
    link.acknowledge_notice(events.sequences[1])

    async def only_the_first() -> bool:
        return await world.unacknowledged_notices() == 1

    await eventually(only_the_first)


@needs(Can.TELLS_CONTACTS)
async def test_a_contact_of_the_phone_is_told_until_it_is_deleted(
    world: DriverWorld, connect: Connect, events: RecordedEvents
) -> None:
    await connect()
    phone = PERSON.removeprefix("phone:")
    await world.save_on_phone(phone, "Ada Lovelace", "Ada")
    await world.save_on_phone(phone, "")
    saved, gone = await eventually(lambda: events.notices[1:] and events.notices)
    assert isinstance(saved, PersonChanged)
    assert (saved.person, saved.saved, saved.full_name, saved.first_name) == (
        PERSON,
        True,
        "Ada Lovelace",
        "Ada",
    )
    assert isinstance(gone, PersonChanged)
    assert (gone.person, gone.saved, gone.about) == (PERSON, False, None)
    assert all(events.sequences)


@needs(Can.TELLS_PEOPLE)
async def test_what_a_person_shows_is_told_to_who_knows_them(
    world: DriverWorld, connect: Connect, events: RecordedEvents
) -> None:
    link = await connect()
    phone = PERSON.removeprefix("phone:")
    await world.register(phone, on_network=True)
    await link.save_contact(PERSON, "Ada", "")  # type: ignore[attr-defined]  # it can
    await link.look_up_person(PERSON)  # type: ignore[attr-defined]
    await world.show(phone, about="at sea", picture=b"\xff\xd8\xff\xe0 a picture")

    def told() -> dict[str, str]:
        said: dict[str, str] = {}
        for notice in events.notices:
            if isinstance(notice, PersonChanged) and notice.person == PERSON:
                said |= {"about": notice.about} if notice.about else {}
                said |= {"picture": notice.picture_id} if notice.picture_id else {}
        return said

    await eventually(lambda: len(told()) == 2)
    assert told()["about"] == "at sea"
