"""A batch's columns and outcomes, without a database."""

from __future__ import annotations

from typing import Any, get_args

import msgspec
import pytest
from asyncpg.pgproto.pgproto import UUID
from hypothesis import given
from hypothesis import strategies as st

from mesh_core.ids import new_uuid
from mesh_core.message_status import may_become
from mesh_session_node.journal import (
    COMMITTED,
    REFUSED,
    AccountRef,
    Action,
    ContentUpdate,
    Credential,
    Duplicate,
    Event,
    FetchDone,
    FetchRetry,
    ForgetDriverRows,
    InboundMessage,
    MediaUse,
    Mismatch,
    OutboundMessage,
    Row,
    StatusChange,
)
from mesh_session_node.journal.answer import Answer, outcomes
from mesh_session_node.journal.batch import COLUMNS, Columns, Unit
from mesh_session_node.journal.entries import size_of
from sessionmesh.v1.message_pb2 import MessageStatus

SENT, DELIVERED, READ, FAILED = 30, 40, 50, 102
STATUSES = st.sampled_from([status for status in MessageStatus.values() if status])


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
    sent, delivered = StatusChange(message, SENT, 7, event()), StatusChange(message, DELIVERED, 8, event())
    result = columns((one, [sent]), (one, [event()]), (one, [delivered]))
    assert (result["s_id"], result["s_status"], result["s_sent"]) == ([message], [DELIVERED], [7])
    assert result["e_status"] == [1, None, 1]


@pytest.mark.parametrize("kind", [OutboundMessage, *get_args(Row)])
def test_every_text_and_blob_of_a_row_counts_for_its_size(kind: type[msgspec.Struct]) -> None:
    large, checked = 100_000, 0
    for field in msgspec.structs.fields(kind):
        value: Any = next(
            (value for value in (b"x" * large, "x" * large) if type(value) in _types(field)), None
        )
        if value is None and Event in _types(field):
            value = Event(new_uuid(), "t", b"x" * large)
        if value is None:
            continue
        row = kind(**{name: value if name == field.name else None for name in kind.__struct_fields__})
        what: Any = row if kind is OutboundMessage else [row]
        assert size_of((account(), what)) >= large, field.name
        checked += 1
    assert checked or kind in (FetchDone, FetchRetry, ForgetDriverRows, MediaUse)


def _types(field: msgspec.structs.FieldInfo) -> tuple[Any, ...]:
    return (field.type, *get_args(field.type))


@given(STATUSES, st.lists(STATUSES, min_size=1, max_size=12))
def test_statuses_of_a_batch_end_where_one_after_the_other_would(old: int, steps: list[int]) -> None:
    one, message = account(), new_uuid()
    result = columns((one, [StatusChange(message, step, 0) for step in steps]))
    rounds = result["s_round"] or [None] * len(result["s_id"])
    assert [each or 0 for each in rounds] == list(range(len(rounds)))
    expected = reduced = old
    for step in steps:
        expected = step if may_become(expected, step) else expected
    for step in result["s_status"]:
        reduced = step if may_become(reduced, step) else reduced
    assert reduced == expected


def test_a_change_whose_legality_depends_on_what_is_stored_has_a_round_of_its_own() -> None:
    one, message = account(), new_uuid()
    failed = StatusChange(message, FAILED, 7, event(), failure=1, failure_code=131)
    result = columns((one, [failed]), (one, [StatusChange(message, READ, 8, event())]))
    assert (result["s_status"], result["s_round"]) == ([FAILED, READ], [None, 1])
    assert (result["s_failure"], result["s_code"]) == ([1, None], [131, None])
    assert result["e_status"] == [1, 2]


def test_a_change_that_means_nothing_is_left_out_with_its_event() -> None:
    one, message = account(), new_uuid()
    sent = StatusChange(message, SENT, 7, event())
    result = columns((one, [sent]), (one, [StatusChange(message, SENT, 8, event())]))
    assert (result["s_status"], result["s_sent"], len(result["e_id"])) == ([SENT], [7], 1)


def test_an_edit_keeps_its_time_when_media_become_ready_in_the_same_batch() -> None:
    one, message = account(), new_uuid()
    edited, ready = ContentUpdate(message, b"edited", 7), ContentUpdate(message, b"ready")
    assert columns((one, [edited, ready]))["contents"] == [(1, message, b"ready", 7)]


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


@pytest.mark.parametrize(("again", "become"), [(True, [DELIVERED, None]), (False, [])])
def test_only_an_event_that_may_be_stored_already_has_a_gate_of_its_own(
    again: bool, become: list[int | None]
) -> None:
    message = new_uuid()
    rows = [StatusChange(message, status, 1, event(), again=again) for status in (DELIVERED, READ)]
    result = columns((account(), rows))
    assert result["e_status"] == [1, 1]
    assert result["e_become"] == become
