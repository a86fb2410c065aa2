"""Page tokens and sizes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh_core.errors import InvalidArgument, InvalidField
from mesh_core.paging import Page, Pager, listing
from sessionmesh.v1 import account_pb2

PAGER = Pager(b"a key")


@given(after=st.binary(max_size=64), filters=st.binary(max_size=64), size=st.integers(1, 1000))
def test_a_token_leads_to_the_position_it_was_made_for(after: bytes, filters: bytes, size: int) -> None:
    assert PAGER.parse(size, PAGER.token(after, filters), filters) == Page(size, after)


def test_the_first_page_has_fifty_rows_and_no_position() -> None:
    assert PAGER.parse(0, "", b"") == Page(50, None)


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


def test_without_a_key_anybody_could_make_tokens_so_there_is_no_pager() -> None:
    with pytest.raises(ValueError, match="empty key"):
        Pager(b"")


def test_a_listing_is_its_filters_and_scope_but_not_its_page() -> None:
    def request(**fields: Any) -> account_pb2.ListAccountsRequest:
        return account_pb2.ListAccountsRequest(labels={"a": "1", "b": "2"}, **fields)

    plain = listing(request(), b"tenant")
    assert listing(request(page_size=7, page_token="x"), b"tenant") == plain
    assert listing(request(), b"other") != plain
    assert listing(request(external_id="x"), b"tenant") != plain
