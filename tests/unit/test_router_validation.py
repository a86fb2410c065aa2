"""Checks of request fields."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from mesh_core import validation
from mesh_core.errors import Aborted, InvalidField

WEEK = timedelta(days=7)


@pytest.mark.parametrize(
    ("check", "field"),
    [
        (lambda: validation.required_text("name", ""), "name"),
        (lambda: validation.required_text("name", "x" * 129), "name"),
        (lambda: validation.text("name", "a\0b"), "name"),
        (lambda: validation.request_id(""), "request_id"),
        (lambda: validation.request_id("x" * 65), "request_id"),
        (lambda: validation.labels("labels", {str(n): "" for n in range(33)}), "labels"),
        (lambda: validation.labels("labels", {"": "x"}), "labels"),
        (lambda: validation.labels("labels", {"k" * 64: "x"}), "labels"),
        (lambda: validation.labels("labels", {"k": "x" * 256}), "labels[k]"),
        (lambda: validation.phone("phone", "004915112345678"), "phone"),
        (lambda: validation.phone("phone", "+0915112345678"), "phone"),
        (lambda: validation.phone("phone", "+49 151"), "phone"),
        (lambda: validation.phone("phone", "+4915112345678\n"), "phone"),
        (lambda: validation.at_least("count", -1, 0), "count"),
        (lambda: validation.choice("state", 9, (0, 1), "A, B"), "state"),
        (lambda: validation.duration("d", Duration(seconds=8 * 86400), least=timedelta(0), most=WEEK), "d"),
        (lambda: validation.duration("d", Duration(seconds=-1), least=timedelta(0), most=WEEK), "d"),
        (lambda: validation.duration("d", Duration(seconds=2**62), least=timedelta(0), most=WEEK), "d"),
        (lambda: validation.timestamp("t", Timestamp(seconds=2**40)), "t"),
        (lambda: validation.timestamp("t", Timestamp(nanos=-1)), "t"),
        (lambda: validation.field_mask(FieldMask(), ["a"]), "update_mask"),
        (lambda: validation.field_mask(FieldMask(paths=["b"]), ["a"]), "update_mask"),
    ],
)
def test_a_bad_value_is_refused_naming_its_field(check: Callable[[], object], field: str) -> None:
    with pytest.raises(InvalidField) as raised:
        check()
    assert raised.value.field == field


@given(st.datetimes(min_value=datetime(1, 1, 1), max_value=datetime(9999, 12, 31)))  # noqa: DTZ001 - naive on purpose
def test_times_go_to_protos_and_back(moment: datetime) -> None:
    utc = moment.replace(tzinfo=UTC)
    assert validation.timestamp("t", validation.to_timestamp(utc)) == utc


@pytest.mark.parametrize("infinite", [datetime.max, datetime.min])  # noqa: DTZ901 - as asyncpg has them
def test_infinite_times_are_the_first_and_the_last(infinite: datetime) -> None:
    sent = validation.to_timestamp(infinite)
    assert validation.timestamp("t", sent) == infinite.replace(tzinfo=UTC)


@given(st.timedeltas(min_value=timedelta(0), max_value=WEEK))
def test_durations_go_to_protos_and_back(span: timedelta) -> None:
    proto = validation.to_duration(span)
    assert validation.duration("d", proto, least=timedelta(0), most=WEEK) == span


def test_a_mask_gives_its_paths_and_a_star_all_of_them() -> None:
    assert validation.field_mask(FieldMask(paths=["a", "a"]), ["a", "b"]) == {"a"}
    assert validation.field_mask(FieldMask(paths=["*"]), ["a", "b"]) == {"a", "b"}


def test_numbers_in_e164_are_taken() -> None:
    assert validation.phone("phone", "+4915112345678") == "+4915112345678"


def test_an_etag_is_good_for_its_version_only_and_may_be_left_out() -> None:
    validation.check_etag("", 7)
    validation.check_etag(validation.etag(7), 7)
    with pytest.raises(Aborted) as raised:
        validation.check_etag(validation.etag(6), 7)
    assert raised.value.reason == "ETAG_MISMATCH"
