"""Messages that leave at the pace that their account's settings ask for, and limits that rise by day."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from mesh_session_node.context.account_settings import AccountSettings
from mesh_session_node.drivers.interface.outcomes import Refusal, Refused
from mesh_session_node.outbound.pacing import LEAST_TYPING, MAX_TYPING, Pacing, pacing_of, warm_up_day
from mesh_session_node.store.accounts import SendLimits
from sessionmesh.v1 import message_pb2 as pb
from sessionmesh.v1 import session_pb2
from tests.support.memory_host import OneAccount
from tests.support.memory_journal import Clock

DAY = 86_400
OTHER = "+4915112345679"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def seconds(number: float) -> Duration:
    duration = Duration()
    duration.FromNanoseconds(int(number * 1e9))
    return duration


def gaps(least: float, most: float) -> session_pb2.SessionSettings:
    pacing = session_pb2.SendPacing(min_gap=seconds(least), max_gap=seconds(most))
    return session_pb2.SessionSettings(pacing=pacing)


def typing(longest: float | None = None) -> session_pb2.SessionSettings:
    pacing = session_pb2.SendPacing(show_typing=True)
    if longest is not None:
        pacing.max_typing.CopyFrom(seconds(longest))
    return session_pb2.SessionSettings(pacing=pacing)


def plan(*days: int) -> session_pb2.SessionSettings:
    return session_pb2.SessionSettings(warm_up=session_pb2.WarmUpPlan(messages_per_day=days))


def give(
    account: OneAccount, given: session_pb2.SessionSettings, paired_days_ago: float | None = None
) -> None:
    """The account's settings from now on."""
    paired = None if paired_days_ago is None else int((time.time() - paired_days_ago * DAY) * 1e6)
    account.session.context.settings = replace(AccountSettings(), given=given, pair_time=paired)
    account.session.sender.settings_changed()


async def send(account: OneAccount, *texts: str, **fields: Any) -> list[Any]:
    """Messages that are stored, and acknowledged as soon as the network has them."""
    return [await account.send(text, **fields) for text in texts]


def typed(account: OneAccount) -> list[str]:
    """The chats in which the account was seen to write."""
    return [act.arguments[0] for act in account.driver.link.acts if act.name == "show_typing"]


# Gaps


async def test_messages_leave_with_gaps_between_them_in_their_order(
    account: OneAccount, clock: Clock
) -> None:
    await account.connected()
    give(account, gaps(5.0, 10.0))
    await send(account, "one", "two")
    await send(account, "three", to=OTHER)
    assert account.on_the_network == ["one"]
    await clock.skip(4.9)
    account.tick()
    assert account.on_the_network == ["one"]
    await clock.skip(5.2)
    account.tick()
    assert account.on_the_network == ["one", "two"]
    await clock.skip(10.1)
    account.tick()
    assert account.on_the_network == ["one", "two", "three"]


async def test_who_waits_for_a_gap_is_told_so(account: OneAccount, clock: Clock) -> None:
    await account.connected()
    give(account, gaps(5.0, 5.0))
    first, second = await send(account, "one", "two")
    reason = account.session.sender.wait_reason
    assert reason(second.uuid) == pb.WAIT_REASON_PACING
    await clock.skip(5.1)
    account.tick()
    assert reason(second.uuid) == reason(first.uuid) == pb.WAIT_REASON_UNSPECIFIED


async def test_a_message_that_expires_in_a_gap_is_not_sent(account: OneAccount, clock: Clock) -> None:
    await account.connected()
    give(account, gaps(60.0, 60.0))
    await send(account, "one")
    late = await account.send("late", expire_time=Timestamp(seconds=int(time.time() + 30)))
    await clock.skip(61.0)
    account.tick()
    assert account.on_the_network == ["one"]
    assert account.statuses(late) == [pb.MESSAGE_STATUS_EXPIRED]


async def test_a_refresh_of_the_account_does_not_shorten_a_gap(account: OneAccount) -> None:
    await account.connected()
    give(account, gaps(60.0, 60.0))
    await send(account, "one", "two")
    account.session.sender.set_limits(SendLimits(1000, 10_000, 100_000, 10_000))
    assert account.on_the_network == ["one"]


async def test_a_new_owner_begins_with_a_gap(account: OneAccount, clock: Clock) -> None:
    await account.connected()
    give(account, gaps(5.0, 5.0))
    sender = account.session.sender
    waiting = account.accept("two")
    sender.restore([waiting])
    await account.settle()
    sender.pump()
    assert account.on_the_network == []
    await clock.skip(5.1)
    account.tick()
    assert account.on_the_network == ["two"]


async def test_without_pacing_what_waited_for_a_gap_leaves_at_once(account: OneAccount) -> None:
    await account.connected()
    give(account, gaps(60.0, 60.0))
    await send(account, "one", "two", "three")
    give(account, session_pb2.SessionSettings())
    assert account.on_the_network == ["one", "two", "three"]


async def test_limits_hold_beside_gaps(account: OneAccount, clock: Clock) -> None:
    account.limit(per_minute=2)
    await account.connected()
    give(account, gaps(1.0, 1.0))
    _, _, third = await send(account, "one", "two", "three")
    for _ in range(10):
        await clock.skip(1.1)
        account.tick()
    assert account.on_the_network == ["one", "two"]
    assert account.session.sender.wait_reason(third.uuid) == pb.WAIT_REASON_SEND_LIMITS


# Typing


async def test_a_text_is_written_before_it_leaves(account: OneAccount, clock: Clock) -> None:
    await account.connected()
    give(account, typing())
    await send(account, "a text of some length")
    await account.settle()
    assert account.on_the_network == []
    assert typed(account) == ["phone:+4915112345678"]
    await clock.skip(MAX_TYPING)
    account.tick()
    assert account.on_the_network == ["a text of some length"]
    assert len(typed(account)) == 1


async def test_texts_of_a_chat_keep_their_order_while_one_is_written(
    account: OneAccount, clock: Clock
) -> None:
    await account.connected()
    give(account, typing())
    texts = ["one", "two", "three"]
    await send(account, *texts)
    for _ in texts:
        await clock.skip(LEAST_TYPING + 0.3)
        account.tick()
        await account.settle()
    assert account.on_the_network == texts
    assert len(typed(account)) == 3


async def test_nothing_is_written_that_the_limits_do_not_let_out(account: OneAccount, clock: Clock) -> None:
    account.limit(per_minute=1)
    await account.connected()
    give(account, typing())
    await send(account, "one", "two")
    await clock.skip(MAX_TYPING)
    account.tick()
    await account.settle()
    assert account.on_the_network == ["one"]
    assert len(typed(account)) == 1


async def test_a_text_that_would_expire_meanwhile_leaves_at_once(account: OneAccount) -> None:
    await account.connected()
    give(account, typing(60.0))
    await send(account, "x" * 1000, expire_time=Timestamp(seconds=int(time.time() + 20)))
    await account.settle()
    assert account.on_the_network == ["x" * 1000]
    assert typed(account) == []


async def test_a_text_leaves_also_where_typing_cannot_be_shown(account: OneAccount, clock: Clock) -> None:
    await account.connected()
    give(account, typing())
    account.driver.link.refusal = Refused(Refusal.OTHER)
    await send(account, "hello")
    await account.settle()
    await clock.skip(MAX_TYPING)
    account.tick()
    assert account.on_the_network == ["hello"]


def test_a_gap_and_typing_are_within_their_bounds() -> None:
    pacing = Pacing(2.0, 3.0, 8.0)
    assert all(2.0 <= pacing.gap() <= 3.0 for _ in range(100))
    assert all(pacing.typing_for(10_000) == 8.0 for _ in range(10))
    assert all(LEAST_TYPING <= pacing.typing_for(1) <= 8.0 for _ in range(10))
    assert pacing.typing_for(20) < pacing.typing_for(90)
    assert Pacing(2.0, 3.0, 0.0).typing_for(100) == 0.0


@pytest.mark.parametrize(
    ("given", "paced"),
    [
        (session_pb2.SessionSettings(), None),
        (session_pb2.SessionSettings(pacing=session_pb2.SendPacing()), None),
        (gaps(1.0, 2.0), Pacing(1.0, 2.0, 0.0)),
        (typing(), Pacing(0.0, 0.0, MAX_TYPING)),
        (typing(3.0), Pacing(0.0, 0.0, 3.0)),
    ],
)
def test_what_is_absent_is_no_pacing(given: session_pb2.SessionSettings, paced: Pacing | None) -> None:
    assert pacing_of(AccountSettings(given)) == paced


# Warming up


def test_the_days_of_a_plan_count_from_the_pairing() -> None:
    settings = AccountSettings(plan(10, 20, 30), pair_time=1_000_000)

    def day(after: float) -> int:
        return warm_up_day(settings, 1.0 + after)

    assert [day(0), day(DAY - 1), day(DAY), day(3 * DAY - 1), day(3 * DAY)] == [1, 1, 2, 3, 0]
    assert day(-100.0) == 1, "a clock that was set back"
    assert warm_up_day(AccountSettings(plan(10)), 1.0) == 0
    assert warm_up_day(AccountSettings(pair_time=1), 1.0) == 0


async def test_a_new_number_sends_no_more_than_its_day_allows(account: OneAccount, clock: Clock) -> None:
    await account.connected()
    give(account, plan(2, 3), paired_days_ago=0.5)
    *_, last = await send(account, *"abcd")
    assert account.on_the_network == ["a", "b"]
    assert account.session.sender.wait_reason(last.uuid) == pb.WAIT_REASON_SEND_LIMITS
    await clock.skip(0.6 * DAY)
    account.session.sender.tick()
    assert account.on_the_network == ["a", "b", "c"], "the limit is of any 24 hours"
    await clock.skip(DAY)
    account.session.sender.tick()
    assert account.on_the_network == ["a", "b", "c", "d"], "the plan is over"


async def test_a_plan_does_not_raise_the_accounts_own_limit(account: OneAccount) -> None:
    account.limit(per_day=1)
    await account.connected()
    give(account, plan(100), paired_days_ago=0.0)
    await send(account, "a", "b")
    assert account.on_the_network == ["a"]


async def test_a_plan_that_is_taken_away_limits_no_more(account: OneAccount) -> None:
    await account.connected()
    give(account, plan(1), paired_days_ago=0.0)
    await send(account, "a", "b")
    give(account, session_pb2.SessionSettings(), paired_days_ago=0.0)
    assert account.on_the_network == ["a", "b"]
