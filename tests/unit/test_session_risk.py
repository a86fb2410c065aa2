"""How the network may judge an account: from whom it writes to, and who answers."""

from __future__ import annotations

import random
import time

import pytest
from google.protobuf.message import DecodeError

from mesh_core.database.requests import RecordKind
from mesh_session_node.context.context import SessionSettings
from mesh_session_node.context.people import People
from mesh_session_node.context.risk import DAYS, STORE_SECONDS, Risk
from mesh_session_node.drivers.interface.content import Identity, Incoming
from mesh_session_node.journal import AccountRecord
from sessionmesh.internal.v1.session_pb2 import StoredRisk
from sessionmesh.v1 import content_pb2
from sessionmesh.v1 import session_pb2 as pb
from tests.support.memory_host import OneAccount
from tests.support.memory_journal import Clock

DAY = 86_400.0
NOW = 20_000 * DAY + 100.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: NOW)


def person(number: int) -> str:
    return f"phone:+4915{number:09}"


def wrote(risk: Risk, chat: str, *, history: bool = False, own: bool = False) -> None:
    text = content_pb2.Content(text=content_pb2.TextContent(body="hello"))
    came = Incoming("M1", chat, chat, push_name="", time=0, content=text, history=history, from_account=own)
    risk.came(came, People())


def stored(risk: Risk, now: float) -> bytes:
    risk.load(None, now)
    row = risk.row(now, at_once=True)
    assert row is not None
    assert row.value is not None
    return row.value


def test_nothing_is_said_of_an_account_that_did_nothing() -> None:
    assert Risk().shown(NOW) == pb.SessionRisk()


@pytest.mark.usefixtures("at")
def test_strangers_are_those_who_never_wrote() -> None:
    risk = Risk()
    for number in range(4):
        risk.sent(person(number), NOW)
    assert risk.shown(NOW).unknown_recipient_share == 1.0
    wrote(risk, person(0))
    wrote(risk, person(1), history=True)
    wrote(risk, person(2), own=True)
    shown = risk.shown(NOW)
    assert shown.unknown_recipient_share == pytest.approx(0.5, abs=0.01)
    assert shown.replies_per_send == 0.25, "the past is no reply"


@pytest.mark.usefixtures("at")
def test_only_chats_of_two_count() -> None:
    risk = Risk()
    for chat in ("group:1203", "status", "channel:1"):
        risk.sent(chat, NOW)
        wrote(risk, chat)
    assert risk.shown(NOW) == pb.SessionRisk()


@pytest.mark.usefixtures("at")
def test_who_answers_under_another_name_is_the_same_person() -> None:
    risk, people = Risk(), People()
    risk.sent(person(1), NOW)
    people.learn("hidden:77", Identity(phone=person(1).removeprefix("phone:"), hidden_id="77"))
    text = content_pb2.Content(text=content_pb2.TextContent(body="hello"))
    came = Incoming("M1", "hidden:77", "hidden:77", push_name="", time=0, content=text)
    risk.came(came, people)
    assert risk.shown(NOW).unknown_recipient_share == pytest.approx(0.0, abs=0.01)


@pytest.mark.usefixtures("at")
@pytest.mark.parametrize(
    ("strangers", "known", "writers"), [(30, 70, 500), (700, 300, 1500), (10, 990, 3000)]
)
def test_the_share_is_close_with_hundreds_of_people(strangers: int, known: int, writers: int) -> None:
    numbers = random.Random(7).sample(range(10**9), strangers + writers)
    risk = Risk()
    for number in numbers[strangers:]:
        wrote(risk, person(number))
    for number in numbers[: strangers + known]:
        risk.sent(person(number), NOW)
    share = strangers / (strangers + known)
    assert risk.shown(NOW).unknown_recipient_share == pytest.approx(share, abs=0.06)


@pytest.mark.usefixtures("at")
def test_what_is_older_than_seven_days_does_not_count() -> None:
    risk = Risk()
    wrote(risk, person(1))
    risk.sent(person(2), NOW)
    risk.restricted(1, NOW)
    later = NOW + (DAYS - 1) * DAY
    assert risk.shown(later).restrictions == 1
    risk.sent(person(1), later)
    assert risk.shown(later).unknown_recipient_share == pytest.approx(0.5, abs=0.01)
    shown = risk.shown(later + DAY)
    assert shown.unknown_recipient_share == pytest.approx(0.0, abs=0.01), "who wrote once is known for good"
    assert (shown.replies_per_send, shown.restrictions) == (0.0, 0)
    assert not risk.shown(NOW + 500 * DAY).HasField("unknown_recipient_share")


@pytest.mark.usefixtures("at")
def test_a_new_owner_counts_on() -> None:
    first, second = Risk(), Risk()
    for number in range(3):
        first.sent(person(number), NOW)
    wrote(first, person(0))
    first.restricted(2, NOW)
    value = stored(first, NOW)

    second.sent(person(3), NOW + DAY)
    assert second.row(NOW + DAY, at_once=True) is None, "it would take the place of what is stored"
    second.load(value, NOW + DAY)
    shown = second.shown(NOW + DAY)
    assert shown.unknown_recipient_share == pytest.approx(0.75, abs=0.01)
    assert (shown.replies_per_send, shown.restrictions) == (0.25, 2)


@pytest.mark.usefixtures("at")
@pytest.mark.parametrize("days", [7.0, 8.0, 127.0, 1000.0])
def test_what_was_stored_long_ago_is_old(days: float) -> None:
    first, second = Risk(), Risk()
    first.sent(person(1), NOW)
    second.load(stored(first, NOW), NOW + days * DAY)
    assert not second.shown(NOW + days * DAY).HasField("unknown_recipient_share")


@pytest.mark.parametrize(
    "value", [b"\xff", StoredRisk(groups=b"no").SerializeToString(), StoredRisk(day=1).SerializeToString()]
)
def test_what_cannot_be_read_is_counted_anew(value: bytes) -> None:
    risk = Risk()
    with pytest.raises(DecodeError):
        risk.load(value, NOW)
    risk.sent(person(1), NOW)
    assert risk.row(NOW) is not None


def test_it_is_stored_now_and_then_and_small() -> None:
    risk = Risk()
    risk.load(None, NOW)
    assert risk.row(NOW) is None
    risk.sent(person(1), NOW)
    row = risk.row(NOW)
    assert row is not None
    assert row.kind == RecordKind.RISK
    assert row.value is not None
    assert len(row.value) < 100
    risk.sent(person(2), NOW + 1)
    assert risk.row(NOW + 1) is None
    assert risk.row(NOW + STORE_SECONDS) is not None
    risk.sent(person(3), NOW + STORE_SECONDS)
    assert risk.row(NOW + STORE_SECONDS, at_once=True) is not None


# As a session has it


async def test_a_session_counts_what_it_sends_and_stores_it(account: OneAccount, clock: Clock) -> None:
    await account.connected()
    account.session.context.risk.load(None, time.time())
    for number in range(3):
        out = await account.send("hello", to=f"+4915{number:09}")
        account.driver.link.ack(out.network_id)
    account.driver.link.restrict(pb.Restriction(kind=pb.RESTRICTION_KIND_NEW_CHATS))
    account.tick()
    shown = account.session.context.risk.shown(time.time())
    assert (shown.unknown_recipient_share, shown.replies_per_send, shown.restrictions) == (1.0, 0.0, 1)
    assert len(account.stored(AccountRecord)) == 1


async def test_an_account_that_writes_to_strangers_raises_an_alarm_until_they_answer(
    account: OneAccount, clock: Clock
) -> None:
    account.host.settings = SessionSettings(risk_least_recipients=3, risk_unknown_percent=60)
    await account.connected()
    risk = account.session.context.risk
    risk.load(None, time.time())
    raised = []
    for number in range(3):
        out = await account.send("hello", to=f"+4915{number:09}")
        account.driver.link.ack(out.network_id)
        await clock.skip(20.0)
        account.session.store_counters(at_once=True)
        raised.append(risk.raised)
    assert raised == [False, False, True]
    for number in range(2):
        wrote(risk, person(number))
    account.session.store_counters(at_once=True)
    assert not risk.raised
