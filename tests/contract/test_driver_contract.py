"""What every driver does, whatever its network: `drivers/interface`, sentence by sentence."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from mesh_session_node.drivers.interface.content import Blob, MediaPart, OutgoingMessage, References
from mesh_session_node.drivers.interface.driver import DriverState, Link, PairingCode
from mesh_session_node.drivers.interface.outcomes import (
    BlobUnavailable,
    ConnectionEnded,
    End,
    Failure,
    PairingRefused,
    Receipt,
)
from sessionmesh.v1 import content_pb2, media_pb2, message_pb2
from tests.support.driver_worlds import UNKNOWN, DriverWorld, memory_world, simulated_world
from tests.support.eventually import eventually
from tests.support.link_events import RecordedEvents

PHONE = "+15550000001"
PERSON = "phone:+4915112345678"
WORLDS: dict[str, Callable[[], AbstractAsyncContextManager[DriverWorld]]] = {
    "memory": memory_world,
    "simulated": simulated_world,
}


@pytest.fixture(params=WORLDS)
async def world(request: pytest.FixtureRequest) -> AsyncIterator[DriverWorld]:
    async with WORLDS[request.param]() as world:
        yield world


@pytest.fixture
def events() -> RecordedEvents:
    return RecordedEvents()


@pytest.fixture
async def state(world: DriverWorld) -> DriverState:
    """Paired; a message or two may be sent."""
    paired = await world.paired(PHONE)
    paired.confirm(paired.reserve(2))
    return paired


Connect = Callable[[], Awaitable[Link]]


@pytest.fixture
async def connect(world: DriverWorld, state: DriverState, events: RecordedEvents) -> AsyncIterator[Connect]:
    """Logs in, and closes in the end."""
    links: list[Link] = []

    async def connect() -> Link:
        links.append(await world.driver.connect(state, events))
        return links[-1]

    yield connect
    for link in links:
        link.abort()


@pytest.fixture
async def link(connect: Connect) -> Link:
    return await connect()


def text(to: str = PERSON) -> message_pb2.SendMessageRequest:
    return message_pb2.SendMessageRequest(
        recipient=to,
        content=content_pb2.Content(text=content_pb2.TextContent(body="hello")),
    )


def send(world: DriverWorld, link: Link, network_id: str, to: str = PERSON) -> None:
    payload, blobs = world.driver.encode(text(to), References(), None)
    link.send(OutgoingMessage(network_id, to, payload, blobs))


async def pieces(*data: bytes) -> AsyncIterator[bytes]:
    for piece in data:
        yield piece


async def drain(steps: AsyncIterator[object]) -> None:
    """Go on to the end."""
    async for _ in steps:
        pass


def pairing_with(world: DriverWorld, phone: str = "", *, by_code: bool = False) -> Any:
    return world.driver.pair(by_code=by_code, phone=phone, device_name="Sessionmesh")


# Pairing


async def test_a_qr_pairing_shows_a_code_and_ends_with_the_account_that_accepted(world: DriverWorld) -> None:
    steps = pairing_with(world)
    code = await anext(steps)
    assert isinstance(code, PairingCode)
    assert code.qr
    assert code.letters == ""
    assert code.expire_time > time.time_ns() // 1000
    await world.accept(code, PHONE)
    paired = await anext(steps)
    assert (paired.phone, bool(paired.user_id)) == (PHONE, True)
    with pytest.raises(StopAsyncIteration):
        await anext(steps)


async def test_a_pairing_by_code_shows_letters_for_the_phone(world: DriverWorld) -> None:
    steps = pairing_with(world, PHONE, by_code=True)
    code = await anext(steps)
    assert code.qr == ""
    assert len(code.letters.replace("-", "")) == 8
    await world.accept(code, PHONE)
    assert (await anext(steps)).phone == PHONE


async def test_a_new_pairing_logs_in(world: DriverWorld, events: RecordedEvents) -> None:
    steps = pairing_with(world)
    await world.accept(await anext(steps), PHONE)
    link = await world.driver.connect(await anext(steps), events)
    assert link.ended is None
    link.abort()


async def test_a_pairing_that_nobody_accepts_ends_without_a_state(world: DriverWorld) -> None:
    steps = pairing_with(world)
    await anext(steps)
    await world.time_out_pairing()
    assert [step async for step in steps if not isinstance(step, PairingCode)] == []


async def test_a_refused_pairing_says_so(world: DriverWorld) -> None:
    attempt = asyncio.create_task(drain(pairing_with(world, "not a number", by_code=True)))
    await world.refuse_pairing()
    with pytest.raises(PairingRefused):
        await attempt


async def test_a_pairing_whose_connection_breaks_says_so(world: DriverWorld) -> None:
    steps = pairing_with(world)
    await anext(steps)
    await world.go_away()
    with pytest.raises(ConnectionEnded) as ended:
        await drain(steps)
    assert ended.value.end is End.LOST


async def test_a_pairing_that_is_closed_is_given_up(world: DriverWorld) -> None:
    steps = pairing_with(world)
    await anext(steps)
    await steps.aclose()
    with pytest.raises(StopAsyncIteration):
        await anext(steps)


# States


async def test_nothing_may_be_sent_from_a_state_that_was_just_loaded(
    world: DriverWorld, state: DriverState
) -> None:
    loaded = world.driver.load(world.driver.dump(state))
    assert loaded.left == 0
    assert (loaded.phone, loaded.user_id, loaded.push_name) == (state.phone, state.user_id, state.push_name)


async def test_a_reservation_counts_once_it_is_confirmed(world: DriverWorld) -> None:
    state = await world.paired(PHONE)
    reservation = state.plan()
    assert reservation is not None
    assert state.left == 0
    state.confirm(reservation)
    assert state.left > 0


async def test_a_reservation_that_was_dropped_is_asked_for_again(world: DriverWorld) -> None:
    state = await world.paired(PHONE)
    reservation = state.plan()
    assert reservation is not None
    state.drop(reservation)
    assert state.left == 0
    assert state.plan() is not None


async def test_what_was_reserved_lies_behind_for_who_loads_the_reservation(world: DriverWorld) -> None:
    state = await world.paired(PHONE)
    reservation = state.reserve(5)
    taken_over = world.driver.load(reservation.state)
    again = taken_over.plan()
    assert again is not None
    assert again.upto > reservation.upto


async def test_more_may_be_reserved_for_many_messages_at_once(world: DriverWorld) -> None:
    state = await world.paired(PHONE)
    state.confirm(state.reserve(1000))
    assert state.left >= 1000


async def test_a_state_that_skips_can_send_only_what_is_reserved_anew(world: DriverWorld) -> None:
    state = await world.paired(PHONE)
    reservation = state.reserve(5)
    state.confirm(reservation)
    state.skip()
    assert state.left <= 0
    later = state.reserve(1)
    assert later.upto > reservation.upto
    state.confirm(later)
    assert state.left > 0


# Logins


async def test_a_login_gives_a_live_link(link: Link, events: RecordedEvents) -> None:
    assert link.ended is None
    assert link.heard <= asyncio.get_running_loop().time()
    assert events.ends == []


async def test_nobody_logs_in_for_an_account_that_may_not_be_used_here(
    world: DriverWorld, state: DriverState, events: RecordedEvents
) -> None:
    events.allowed = False
    with pytest.raises(ConnectionEnded) as ended:
        await world.driver.connect(state, events)
    assert ended.value.end is End.LOST
    assert events.asked >= 1


async def test_a_network_that_cannot_be_reached_counts_as_a_lost_connection(
    world: DriverWorld, state: DriverState, events: RecordedEvents
) -> None:
    await world.go_away()
    with pytest.raises(ConnectionEnded) as ended:
        await world.driver.connect(state, events)
    assert ended.value.end is End.LOST


@pytest.mark.parametrize("end", [End.REFUSED, End.LOGGED_OUT, End.BANNED])
async def test_a_login_that_fails_says_why(
    world: DriverWorld, state: DriverState, events: RecordedEvents, end: End
) -> None:
    await world.refuse_logins(PHONE, end)
    with pytest.raises(ConnectionEnded) as ended:
        await world.driver.connect(state, events)
    assert ended.value.end is end
    assert events.ends == []


async def test_a_second_login_replaces_the_first(connect: Connect, events: RecordedEvents) -> None:
    first = await connect()
    second = await connect()
    await eventually(lambda: events.ends == [End.REPLACED])
    assert first.ended is not None
    assert first.ended.end is End.REPLACED
    assert second.ended is None


# Ends


@pytest.mark.parametrize("end", [End.LOST, End.LOGGED_OUT, End.BANNED])
async def test_a_connection_that_the_network_ends_says_why(
    world: DriverWorld, link: Link, events: RecordedEvents, end: End
) -> None:
    await world.end(PHONE, end)
    await eventually(lambda: events.ends == [end])
    assert link.ended is not None
    assert link.ended.end is end


async def test_a_logout_ends_the_pairing(world: DriverWorld, link: Link, events: RecordedEvents) -> None:
    link.log_out()
    await world.answer()
    await eventually(lambda: events.ends == [End.LOGGED_OUT])


async def test_nobody_is_told_of_a_link_that_was_aborted(
    world: DriverWorld, link: Link, events: RecordedEvents
) -> None:
    send(world, link, "M1")
    link.abort()
    await world.answer()
    assert link.ended is not None
    assert (events.ends, events.acks, events.receipts) == ([], [], [])


async def test_what_is_handed_to_a_link_that_has_ended_goes_nowhere(
    world: DriverWorld, state: DriverState, link: Link
) -> None:
    link.abort()
    before = state.left
    send(world, link, "M1")
    link.ping()
    assert state.left == before


# Messages out


async def test_a_message_is_acknowledged_and_delivered(
    world: DriverWorld, link: Link, events: RecordedEvents
) -> None:
    send(world, link, "M1")
    await world.answer()
    await eventually(lambda: events.receipts)
    assert events.acks == ["M1"]
    assert [(r.network_id, r.receipt, r.member) for r in events.receipts] == [("M1", Receipt.DELIVERED, "")]
    assert all(abs(at - time.time_ns() // 1000) < 60_000_000 for at in events.times)


async def test_receipts_are_numbered_upwards(world: DriverWorld, link: Link, events: RecordedEvents) -> None:
    send(world, link, "M1")
    send(world, link, "M2")
    await world.answer()
    await eventually(lambda: len(events.receipts) == 2)
    first, second = [receipt.sequence for receipt in events.receipts]
    assert 0 < first < second
    link.acknowledge_receipts(second)


async def test_a_receipt_in_a_group_names_its_member(
    world: DriverWorld, link: Link, events: RecordedEvents
) -> None:
    send(world, link, "M1", await world.group_of(PHONE, PERSON))
    await world.answer()
    await eventually(lambda: events.receipts)
    [receipt] = events.receipts
    assert receipt.member == PERSON
    assert receipt.identity is not None
    assert receipt.identity.user_id


async def test_an_acknowledgement_says_who_the_recipient_is(
    world: DriverWorld, link: Link, events: RecordedEvents
) -> None:
    send(world, link, "M1")
    await world.answer()
    await eventually(lambda: events.acks)
    [recipient] = events.recipients
    assert recipient is not None
    assert (recipient.phone, bool(recipient.user_id)) == (PERSON.removeprefix("phone:"), True)


async def test_a_refusal_has_its_reason_and_the_networks_number(
    world: DriverWorld, link: Link, events: RecordedEvents
) -> None:
    await world.refuse(PHONE, 131_047)
    send(world, link, "M1")
    await world.answer()
    await eventually(lambda: events.rejects)
    assert [(r.failure, r.code) for r in events.rejects] == [(Failure.BLOCKED, 131_047)]


async def test_a_message_to_nobody_is_refused(world: DriverWorld, link: Link, events: RecordedEvents) -> None:
    send(world, link, "M1", UNKNOWN)
    await world.answer()
    await eventually(lambda: events.rejects)
    assert [(r.network_id, r.failure) for r in events.rejects] == [("M1", Failure.UNKNOWN_RECIPIENT)]
    assert events.acks == []


async def test_each_message_uses_one_position_up(world: DriverWorld, state: DriverState, link: Link) -> None:
    before = state.left
    send(world, link, "M1")
    send(world, link, "M2")
    assert state.left == before - 2


async def test_no_message_leaves_without_a_stored_position(
    world: DriverWorld, events: RecordedEvents
) -> None:
    state = await world.paired(PHONE)
    link = await world.driver.connect(state, events)
    with pytest.raises(RuntimeError):
        send(world, link, "M1")
    link.abort()


# Messages in


async def test_a_message_comes_as_it_was_written(
    world: DriverWorld, link: Link, events: RecordedEvents
) -> None:
    assert link.ended is None
    await world.write_to(PHONE, PERSON, "good morning")
    (came,) = await eventually(lambda: events.incoming)
    assert (came.chat, came.sender, came.content.text.body) == (PERSON, PERSON, "good morning")
    assert came.network_id
    assert came.time > 0
    assert not came.from_account
    assert came.identity is not None
    assert came.identity.user_id


async def test_what_the_account_writes_on_its_phone_is_its_own(
    world: DriverWorld, link: Link, events: RecordedEvents
) -> None:
    assert link.ended is None
    await world.write_from_phone(PHONE, PERSON, "see you")
    (came,) = await eventually(lambda: events.incoming)
    assert (came.from_account, came.sender, came.chat) == (True, f"phone:{PHONE}", PERSON)
    assert came.identity is not None
    assert came.identity.phone == PERSON.removeprefix("phone:")


async def test_an_answer_says_what_it_answers(world: DriverWorld, link: Link, events: RecordedEvents) -> None:
    assert link.ended is None
    await world.answer_to(PHONE, PERSON, "tea?")
    (came,) = await eventually(lambda: events.incoming)
    assert came.reply_to is not None
    assert (came.reply_to.network_id, came.reply_to.sender) == ("M1", f"phone:{PHONE}")
    assert came.reply_to.content is not None
    assert came.reply_to.content.text.body == "tea?"


async def test_a_message_is_the_networks_until_it_is_acknowledged(
    world: DriverWorld, link: Link, events: RecordedEvents
) -> None:
    await world.write_to(PHONE, PERSON, "good morning")
    (came,) = await eventually(lambda: events.incoming)
    assert await world.unacknowledged(PHONE) == 1
    link.acknowledge(came.network_id)

    async def acknowledged() -> bool:
        return await world.unacknowledged(PHONE) == 0

    await eventually(acknowledged)


# Files and numbers


async def test_a_file_is_stored_whole(link: Link) -> None:
    stored = await link.upload(pieces(b"a" * 300_000, b"", b"b"))
    assert stored.size == 300_001
    assert stored.ref
    assert len(stored.sha256) == 32


async def test_a_message_with_a_file_names_it(world: DriverWorld, link: Link) -> None:
    stored = await link.upload(pieces(b"picture"))
    request = message_pb2.SendMessageRequest(content=content_pb2.Content(image=content_pb2.ImageContent()))
    media = media_pb2.Media(mime_type="image/png", file_name="x.png")
    payload, blobs = world.driver.encode(request, References(), MediaPart(stored, media))
    assert isinstance(stored, Blob)
    assert payload
    assert list(blobs) == [stored.ref]


async def test_a_file_is_fetched_whole(world: DriverWorld, link: Link) -> None:
    data = bytes(range(256)) * 1000
    blob = await world.file(data)
    assert b"".join([piece async for piece in link.fetch(blob)]) == data


async def test_a_file_that_the_network_lacks_cannot_be_fetched(world: DriverWorld, link: Link) -> None:
    blob = await world.without_file()
    with pytest.raises(BlobUnavailable):
        await drain(link.fetch(blob))


async def test_numbers_are_answered_in_their_order(world: DriverWorld, link: Link) -> None:
    there, missing = "+4915100000002", "+4915100000003"
    await world.register(there, on_network=True)
    await world.register(missing, on_network=False)
    answers = await link.check_numbers([missing, there])
    assert [(answer.phone, answer.registered) for answer in answers] == [(missing, False), (there, True)]
    assert answers[1].user_id
    assert answers[0].user_id == ""


async def test_nothing_can_be_asked_of_a_link_that_has_ended(world: DriverWorld, link: Link) -> None:
    blob = await world.file(b"data")
    link.abort()
    with pytest.raises(ConnectionEnded):
        await link.upload(pieces(b"data"))
    with pytest.raises(ConnectionEnded):
        await drain(link.fetch(blob))
    with pytest.raises(ConnectionEnded):
        await link.check_numbers([PHONE])
