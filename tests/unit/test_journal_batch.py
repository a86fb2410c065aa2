"""A batch's columns and outcomes, without a database."""

from __future__ import annotations

from typing import Any

from asyncpg.pgproto.pgproto import UUID
from hypothesis import given
from hypothesis import strategies as st

from mesh_core.ids import new_uuid
from mesh_session_node.journal import (
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
from mesh_session_node.journal.batch import COLUMNS, Answer, Columns, Unit, outcomes

STATUSES = st.sampled_from([2, 3, 4, 5, 6, 10, 11, 12, 13])


def account() -> AccountRef:
    return AccountRef(new_uuid(), new_uuid(), 1, 1)


def outbound(**fields: Any) -> OutboundMessage:
    return OutboundMessage(new_uuid(), "r", b"d", "chat", b"content", event(), **fields)


def event() -> Event:
    return Event(new_uuid(), "t", b"")


def columns(*units: Unit) -> dict[str, list[Any]]:
    return {column.name: values for column, values in zip(COLUMNS, Columns(units).arguments(), strict=True)}


def test_an_account_stands_once_in_a_batch_and_rows_point_at_it() -> None:
    one, other = account(), account()
    result = columns((one, outbound()), (other, outbound()), (one, outbound()), (one, [event()]))
    assert result["a_account"] == [one.uuid, other.uuid]
    assert result["m_acc"] == [1, 2, 1]
    assert result["e_acc"] == [1]


def test_columns_that_nobody_uses_are_empty() -> None:
    result = columns((account(), outbound()), (account(), outbound()))
    assert result["m_network"] == result["m_due"] == []
    result = columns((account(), outbound()), (account(), outbound(network_id="n", due_at=0)))
    assert (result["m_network"], result["m_due"]) == ([None, "n"], [None, 0])


def test_the_last_state_of_an_account_is_saved() -> None:
    one = account()
    result = columns((one, outbound(state=b"1")), (one, [Credential(b"2")]), (one, outbound(state=b"3")))
    assert (result["c_acc"], result["c_blob"]) == ([1], [b"3"])


def test_sent_and_delivered_become_one_status_that_keeps_the_time_of_sent() -> None:
    one, message = account(), new_uuid()
    sent, delivered = StatusChange(message, 3, 7, event()), StatusChange(message, 4, 8, event())
    result = columns((one, [sent]), (one, [event()]), (one, [delivered]))
    assert (result["s_id"], result["s_status"], result["s_sent"]) == ([message], [4], [7])
    assert result["e_status"] == [1, None, 1]


@given(st.lists(STATUSES, min_size=1))
def test_statuses_of_a_batch_end_where_one_after_the_other_would(steps: list[int]) -> None:
    one, message = account(), new_uuid()
    [status] = columns((one, [StatusChange(message, step, 0) for step in steps]))["s_status"]
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
