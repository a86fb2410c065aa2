"""Cursors as text."""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh_core.errors import InvalidField
from mesh_core.events.cursor import LAST_SEQ, Cursor

cursors = st.builds(Cursor, st.integers(0, 2**32 - 1), st.integers(0, 2**63 - 1), st.integers(0, LAST_SEQ))


@given(cursors)
def test_a_cursor_survives_its_text(cursor: Cursor) -> None:
    assert Cursor.decode(cursor.encode()) == cursor


@given(cursors)
def test_the_text_may_stand_in_a_url_as_it_is(cursor: Cursor) -> None:
    assert re.fullmatch("[A-Za-z0-9_-]{23}", cursor.encode())


@given(
    st.one_of(st.text(max_size=40), st.binary(max_size=20).map(lambda raw: urlsafe_b64encode(raw).decode()))
)
def test_any_text_is_a_cursor_or_refused(text: str) -> None:
    try:
        cursor = Cursor.decode(text, "start")
    except InvalidField:
        return
    assert cursor.encode() == text


def test_another_version_is_refused() -> None:
    form = urlsafe_b64decode(Cursor(1, 2, 3).encode() + "=")
    with pytest.raises(InvalidField) as refusal:
        Cursor.decode(urlsafe_b64encode(b"\x02" + form[1:]).decode().rstrip("="), "start_cursor")
    assert refusal.value.field == "start_cursor"


@pytest.mark.parametrize("change", ["{}=", " {}", "{}\n", "{}AAAA", "é{}"])
def test_a_text_that_only_decodes_to_a_cursor_is_refused(change: str) -> None:
    with pytest.raises(InvalidField):
        Cursor.decode(change.format(Cursor(1, 2, 3).encode()))
