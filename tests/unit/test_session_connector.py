"""How an account comes to the network and leaves it, and when it tries again."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from unittest.mock import AsyncMock

import pytest

from mesh_core.errors import FailedPrecondition
from mesh_session_node.drivers.interface.outcomes import ConnectionEnded, End
from mesh_session_node.journal import Disconnect, Event, SessionSnapshot
from sessionmesh.v1 import session_pb2 as pb
from tests.support.memory_host import OneAccount
from tests.support.memory_journal import Clock

LONGEST_FIRST_DELAY = 5.0
HOUR = 3600.0


def causes(account: OneAccount) -> list[int]:
    """Why connections ended, as they were recorded."""
    return [row.cause for row in account.stored(Disconnect)]


def state(account: OneAccount) -> tuple[int, int]:
    return account.shown.state, account.shown.cause


def seconds_to_retry(account: OneAccount) -> float:
    return account.shown.next_connect_time.ToMicroseconds() / 1e6 - time.time()


# Coming


async def test_an_account_that_comes_here_dials_in_its_turn(account: OneAccount) -> None:
    account.load(pb.SESSION_STATE_CONNECTED)
    assert state(account) == (pb.SESSION_STATE_CONNECTING, pb.SESSION_CAUSE_MOVED)
    assert account.driver.links == []
    await account.dial()
    assert state(account) == (pb.SESSION_STATE_CONNECTED, pb.SESSION_CAUSE_LOGGED_IN)
    assert account.shown.counters.connects == 1


@pytest.mark.parametrize(
    "at_rest",
    [
        pb.SESSION_STATE_NEW,
        pb.SESSION_STATE_PAUSED,
        pb.SESSION_STATE_CONFLICT,
        pb.SESSION_STATE_LOGGED_OUT,
        pb.SESSION_STATE_BANNED,
    ],
    ids=pb.SessionState.Name,
)
async def test_an_account_that_rests_stays_so_when_it_comes_here(account: OneAccount, at_rest: int) -> None:
    account.load(at_rest)
    await account.dial()
    assert account.shown.state == at_rest
    assert account.driver.links == []


async def test_an_account_whose_connecting_ended_with_its_node_goes_on_here(account: OneAccount) -> None:
    account.load(pb.SESSION_STATE_BACKOFF)
    await account.dial()
    assert account.shown.state == pb.SESSION_STATE_CONNECTED


async def test_every_change_is_stored_with_its_event(account: OneAccount) -> None:
    await account.connected()
    assert [row.state for row in account.stored(SessionSnapshot)] == [
        pb.SESSION_STATE_CONNECTING,
        pb.SESSION_STATE_CONNECTED,
    ]
    assert [row.type for row in account.stored(Event)] == ["session.state_changed"] * 2


async def test_an_unpaired_account_cannot_connect(account: OneAccount) -> None:
    with pytest.raises(FailedPrecondition) as refused:
        account.session.connect()
    assert refused.value.reason == "NOT_PAIRED"


async def test_who_asks_twice_is_connected_once(account: OneAccount) -> None:
    account.load(pb.SESSION_STATE_PAUSED)
    account.session.connect()
    account.session.connect()
    await account.dial()
    await account.dial()
    assert len(account.driver.links) == 1


async def test_a_waiter_returns_when_the_account_is_connected(account: OneAccount) -> None:
    account.load(pb.SESSION_STATE_CONNECTED)
    waiting = asyncio.create_task(account.session.context.until_connected())
    await account.settle()
    assert not waiting.done()
    await account.dial()
    assert waiting.done()


# Failing to come


@pytest.mark.parametrize(
    ("end", "cause"),
    [(End.LOST, pb.SESSION_CAUSE_CONNECT_FAILED), (End.REFUSED, pb.SESSION_CAUSE_LOGIN_REFUSED)],
)
async def test_a_login_that_fails_is_tried_again_after_a_while(
    account: OneAccount, clock: Clock, end: End, cause: int
) -> None:
    account.driver.refusal = ConnectionEnded(end, "in the network's words")
    account.load(pb.SESSION_STATE_CONNECTED)
    await account.dial()
    assert state(account) == (pb.SESSION_STATE_BACKOFF, cause)
    assert account.shown.detail == "in the network's words"
    assert account.shown.recent_failures == 1
    assert seconds_to_retry(account) <= LONGEST_FIRST_DELAY
    account.driver.refusal = None
    await clock.skip(LONGEST_FIRST_DELAY)
    assert account.shown.state == pb.SESSION_STATE_CONNECTING
    await account.dial()
    assert account.shown.state == pb.SESSION_STATE_CONNECTED


async def test_an_account_waits_as_long_as_the_network_says(account: OneAccount, clock: Clock) -> None:
    account.driver.refusal = ConnectionEnded(End.REFUSED, retry_after=120.0)
    account.load(pb.SESSION_STATE_CONNECTED)
    await account.dial()
    await clock.skip(119)
    assert account.shown.state == pb.SESSION_STATE_BACKOFF
    await clock.skip(2)
    assert account.shown.state == pb.SESSION_STATE_CONNECTING


@pytest.mark.parametrize(
    ("end", "to", "cause"),
    [
        (End.LOGGED_OUT, pb.SESSION_STATE_LOGGED_OUT, pb.SESSION_CAUSE_LOGGED_OUT),
        (End.BANNED, pb.SESSION_STATE_BANNED, pb.SESSION_CAUSE_BANNED),
    ],
)
async def test_a_login_that_shows_the_pairing_has_ended_is_not_tried_again(
    account: OneAccount, clock: Clock, end: End, to: int, cause: int
) -> None:
    account.driver.refusal = ConnectionEnded(end)
    account.load(pb.SESSION_STATE_CONNECTED)
    await account.dial()
    assert state(account) == (to, cause)
    assert not account.shown.paired
    await clock.skip(HOUR)
    assert account.host.admitted == []


async def test_one_failure_too_many_in_an_hour_is_quarantine_until_the_first_is_forgotten(
    account: OneAccount, clock: Clock
) -> None:
    account.driver.refusal = ConnectionEnded(End.LOST)
    account.load(pb.SESSION_STATE_CONNECTED)
    for _ in range(6):
        await account.dial()
        if account.shown.cause != pb.SESSION_CAUSE_QUARANTINED:
            await clock.skip(300)
    assert state(account) == (pb.SESSION_STATE_BACKOFF, pb.SESSION_CAUSE_QUARANTINED)
    assert HOUR - 1510 < seconds_to_retry(account) <= HOUR - 1490


async def test_somebody_who_connects_ends_the_quarantine(account: OneAccount, clock: Clock) -> None:
    account.driver.refusal = ConnectionEnded(End.LOST)
    account.load(pb.SESSION_STATE_CONNECTED)
    for _ in range(6):
        await account.dial()
        if account.shown.cause != pb.SESSION_CAUSE_QUARANTINED:
            await clock.skip(300)
    account.driver.refusal = None
    account.session.connect()
    assert account.shown.recent_failures == 0
    await account.dial()
    assert account.shown.state == pb.SESSION_STATE_CONNECTED


# Leaving


async def test_a_lost_connection_is_recorded_and_made_again(account: OneAccount, clock: Clock) -> None:
    await account.connected()
    account.driver.link.end(End.LOST, "reset by peer")
    assert state(account) == (pb.SESSION_STATE_BACKOFF, pb.SESSION_CAUSE_CONNECTION_LOST)
    [row] = account.stored(Disconnect)
    assert (row.cause, row.detail, row.node) == (
        pb.SESSION_CAUSE_CONNECTION_LOST,
        "reset by peer",
        "node-1",
    )
    assert row.connect_time is not None
    assert row.connect_time <= row.disconnect_time
    await clock.skip(LONGEST_FIRST_DELAY)
    await account.dial()
    assert account.shown.state == pb.SESSION_STATE_CONNECTED
    assert account.shown.counters.connects == 2


async def test_a_replaced_connection_stays_away_until_somebody_decides(
    account: OneAccount, clock: Clock
) -> None:
    await account.connected()
    account.driver.link.end(End.REPLACED)
    assert state(account) == (pb.SESSION_STATE_CONFLICT, pb.SESSION_CAUSE_REPLACED)
    assert account.shown.paired
    await clock.skip(HOUR)
    assert account.host.admitted == []
    account.session.connect()
    await account.dial()
    assert account.shown.state == pb.SESSION_STATE_CONNECTED


@pytest.mark.parametrize(
    ("end", "to", "cause"),
    [
        (End.LOGGED_OUT, pb.SESSION_STATE_LOGGED_OUT, pb.SESSION_CAUSE_LOGGED_OUT),
        (End.BANNED, pb.SESSION_STATE_BANNED, pb.SESSION_CAUSE_BANNED),
    ],
)
async def test_a_pairing_that_the_network_ends_is_over(
    account: OneAccount, end: End, to: int, cause: int
) -> None:
    await account.connected()
    account.driver.link.end(end)
    assert state(account) == (to, cause)
    assert causes(account) == [cause]
    with pytest.raises(FailedPrecondition):
        account.session.connect()


async def test_a_disconnected_account_stays_away(account: OneAccount, clock: Clock) -> None:
    await account.connected()
    account.session.disconnect("for the night")
    assert state(account) == (pb.SESSION_STATE_PAUSED, pb.SESSION_CAUSE_REQUESTED)
    assert account.driver.link.aborted
    await clock.skip(HOUR)
    assert account.host.admitted == []


async def test_who_disconnects_while_the_account_waits_to_connect_again_ends_the_waiting(
    account: OneAccount, clock: Clock
) -> None:
    await account.connected()
    account.driver.link.end()
    account.session.disconnect()
    await clock.skip(HOUR)
    assert account.shown.state == pb.SESSION_STATE_PAUSED
    assert account.host.admitted == []


async def test_a_logout_is_told_to_the_network_before_its_connection_is_closed(
    account: OneAccount, clock: Clock
) -> None:
    await account.connected()
    account.session.log_out()
    assert account.driver.link.logging_out
    assert not account.driver.link.aborted
    assert state(account) == (pb.SESSION_STATE_LOGGED_OUT, pb.SESSION_CAUSE_REQUESTED)
    await clock.skip(3)
    assert account.driver.link.aborted


async def test_a_network_that_says_nothing_is_taken_for_lost(account: OneAccount, clock: Clock) -> None:
    await account.connected()
    account.tick()
    assert account.driver.link.pings == 1
    await clock.skip(26)
    account.tick()
    assert state(account) == (pb.SESSION_STATE_BACKOFF, pb.SESSION_CAUSE_KEEPALIVE_TIMED_OUT)
    assert account.driver.link.aborted


async def test_a_driver_that_fails_does_not_leave_its_account_connecting_for_ever(
    account: OneAccount, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(account.driver, "connect", AsyncMock(side_effect=UnicodeError("label too long")))
        account.load(pb.SESSION_STATE_CONNECTED)
        await account.dial()
    assert state(account) == (pb.SESSION_STATE_BACKOFF, pb.SESSION_CAUSE_CONNECT_FAILED)
    await clock.skip(LONGEST_FIRST_DELAY)
    await account.dial()
    assert account.shown.state == pb.SESSION_STATE_CONNECTED


# Turns


async def test_only_an_account_that_somebody_asks_for_dials_before_others(account: OneAccount) -> None:
    account.load(pb.SESSION_STATE_CONNECTED)
    assert (len(account.host.admitted), account.host.asked) == (1, [])
    account.session.connect()
    assert account.host.asked == [account.session.connector]


async def test_an_account_that_is_asked_for_while_it_dials_does_not_dial_twice(account: OneAccount) -> None:
    account.driver.hold_logins = True
    account.load(pb.SESSION_STATE_CONNECTED)
    await account.dial()
    account.session.connect()
    await account.dial()
    assert len(account.driver.links) == 1
    account.driver.link.log_in()
    await account.settle()
    assert account.shown.state == pb.SESSION_STATE_CONNECTED


# Dials that come too late


async def test_a_login_is_given_up_when_the_account_leaves(account: OneAccount) -> None:
    account.driver.hold_logins = True
    account.load(pb.SESSION_STATE_CONNECTED)
    await account.dial()
    account.session.close()
    await account.settle()
    assert account.driver.link.aborted


async def test_a_login_is_given_up_when_somebody_disconnects(account: OneAccount) -> None:
    account.driver.hold_logins = True
    account.load(pb.SESSION_STATE_CONNECTED)
    await account.dial()
    account.session.disconnect()
    await account.settle()
    assert account.driver.link.aborted
    assert account.shown.state == pb.SESSION_STATE_PAUSED


async def test_a_turn_that_comes_after_somebody_disconnected_is_not_used(account: OneAccount) -> None:
    account.load(pb.SESSION_STATE_CONNECTED)
    account.session.disconnect()
    await account.dial()
    assert account.driver.links == []


async def test_a_connection_that_ends_right_after_its_login_counts_as_failed(account: OneAccount) -> None:
    account.driver.hold_logins = True
    account.load(pb.SESSION_STATE_CONNECTED)
    await account.dial()
    account.driver.link.log_in()
    account.driver.link.end(End.LOST, "at once")
    await account.settle()
    assert state(account) == (pb.SESSION_STATE_BACKOFF, pb.SESSION_CAUSE_CONNECT_FAILED)


async def test_the_end_of_a_former_connection_does_not_end_the_present_one(account: OneAccount) -> None:
    await account.connected()
    former = account.driver.link
    account.session.disconnect()
    account.session.connect()
    await account.dial()
    former.end()
    assert account.shown.state == pb.SESSION_STATE_CONNECTED


# What the account's row asks for


async def test_an_account_that_is_to_be_offline_leaves_and_comes_back(account: OneAccount) -> None:
    await account.connected()
    account.session.refresh(replace(account.account, online=False))
    assert account.shown.state == pb.SESSION_STATE_PAUSED
    account.session.refresh(account.account)
    await account.dial()
    assert account.shown.state == pb.SESSION_STATE_CONNECTED


async def test_an_account_that_somebody_disconnected_stays_so_when_its_row_is_read_again(
    account: OneAccount,
) -> None:
    await account.connected()
    account.session.disconnect()
    account.session.refresh(replace(account.account, labels={"a": "b"}))
    await account.dial()
    assert account.shown.state == pb.SESSION_STATE_PAUSED


async def test_a_deleted_account_leaves_the_network(account: OneAccount) -> None:
    await account.connected()
    account.session.refresh(replace(account.account, deleted=True))
    assert account.shown.state == pb.SESSION_STATE_PAUSED
    assert account.driver.link.aborted


async def test_an_account_that_is_to_be_offline_does_not_come_up_here(account: OneAccount) -> None:
    account.account = replace(account.account, online=False)
    account.load(pb.SESSION_STATE_CONNECTED)
    await account.dial()
    assert account.shown.state == pb.SESSION_STATE_PAUSED
    assert account.driver.links == []
