"""A batch's columns and outcomes, without a database."""

from __future__ import annotations

from typing import Any

from asyncpg.pgproto.pgproto import UUID
from hypothesis import given
from hypothesis import strategies as st

from mesh_core.ids import new_uuid
from mesh_core.journal import (
    COMMITTED,
    REFUSED,
    AccountRef,
    Action,
    Credential,
    Duplicate,
    Event,
    InboundMessage,
    Mismatch,
    OutboundMessage,
    StatusChange,
    may_become,
)
from mesh_core.journal.batch import ARGUMENTS, Answer, Columns, Unit, outcomes

STATUSES = st.sampled_from([2, 3, 4, 5, 6, 10, 11, 12, 13])
ACCOUNT, MESSAGE_ACCOUNT, NETWORK, DUE = 2, 4, 14, 17
STATUS_ID, STATUS, SENT_TIME, EVENT_ACCOUNT, EVENT_STATUS, STATE_ACCOUNT, STATE = 19, 20, 22, 26, 30, 31, 32


def account() -> AccountRef:
    return AccountRef(new_uuid(), new_uuid(), 1, 1)


def outbound(**fields: Any) -> OutboundMessage:
    return OutboundMessage(new_uuid(), "r", b"d", "chat", b"content", event(), **fields)


def event() -> Event:
    return Event(new_uuid(), "t", b"")


def columns(*units: Unit) -> list[list[Any]]:
    arguments = Columns(units).arguments()
    assert len(arguments) == ARGUMENTS
    return arguments


def test_an_account_stands_once_in_a_batch_and_rows_point_at_it() -> None:
    one, other = account(), account()
    result = columns((one, outbound()), (other, outbound()), (one, outbound()), (one, [event()]))
    assert result[ACCOUNT] == [one.uuid, other.uuid]
    assert result[MESSAGE_ACCOUNT] == [1, 2, 1]
    assert result[EVENT_ACCOUNT] == [1]


def test_columns_that_nobody_uses_are_empty() -> None:
    result = columns((account(), outbound()), (account(), outbound()))
    assert result[NETWORK] == result[DUE] == []
    result = columns((account(), outbound()), (account(), outbound(network_id="n", due_at=0)))
    assert (result[NETWORK], result[DUE]) == ([None, "n"], [None, 0])


def test_the_last_state_of_an_account_is_saved() -> None:
    one = account()
    result = columns((one, outbound(state=b"1")), (one, [Credential(b"2")]), (one, outbound(state=b"3")))
    assert (result[STATE_ACCOUNT], result[STATE]) == ([1], [b"3"])


def test_sent_and_delivered_become_one_status_that_keeps_the_time_of_sent() -> None:
    one, message = account(), new_uuid()
    sent, delivered = StatusChange(message, 3, 7, event()), StatusChange(message, 4, 8, event())
    result = columns((one, [sent]), (one, [event()]), (one, [delivered]))
    assert (result[STATUS_ID], result[STATUS], result[SENT_TIME]) == ([message], [4], [7])
    assert result[EVENT_STATUS] == [1, None, 1]


@given(st.lists(STATUSES, min_size=1))
def test_statuses_of_a_batch_end_where_one_after_the_other_would(steps: list[int]) -> None:
    one, message = account(), new_uuid()
    [status] = columns((one, [StatusChange(message, step, 0) for step in steps]))[STATUS]
    expected = steps[0]
    for step in steps[1:]:
        expected = step if may_become(expected, step) else expected
    assert status == expected


@given(STATUSES)
def test_no_status_becomes_itself_or_queued_again(status: int) -> None:
    assert not may_become(status, status)
    assert not may_become(status, 1)


def test_each_unit_gets_the_outcome_of_its_own_row() -> None:
    one, lost = account(), account()
    first = new_uuid()
    inbound = InboundMessage(new_uuid(), "n", "chat", b"", event())
    action = Action(6, "r", b"d", new_uuid())
    units: list[Unit] = [
        (one, outbound()),
        (lost, outbound()),
        (one, outbound()),
        (one, [event(), inbound]),
        (one, [action]),
        (one, [action, inbound]),
    ]
    answer = Answer(
        refused=frozenset({2}),
        message={3: (str(first), True)},
        action={1: (str(first), False)},
        repeat={2: str(first)},
    )
    assert outcomes(units, answer) == [
        COMMITTED,
        REFUSED,
        Duplicate(UUID(str(first))),
        COMMITTED,
        Mismatch(UUID(str(first))),
        Duplicate(UUID(str(first))),
    ]
