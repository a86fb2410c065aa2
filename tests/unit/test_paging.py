"""Page tokens and sizes."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from asyncpg.pgproto.pgproto import UUID
from hypothesis import given
from hypothesis import strategies as st

from mesh_core import slices
from mesh_core.errors import InvalidArgument, InvalidField
from mesh_core.paging import MAX_BYTES, PAGES_AT_ONCE, Page, Pager, listing
from sessionmesh.v1 import message_pb2
from tests.support.eventually import eventually

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


# --- in pieces


class Listing:
    """Rows that are read as a store reads them."""

    def __init__(self, count: int, size: int = 10) -> None:
        self.rows = rows(count, size)
        self.asked: list[int] = []

    async def read(self, after: UUID | None, limit: int) -> list[dict[str, Any]]:
        self.asked.append(limit)
        begin = 0 if after is None else after.int + 1
        return self.rows[begin : begin + limit]


async def answered(listing: Listing, page: Page, pager: Pager = PAGER) -> message_pb2.ListMessagesResponse:
    raw = await pager.answer(page, None, listing.read, message, message_pb2.ListMessagesResponse)
    return message_pb2.ListMessagesResponse.FromString(raw)


@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 250, 251, 252])
async def test_a_page_that_is_read_in_pieces_is_the_one_that_is_cut(count: int) -> None:
    page = PAGER.parse(250, "", b"")
    shown, token = page.cut(rows(min(count, page.fetch)), message)
    answer = await answered(Listing(count), page)
    assert list(answer.messages) == shown
    assert answer.next_page_token == token


async def test_no_more_rows_are_read_than_the_page_shows_and_a_piece_at_a_time() -> None:
    listing = Listing(1000)
    await answered(listing, PAGER.parse(250, "", b""))
    assert listing.asked == [100, 100, 51]
    large = Listing(1000, MAX_BYTES // 50)
    answer = await answered(large, PAGER.parse(1000, "", b""))
    assert large.asked == [100], "what is behind the page's bytes is not read"
    assert answer.ByteSize() <= MAX_BYTES
    assert after(answer.next_page_token) == identity(len(answer.messages) - 1)


async def test_a_page_in_pieces_goes_on_behind_the_one_before() -> None:
    listing = Listing(130)
    first = await answered(listing, PAGER.parse(120, "", b""))
    rest = await answered(listing, PAGER.parse(120, first.next_page_token, b""))
    assert len(rest.messages) == 10
    assert rest.next_page_token == ""


async def test_few_pages_are_made_at_a_time_and_one_tenant_leaves_places() -> None:
    pager, page = Pager(b"a key"), PAGER.parse(1, "", b"")
    reading: list[UUID] = []

    async def stuck(tenant: UUID) -> None:
        async def read(_after: UUID | None, _limit: int) -> list[dict[str, Any]]:
            reading.append(tenant)
            return await asyncio.Future()

        await pager.answer(page, tenant, read, message, message_pb2.ListMessagesResponse)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(stuck(identity(1)), name="page") for _ in range(2 * PAGES_AT_ONCE)]
        await eventually(lambda: len(reading) == PAGES_AT_ONCE // 2)
        tasks.append(group.create_task(stuck(identity(2)), name="page"))
        await eventually(lambda: reading[-1] == identity(2))
        assert len(reading) == PAGES_AT_ONCE // 2 + 1
        for task in tasks:
            task.cancel()


async def test_pages_in_the_making_let_others_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "SLICE_SECONDS", 0.0)
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    running = asyncio.create_task(others(), name="others")
    await answered(Listing(100), PAGER.parse(100, "", b""))
    running.cancel()
    assert turns >= 50
