"""What every driver does, whatever its network: `drivers/interface`, sentence by sentence."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from mesh_session_node.drivers.interface.content import (
    Blob,
    MediaPart,
    OutgoingMessage,
    Reference,
    References,
    refers,
)
from mesh_session_node.drivers.interface.driver import Link
from mesh_session_node.drivers.interface.outcomes import (
    BlobUnavailable,
    ConnectionEnded,
    End,
    Failure,
    PairingRefused,
    Receipt,
)
from mesh_session_node.drivers.interface.pairing import (
    Paired,
    Pairing,
    PairingCode,
    PasskeyComparison,
    PasskeyRequest,
)
from mesh_session_node.drivers.interface.state import DriverState, Ratchet
from mesh_session_node.outbound.answers import ABOUT
from sessionmesh.v1 import content_pb2, media_pb2, message_pb2
from tests.support.driver_capabilities import Can
from tests.support.driver_contract import PERSON, Connect, needs, pieces, send, until
from tests.support.driver_worlds import DriverWorld
from tests.support.eventually import eventually
from tests.support.link_events import RecordedEvents
from tests.support.memory_world import UNKNOWN
from tests.support.recorded_rows import RecordedRows

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def new_ratchet(world: DriverWorld) -> Ratchet:
    """Of a new pairing, of which nothing is reserved."""
    ratchet = (await world.paired()).state.ratchet
    assert ratchet is not None
    return ratchet


async def drain(steps: AsyncIterator[object]) -> None:
    """Go on to the end."""
    async for _ in steps:
        pass


def pairing_with(
    world: DriverWorld, phone: str = "", *, by_code: bool = False, seconds: float = 60.0
) -> Pairing:
    return world.driver.pair(account_id="acc_1", by_code=by_code, phone=phone, seconds=seconds)


async def first_code(steps: Pairing) -> PairingCode:
    code = await anext(steps)
    assert isinstance(code, PairingCode)
    return code


async def end_of(steps: Pairing) -> Paired:
    """What comes in the end, behind codes that replace each other."""
    async for step in steps:
        if isinstance(step, Paired):
            return step
    raise AssertionError("nobody accepted in time")


# Pairing


async def test_a_qr_pairing_shows_a_code_and_ends_with_the_account_that_accepted(world: DriverWorld) -> None:
    steps = pairing_with(world)
    code = await first_code(steps)
    assert code.qr
    assert code.letters == ""
    assert code.expire_time > time.time_ns() // 1000
    await world.accept(code)
    state = (await end_of(steps)).state
    assert (state.phone, bool(state.user_id)) == (world.phone, True)
    with pytest.raises(StopAsyncIteration):
        await anext(steps)
    await steps.aclose()


async def test_a_pairing_by_code_shows_letters_for_the_phone(world: DriverWorld) -> None:
    steps = pairing_with(world, world.phone, by_code=True)
    code = await first_code(steps)
    assert code.qr == ""
    assert len(code.letters.replace("-", "")) == 8
    await world.accept(code)
    assert (await end_of(steps)).state.phone == world.phone
    await steps.aclose()


@needs(Can.PASSKEYS)
async def test_a_pairing_asks_for_the_passkey_and_goes_on_once_it_is_confirmed(world: DriverWorld) -> None:
    steps = pairing_with(world)
    await world.accept_with_passkey(await first_code(steps))
    request = await anext(steps)
    assert isinstance(request, PasskeyRequest)
    assert request.options
    steps.answer_passkey(world.passkey_answer(request.options))
    assert isinstance(await anext(steps), PasskeyComparison)
    steps.confirm_passkey()
    assert (await end_of(steps)).state.phone == world.phone
    await steps.aclose()


async def test_a_new_pairing_logs_in_with_what_was_stored_of_it(
    world: DriverWorld, rows: RecordedRows, events: RecordedEvents
) -> None:
    steps = pairing_with(world)
    await world.accept(await first_code(steps))
    paired = await end_of(steps)
    rows.apply(paired.rows)
    await steps.stored()
    await steps.aclose()
    stored = world.driver.load(world.driver.dump(paired.state))
    link = await world.driver.connect(stored, rows, events)
    assert link.ended is None
    link.abort()


async def test_a_pairing_that_nobody_accepts_ends_without_a_state(world: DriverWorld) -> None:
    steps = pairing_with(world, seconds=0.5)
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


async def test_a_state_that_was_stored_is_the_same_account(world: DriverWorld, state: DriverState) -> None:
    loaded = world.driver.load(world.driver.dump(state))
    assert (loaded.phone, loaded.user_id, loaded.push_name) == (state.phone, state.user_id, state.push_name)


@needs(Can.RATCHET)
async def test_nothing_may_be_sent_from_a_ratchet_that_was_just_loaded(
    world: DriverWorld, state: DriverState
) -> None:
    loaded = world.driver.load(world.driver.dump(state)).ratchet
    assert loaded is not None
    assert loaded.left == 0


@needs(Can.RATCHET)
async def test_a_reservation_counts_once_it_is_confirmed(world: DriverWorld) -> None:
    ratchet = await new_ratchet(world)
    reservation = ratchet.plan()
    assert reservation is not None
    assert ratchet.left == 0
    ratchet.confirm(reservation)
    assert ratchet.left > 0


@needs(Can.RATCHET)
async def test_a_reservation_that_was_dropped_is_asked_for_again(world: DriverWorld) -> None:
    ratchet = await new_ratchet(world)
    reservation = ratchet.plan()
    assert reservation is not None
    ratchet.drop(reservation)
    assert ratchet.left == 0
    assert ratchet.plan() is not None


@needs(Can.RATCHET)
async def test_what_was_reserved_lies_behind_for_who_loads_the_reservation(world: DriverWorld) -> None:
    reservation = (await new_ratchet(world)).reserve(5)
    taken_over = world.driver.load(reservation.state).ratchet
    assert taken_over is not None
    again = taken_over.plan()
    assert again is not None
    assert again.upto > reservation.upto


@needs(Can.RATCHET)
async def test_more_may_be_reserved_for_many_messages_at_once(world: DriverWorld) -> None:
    ratchet = await new_ratchet(world)
    ratchet.confirm(ratchet.reserve(1000))
    assert ratchet.left >= 1000


@needs(Can.RATCHET)
async def test_a_ratchet_that_skips_can_send_only_what_is_reserved_anew(world: DriverWorld) -> None:
    ratchet = await new_ratchet(world)
    reservation = ratchet.reserve(5)
    ratchet.confirm(reservation)
    ratchet.skip()
    assert ratchet.left <= 0
    later = ratchet.reserve(1)
    assert later.upto > reservation.upto
    ratchet.confirm(later)
    assert ratchet.left > 0


# Rows


@needs(Can.ROWS)
async def test_nothing_leaves_before_the_rows_that_it_was_made_from_are_stored(
    world: DriverWorld, rows: RecordedRows, link: Link, events: RecordedEvents
) -> None:
    rows.holding = True
    send(world, link, "M1")
    await eventually(lambda: rows.waiting)
    await world.answer()
    assert events.acks == []
    rows.holding = False
    rows.store()
    await until(world, lambda: events.acks == ["M1"])


@needs(Can.ROWS)
async def test_a_message_whose_rows_are_refused_never_leaves(
    world: DriverWorld, rows: RecordedRows, link: Link, events: RecordedEvents
) -> None:
    rows.holding = True
    send(world, link, "M1")
    await eventually(lambda: rows.waiting)
    before = dict(rows.rows)
    rows.refuse()
    await eventually(lambda: link.ended)
    await world.answer()
    assert events.acks == []
    assert rows.rows == before


@needs(Can.ROWS)
async def test_the_next_owner_goes_on_where_the_rows_are(
    world: DriverWorld, state: DriverState, rows: RecordedRows, link: Link, events: RecordedEvents
) -> None:
    send(world, link, "M1")
    await until(world, lambda: events.acks == ["M1"])
    link.abort()
    await link.closed()
    before = dict(rows.rows)
    later = await world.driver.connect(world.driver.load(world.driver.dump(state)), rows, events)
    send(world, later, "M2")
    await until(world, lambda: events.acks == ["M1", "M2"])
    assert rows.rows != before
    later.abort()


@needs(Can.ROWS)
async def test_a_message_comes_with_the_rows_that_it_changes(
    world: DriverWorld, rows: RecordedRows, link: Link, events: RecordedEvents
) -> None:
    assert link.ended is None
    await world.write_to(PERSON, "good morning")
    (came,) = await eventually(lambda: events.incoming)
    assert came.changes
    assert all(rows.rows.get(change.key) != change.value for change in came.changes)


@needs(Can.ROWS)
async def test_an_account_whose_rows_are_gone_cannot_log_in(
    world: DriverWorld, state: DriverState, rows: RecordedRows, events: RecordedEvents
) -> None:
    rows.rows.clear()
    with pytest.raises(ConnectionEnded) as ended:
        await world.driver.connect(state, rows, events)
    assert ended.value.end is End.STATE_UNUSABLE


# Logins


async def test_a_login_gives_a_live_link(link: Link, events: RecordedEvents) -> None:
    assert link.ended is None
    assert link.heard <= asyncio.get_running_loop().time()
    assert events.ends == []


async def test_nobody_logs_in_for_an_account_that_may_not_be_used_here(
    world: DriverWorld, state: DriverState, rows: RecordedRows, events: RecordedEvents
) -> None:
    events.allowed = False
    with pytest.raises(ConnectionEnded) as ended:
        await world.driver.connect(state, rows, events)
    assert ended.value.end is End.LOST
    assert events.asked >= 1


async def test_a_network_that_cannot_be_reached_counts_as_a_lost_connection(
    world: DriverWorld, state: DriverState, rows: RecordedRows, events: RecordedEvents
) -> None:
    await world.go_away()
    with pytest.raises(ConnectionEnded) as ended:
        await world.driver.connect(state, rows, events)
    assert ended.value.end is End.LOST


@pytest.mark.parametrize("end", [End.REFUSED, End.LOGGED_OUT, End.BANNED])
async def test_a_login_that_fails_says_why(
    world: DriverWorld, state: DriverState, rows: RecordedRows, events: RecordedEvents, end: End
) -> None:
    await world.refuse_logins(end)
    with pytest.raises(ConnectionEnded) as ended:
        await world.driver.connect(state, rows, events)
    assert ended.value.end is end
    assert events.ends == []


@needs(Can.REPLACES)
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
    await world.end(end)
    await eventually(lambda: events.ends == [end])
    assert link.ended is not None
    assert link.ended.end is end


@needs(Can.LOG_OUT)
async def test_a_logout_ends_the_pairing(world: DriverWorld, link: Link, events: RecordedEvents) -> None:
    link.log_out()
    await until(world, lambda: events.ends == [End.LOGGED_OUT])


async def test_nobody_is_told_of_a_link_that_was_aborted(
    world: DriverWorld, link: Link, events: RecordedEvents
) -> None:
    send(world, link, "M1")
    link.abort()
    await world.answer()
    assert link.ended is not None
    assert (events.ends, events.acks, events.receipts) == ([], [], [])


async def test_what_is_handed_to_a_link_that_has_ended_goes_nowhere(
    world: DriverWorld, state: DriverState, rows: RecordedRows, link: Link
) -> None:
    link.abort()
    await link.closed()
    ratchet, before = state.ratchet, dict(rows.rows)
    left = 0 if ratchet is None else ratchet.left
    send(world, link, "M1")
    link.ping()
    assert (0 if ratchet is None else ratchet.left, rows.rows) == (left, before)


async def test_a_link_may_be_aborted_again(link: Link) -> None:
    link.abort()
    link.abort()
    await link.closed()


# Messages out


@needs(Can.RECEIPTS)
async def test_a_message_is_acknowledged_and_delivered(
    world: DriverWorld, link: Link, events: RecordedEvents
) -> None:
    send(world, link, "M1")
    await until(world, lambda: events.receipts and events.acks)  # either may be told first
    assert events.acks == ["M1"]
    assert [(r.network_id, r.receipt, r.member) for r in events.receipts] == [("M1", Receipt.DELIVERED, "")]
    assert all(abs(at - time.time_ns() // 1000) < 60_000_000 for at in events.times)


@needs(Can.NUMBERED_RECEIPTS)
async def test_receipts_are_numbered_upwards(world: DriverWorld, link: Link, events: RecordedEvents) -> None:
    send(world, link, "M1")
    send(world, link, "M2")
    await until(world, lambda: len(events.receipts) == 2)
    first, second = [receipt.sequence for receipt in events.receipts]
    assert 0 < first < second
    link.acknowledge_receipts(second)


@needs(Can.GROUP_RECEIPTS)
async def test_a_receipt_in_a_group_names_its_member(
    world: DriverWorld, link: Link, events: RecordedEvents
) -> None:
    send(world, link, "M1", await world.group_of(PERSON))
    await until(world, lambda: events.receipts)
    [receipt] = events.receipts
    assert receipt.member == PERSON
    assert receipt.identity is not None
    assert receipt.identity.user_id


@needs(Can.GROUP_RECEIPTS)
async def test_a_message_goes_to_a_group_of_very_many(
    world: DriverWorld, link: Link, events: RecordedEvents
) -> None:
    group = await world.group_of(*(f"phone:+4915200000{number:03}" for number in range(150)))
    for network_id in ("M1", "M2"):
        send(world, link, network_id, group)
    await until(world, lambda: len(events.acks) == 2)
    assert (events.acks, events.ends) == (["M1", "M2"], [])


@needs(Can.KNOWS_RECIPIENT)
async def test_an_acknowledgement_says_who_the_recipient_is(
    world: DriverWorld, link: Link, events: RecordedEvents
) -> None:
    send(world, link, "M1")
    await until(world, lambda: events.acks)
    [recipient] = events.recipients
    assert recipient is not None
    assert (recipient.phone, bool(recipient.user_id)) == (PERSON.removeprefix("phone:"), True)


@needs(Can.REFUSALS)
@pytest.mark.parametrize(
    "failure",
    [Failure.BLOCKED, Failure.CONTENT, Failure.RATE_LIMITED, Failure.RESTRICTED],
    ids=lambda f: f.name,
)
async def test_a_refusal_has_its_reason_and_the_networks_number(
    world: DriverWorld, link: Link, events: RecordedEvents, failure: Failure
) -> None:
    number = await world.refuse(failure)
    send(world, link, "M1")
    await until(world, lambda: events.rejects)
    assert [(r.failure, r.code) for r in events.rejects] == [(failure, number)]
    assert events.acks == []


async def test_a_message_to_nobody_is_refused(world: DriverWorld, link: Link, events: RecordedEvents) -> None:
    send(world, link, "M1", UNKNOWN)
    await until(world, lambda: events.rejects)
    assert [(r.network_id, r.failure) for r in events.rejects] == [("M1", Failure.UNKNOWN_RECIPIENT)]
    assert events.acks == []


@needs(Can.RATCHET)
async def test_each_message_uses_one_position_up(world: DriverWorld, state: DriverState, link: Link) -> None:
    ratchet = state.ratchet
    assert ratchet is not None
    before = ratchet.left
    send(world, link, "M1")
    send(world, link, "M2")
    assert ratchet.left == before - 2


@needs(Can.RATCHET)
async def test_no_message_leaves_without_a_stored_position(
    world: DriverWorld, rows: RecordedRows, events: RecordedEvents
) -> None:
    link = await world.driver.connect((await world.paired()).state, rows, events)
    with pytest.raises(RuntimeError):
        send(world, link, "M1")
    link.abort()


KINDS = [field.name for field in content_pb2.Content.DESCRIPTOR.fields]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_kind_of_content_is_sent(
    world: DriverWorld, link: Link, events: RecordedEvents, kind: str
) -> None:
    if kind not in world.driver.content_kinds:
        pytest.skip(f"the driver lacks {kind}")
    request = message_pb2.SendMessageRequest(recipient=PERSON)
    getattr(request.content, kind).SetInParent()
    if kind == "group_invite":
        request.content.group_invite.group = "group:1"
    about = References(target=Reference("M0", PERSON, PERSON))
    if kind == "poll_vote":  # a vote is encrypted with what the poll brought
        about = References(target=Reference("M0", PERSON))
        poll = message_pb2.SendMessageRequest(recipient=PERSON)
        poll.content.poll.answers.extend(["yes", "no"])
        link.send(OutgoingMessage("M0", PERSON, *world.driver.encode(poll, References(), None)))
        await until(world, lambda: events.acks == ["M0"])
        events.acks.clear()
    part = None
    if refers(request) and kind not in ABOUT:
        part = MediaPart(await link.upload(kind, pieces(b"file")), media_pb2.Media(mime_type="x/y"))
    payload, blobs = world.driver.encode(request, about, part)
    link.send(OutgoingMessage("M1", PERSON, payload, blobs))
    await until(world, lambda: events.acks == ["M1"])


# Messages in


async def test_a_message_comes_as_it_was_written(
    world: DriverWorld, link: Link, events: RecordedEvents
) -> None:
    assert link.ended is None
    await world.write_to(PERSON, "good morning")
    (came,) = await eventually(lambda: events.incoming)
    assert (came.chat, came.sender, came.content.text.body) == (PERSON, PERSON, "good morning")
    assert came.network_id
    assert came.time > 0
    assert not came.from_account
    assert came.identity is not None
    assert came.identity.user_id


@needs(Can.OWN_DEVICES)
async def test_what_the_account_writes_on_its_phone_is_its_own(
    world: DriverWorld, link: Link, events: RecordedEvents
) -> None:
    assert link.ended is None
    await world.write_from_phone(PERSON, "see you")
    (came,) = await eventually(lambda: events.incoming)
    assert (came.from_account, came.sender, came.chat) == (True, f"phone:{world.phone}", PERSON)
    assert came.identity is not None
    assert came.identity.phone == PERSON.removeprefix("phone:")


@needs(Can.QUOTES)
async def test_an_answer_says_what_it_answers(world: DriverWorld, link: Link, events: RecordedEvents) -> None:
    assert link.ended is None
    await world.answer_to(PERSON, "tea?")
    (came,) = await eventually(lambda: events.incoming)
    assert came.reply_to is not None
    assert (came.reply_to.network_id, came.reply_to.sender) == ("M1", f"phone:{world.phone}")
    assert came.reply_to.content is not None
    assert came.reply_to.content.text.body == "tea?"


@needs(Can.OFFERS_AGAIN)
async def test_a_message_is_the_networks_until_it_is_acknowledged(
    world: DriverWorld, link: Link, events: RecordedEvents
) -> None:
    await world.write_to(PERSON, "good morning")
    (came,) = await eventually(lambda: events.incoming)
    assert await world.unacknowledged() == 1
    link.acknowledge(came.offered_as or came.network_id)

    async def acknowledged() -> bool:
        return await world.unacknowledged() == 0

    await eventually(acknowledged)


# Files and numbers


@needs(Can.FILES)
async def test_a_file_is_stored_whole(link: Link) -> None:
    stored = await link.upload("image", pieces(b"a" * 300_000, b"", b"b"))
    assert stored.size == 300_001
    assert stored.ref
    assert len(stored.sha256) == 32


@needs(Can.FILES)
async def test_a_message_with_a_file_names_it(world: DriverWorld, link: Link) -> None:
    stored = await link.upload("image", pieces(b"picture"))
    request = message_pb2.SendMessageRequest(content=content_pb2.Content(image=content_pb2.ImageContent()))
    media = media_pb2.Media(mime_type="image/png", file_name="x.png")
    payload, blobs = world.driver.encode(request, References(), MediaPart(stored, media))
    assert isinstance(stored, Blob)
    assert payload
    assert list(blobs) == [stored.ref]


@needs(Can.FILES)
async def test_a_file_is_fetched_whole(world: DriverWorld, link: Link) -> None:
    data = bytes(range(256)) * 1000
    blob = await world.file(data)
    assert b"".join([piece async for piece in link.fetch(blob)]) == data


@needs(Can.FILES)
async def test_a_file_that_the_network_lacks_cannot_be_fetched(world: DriverWorld, link: Link) -> None:
    blob = await world.without_file()
    with pytest.raises(BlobUnavailable):
        await drain(link.fetch(blob))


async def test_nothing_can_be_asked_of_a_link_that_has_ended(world: DriverWorld, link: Link) -> None:
    blob = await world.file(b"data")
    link.abort()
    with pytest.raises(ConnectionEnded):
        await link.upload("image", pieces(b"data"))
    with pytest.raises(ConnectionEnded):
        await drain(link.fetch(blob))
