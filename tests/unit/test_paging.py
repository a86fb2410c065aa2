"""Page tokens and sizes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from asyncpg.pgproto.pgproto import UUID
from hypothesis import given
from hypothesis import strategies as st

from mesh_core.errors import InvalidArgument, InvalidField
from mesh_core.paging import MAX_BYTES, Pager, listing
from sessionmesh.v1 import message_pb2

PAGER = Pager(b"a key")


@given(after=st.binary(max_size=64), filters=st.binary(max_size=64), size=st.integers(1, 1000))
def test_a_token_leads_to_the_position_it_was_made_for(after: bytes, filters: bytes, size: int) -> None:
    page = PAGER.parse(size, PAGER.token(after, filters), filters)
    assert (page.limit, page.after) == (size, after)


def test_the_first_page_has_fifty_rows_and_no_position() -> None:
    page = PAGER.parse(0, "", b"")
    assert (page.limit, page.after, page.after_id, page.fetch) == (50, None, None, 51)


@pytest.mark.parametrize("size", [-1, 1001])
def test_sizes_outside_the_limit_are_refused(size: int) -> None:
    with pytest.raises(InvalidField) as raised:
        PAGER.parse(size, "", b"")
    assert raised.value.field == "page_size"


@given(filters=st.binary(max_size=32), others=st.binary(max_size=32), after=st.binary(max_size=32))
def test_a_token_of_other_filters_is_refused(filters: bytes, others: bytes, after: bytes) -> None:
    if filters == others:
        return
    with pytest.raises(InvalidArgument) as raised:
        PAGER.parse(0, PAGER.token(after, filters), others)
    assert raised.value.reason == "INVALID_PAGE_TOKEN"


@given(st.text(min_size=1, max_size=60))
def test_what_is_no_token_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        PAGER.parse(0, text, b"")
    assert raised.value.reason == "INVALID_PAGE_TOKEN"


def test_a_token_of_another_cluster_is_refused() -> None:
    with pytest.raises(InvalidArgument):
        PAGER.parse(0, Pager(b"another key").token(b"after", b""), b"")


def test_a_listing_is_its_filters_and_scope_but_not_its_page() -> None:
    def request(**fields: Any) -> message_pb2.ListMessagesRequest:
        return message_pb2.ListMessagesRequest(labels={"a": "1", "b": "2"}, **fields)

    plain = listing(request(), b"tenant")
    assert listing(request(page_size=7, page_token="x"), b"tenant") == plain
    assert listing(request(), b"other") != plain
    assert listing(request(external_id="x"), b"tenant") != plain


def test_a_request_asks_for_a_page_of_its_own_listing() -> None:
    first = PAGER.page(message_pb2.ListMessagesRequest(external_id="x", page_size=2), b"tenant")
    _, token = first.cut(rows(3), message)
    request = message_pb2.ListMessagesRequest(external_id="x", page_size=2, page_token=token)
    second = PAGER.page(request, b"tenant")
    assert (second.limit, second.after_id) == (2, identity(1))
    with pytest.raises(InvalidArgument, match="another listing"):
        PAGER.page(request, b"another tenant")


# --- cutting


def identity(number: int) -> UUID:
    return UUID(number.to_bytes(16, "big"))


def rows(count: int, size: int = 10) -> list[dict[str, Any]]:
    """Rows as the database returns them, each a message of a little over `size` bytes."""
    return [{"id": identity(number), "text": "x" * size} for number in range(count)]


def message(row: dict[str, Any]) -> message_pb2.Message:
    return message_pb2.Message(external_id=row["text"])


def after(token: str) -> UUID | None:
    return PAGER.parse(0, token, b"").after_id


@given(limit=st.integers(1, 60), count=st.integers(0, 60))
def test_a_page_has_as_many_rows_as_were_asked_for_and_a_token_when_there_are_more(
    limit: int, count: int
) -> None:
    page = PAGER.parse(limit, "", b"")
    shown, token = page.cut(rows(min(count, page.fetch)), message)
    assert len(shown) == min(limit, count)
    assert after(token) == (identity(limit - 1) if count > limit else None)


@given(size=st.integers(1, MAX_BYTES), count=st.integers(1, 12))
def test_a_page_is_cut_before_it_outgrows_its_bytes(size: int, count: int) -> None:
    shown, token = PAGER.parse(0, "", b"").cut(rows(count, size), message)
    answer = message_pb2.ListMessagesResponse(messages=shown)
    assert answer.ByteSize() <= MAX_BYTES or len(shown) == 1
    assert (token == "") == (len(shown) == count)
    if token:
        assert after(token) == identity(len(shown) - 1)
        assert answer.ByteSize() + size > MAX_BYTES - 1024  # it is as full as it could be


def test_a_giant_row_is_a_page_of_its_own() -> None:
    small, giant = rows(1)[0], {"id": identity(1), "text": "x" * 2 * MAX_BYTES}
    last = {"id": identity(2), "text": "x"}
    shown, token = PAGER.parse(0, "", b"").cut([small, giant, last], message)
    assert [one.external_id for one in shown] == [small["text"]]
    assert after(token) == identity(0)
    shown, token = PAGER.parse(0, token, b"").cut([giant, last], message)
    assert [one.external_id for one in shown] == [giant["text"]]
    assert after(token) == identity(1)
    shown, token = PAGER.parse(0, token, b"").cut([last], message)
    assert [one.external_id for one in shown] == ["x"]
    assert token == ""


def test_rows_behind_the_cut_are_not_rendered() -> None:
    rendered: list[int] = []

    def render(row: dict[str, Any]) -> message_pb2.Message:
        rendered.append(row["id"].int)
        return message(row)

    PAGER.parse(0, "", b"").cut(rows(10, MAX_BYTES // 2 - 100), render)
    assert rendered == [0, 1, 2]


def test_a_listing_may_have_positions_of_its_own() -> None:
    nodes = [SimpleNamespace(name=name) for name in ("a", "b", "c")]
    page = PAGER.parse(2, "", b"")
    shown, token = page.cut(
        nodes, lambda node: message_pb2.Message(external_id=node.name), lambda node: node.name.encode()
    )
    assert [one.external_id for one in shown] == ["a", "b"]
    assert PAGER.parse(2, token, b"").after == b"b"


def test_without_a_key_anybody_could_make_tokens_so_there_is_no_pager() -> None:
    with pytest.raises(ValueError, match="empty key"):
        Pager(b"")
