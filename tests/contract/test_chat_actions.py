"""What drivers do about chats and labels, act by act of `ChatActions`, and what they tell of what the phone
did with them: those that a driver declares.
"""

from __future__ import annotations

from typing import Any

import pytest
import pytest_asyncio

from mesh_session_node.drivers.interface.capabilities import Acting, Capability
from mesh_session_node.drivers.interface.chat_actions import FOR_EVER, LabelFacts
from mesh_session_node.drivers.interface.chat_notices import (
    ChatEmptied,
    ChatRead,
    ChatSet,
    Labelled,
    LabelSet,
)
from mesh_session_node.drivers.interface.content import Reference
from mesh_session_node.drivers.interface.outcomes import ConnectionEnded, End
from tests.support.driver_capabilities import Can
from tests.support.driver_contract import PERSON, Connect, needs
from tests.support.driver_worlds import DriverWorld
from tests.support.eventually import eventually
from tests.support.link_events import RecordedEvents

pytestmark = pytest.mark.asyncio(loop_scope="module")
LAST = Reference("3A0001", PERSON, PERSON, None, 1_700_000_000_000_000)
LABEL = LabelFacts("5", "New", 3)


@pytest_asyncio.fixture(loop_scope="module")
async def acting(connect: Connect) -> Acting:
    return await connect()  # type: ignore[return-value]  # the cases ask for what it can do


async def changes(world: DriverWorld, count: int) -> None:
    """The account's devices have been told of so many changes, at least, of what they have in common."""

    async def told() -> bool:
        return (await world.seen()).count("app state") >= count

    await eventually(told)


@needs(Capability.ARCHIVE_CHAT)
async def test_a_chat_is_put_away_and_taken_back(world: DriverWorld, acting: Acting) -> None:
    await acting.archive_chat(PERSON, LAST, archived=True)
    await acting.archive_chat(PERSON, None, archived=False)
    await changes(world, 2)


@needs(Capability.MUTE_CHAT)
async def test_a_chat_is_muted_for_a_time_for_ever_and_not_any_more(
    world: DriverWorld, acting: Acting
) -> None:
    for until in (4_000_000_000_000_000, FOR_EVER, 0):
        await acting.mute_chat(PERSON, until)
    await changes(world, 3)


@needs(Capability.PIN_CHAT)
async def test_a_chat_is_pinned_and_no_longer(world: DriverWorld, acting: Acting) -> None:
    await acting.pin_chat(PERSON, pinned=True)
    await acting.pin_chat(PERSON, pinned=False)
    await changes(world, 2)


@needs(Capability.MARK_CHAT)
async def test_a_chat_is_marked_as_unread_and_as_read(world: DriverWorld, acting: Acting) -> None:
    await acting.mark_chat(PERSON, LAST, unread=True)
    await acting.mark_chat(PERSON, LAST, unread=False)
    await changes(world, 2)


@needs(Capability.CLEAR_CHAT)
async def test_a_chat_is_cleared_and_deleted(world: DriverWorld, acting: Acting) -> None:
    await acting.clear_chat(PERSON, LAST)
    await acting.delete_chat(PERSON, LAST)
    await changes(world, 2)


@needs(Capability.LABELS)
async def test_a_label_is_made_put_on_things_and_deleted(world: DriverWorld, acting: Acting) -> None:
    await acting.put_label(LABEL)
    await acting.label_chat(LABEL.id, PERSON, labelled=True)
    await acting.label_message(LABEL.id, LAST, labelled=True)
    await acting.delete_label(LABEL)
    await changes(world, 4)


@needs(Capability.DISAPPEARING)
async def test_messages_of_a_chat_disappear(acting: Acting) -> None:
    await acting.set_disappearing(PERSON, 86_400)
    await acting.set_disappearing(PERSON, 0)


@needs(Capability.PIN_CHAT, Can.TELLS_CHATS)
async def test_a_change_is_made_after_what_the_phone_changed_meanwhile(
    world: DriverWorld, acting: Acting
) -> None:
    await acting.pin_chat(PERSON, pinned=True)
    await world.on_phone(PERSON, archive=True)
    await acting.pin_chat(PERSON, pinned=False)
    await changes(world, 2)


@needs(Capability.ARCHIVE_CHAT)
async def test_nothing_is_done_with_a_chat_over_a_connection_that_has_ended(
    world: DriverWorld, acting: Acting, events: RecordedEvents
) -> None:
    await world.end(End.LOST)
    await eventually(lambda: events.ends)
    with pytest.raises(ConnectionEnded):
        await acting.archive_chat(PERSON, LAST, archived=True)


# --- the past


@needs(Capability.HISTORY)
async def test_the_past_of_a_chat_is_had_page_by_page(world: DriverWorld, acting: Acting) -> None:
    await world.give_history(PERSON, 7)
    before, times, ids = Reference("", PERSON, ""), [], []
    while True:
        page = await acting.fetch_history(PERSON, before, 3)
        for message in page.messages:
            assert (message.chat, message.history) == (PERSON, True)
            times.append(message.time)
            ids.append(message.network_id)
        if page.exhausted:
            break
        last = page.messages[-1]
        sender = "" if last.from_account else last.sender
        before = Reference(last.network_id, PERSON, sender, None, last.time)
    assert len({*ids}) == 7
    assert times == sorted(times, reverse=True)
    last = page.messages[-1]
    sender = "" if last.from_account else last.sender
    page = await acting.fetch_history(PERSON, Reference(last.network_id, PERSON, sender, None, last.time), 3)
    assert ([*page.messages], page.exhausted) == ([], True)


@needs(Capability.HISTORY)
async def test_a_chat_without_a_past_has_none(acting: Acting) -> None:
    page = await acting.fetch_history(PERSON, Reference("", PERSON, ""), 3)
    assert ([*page.messages], page.exhausted) == ([], True)


# --- what the phone did

ON_PHONE: dict[str, tuple[dict[str, Any], Any]] = {
    "archive": ({"archive": True}, ChatSet(PERSON, archived=True, pinned=False)),
    "take back": ({"archive": False}, ChatSet(PERSON, archived=False)),
    "mute": ({"mute_until_us": 4_000_000_000_000_000}, ChatSet(PERSON, mute_until=4_000_000_000_000_000)),
    "unmute": ({"mute_until_us": 0}, ChatSet(PERSON, mute_until=0)),
    "pin": ({"pin": True}, ChatSet(PERSON, pinned=True)),
    "mark unread": ({"mark_unread": True}, ChatSet(PERSON, marked_unread=True)),
    "mark read": ({"mark_unread": False}, ChatRead(PERSON)),
    "read": ({"read": "3A0001"}, ChatRead(PERSON, "3A0001")),
    "clear": ({"clear": True}, ChatEmptied(PERSON, deleted=False)),
    "delete": ({"delete": True}, ChatEmptied(PERSON, deleted=True)),
    "label": ({"label": {"id": "5", "name": "New", "color": 3}}, LabelSet(LABEL)),
    "label a chat": (
        {"labelling": {"label_id": "5", "labelled": True}},
        Labelled("5", PERSON, labelled=True),
    ),
    "label a message": (
        {"labelling": {"label_id": "5", "network_message_id": "3A0001", "labelled": True}},
        Labelled("5", PERSON, labelled=True, network_id="3A0001"),
    ),
}


@needs(Can.TELLS_CHATS)
@pytest.mark.parametrize("act", ON_PHONE)
async def test_what_the_phone_does_with_chats_is_told(
    world: DriverWorld, connect: Connect, events: RecordedEvents, act: str
) -> None:
    await connect()
    done, told = ON_PHONE[act]
    await world.on_phone(PERSON, **done)
    await eventually(lambda: told in events.notices)


@needs(Can.TELLS_CHATS)
async def test_a_label_that_the_phone_deletes_is_told(
    world: DriverWorld, connect: Connect, events: RecordedEvents
) -> None:
    link = await connect()
    await world.on_phone(PERSON, label={"id": "5", "name": "New"})
    await eventually(lambda: events.notices)
    link.acknowledge_notice(events.sequences[-1])
    await world.on_phone(PERSON, label={"id": "5", "deleted": True})

    def deleted() -> list[Any]:
        return [one for one in events.notices if isinstance(one, LabelSet) and one.deleted]

    assert (await eventually(deleted))[0].label.id == "5"


@needs(Can.TELLS_TIMERS)
async def test_that_messages_of_a_chat_disappear_is_told(
    world: DriverWorld, connect: Connect, events: RecordedEvents
) -> None:
    await connect()
    await world.on_phone(PERSON, disappear_after_seconds=86_400)
    await eventually(lambda: ChatSet(PERSON, disappear_after=86_400) in events.notices)
