"""Cursors as bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh_core.errors import InvalidField
from mesh_core.events.cursor import LAST_SEQ, Cursor

cursors = st.builds(Cursor, st.integers(0, 2**32 - 1), st.integers(0, 2**63 - 1), st.integers(0, LAST_SEQ))


@given(cursors)
def test_a_cursor_survives_its_bytes(cursor: Cursor) -> None:
    assert Cursor.decode(cursor.encode()) == cursor


@given(cursors, cursors)
def test_bytes_have_the_order_of_their_cursors(one: Cursor, other: Cursor) -> None:
    assert (one < other) == (one.encode() < other.encode())


@given(st.binary(max_size=40))
def test_any_bytes_are_a_cursor_or_refused(data: bytes) -> None:
    try:
        cursor = Cursor.decode(data, "start")
    except InvalidField:
        return
    assert cursor.encode() == data


def test_another_version_is_refused() -> None:
    data = Cursor(1, 2, 3).encode()
    with pytest.raises(InvalidField) as refusal:
        Cursor.decode(b"\x02" + data[1:], "start_cursor")
    assert refusal.value.field == "start_cursor"
