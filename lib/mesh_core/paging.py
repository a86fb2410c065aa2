"""Pages of a listing: size checks, and opaque tokens that are only good for the listing that made them.

A page ends after as many rows as were asked for, or before the row with which it would outgrow `MAX_BYTES`:

    page = pager.page(request, tenant.bytes)
    rows = await pool.fetch(LIST, tenant, page.after_id, page.fetch)
    accounts, next_page_token = page.cut(rows, account_message)

That holds the event loop for as long as all rows take. Rows that are large, or many, are read and rendered
in pieces instead, between which other calls are served:

    return await pager.answer(page, tenant, read, account_message, ListAccountsResponse)
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from hmac import compare_digest
from typing import Any, TypeVar

from asyncpg.pgproto.pgproto import UUID
from google.protobuf.message import Message
from google.protobuf.wrappers_pb2 import BytesValue

from mesh_core.errors import InvalidField
from mesh_core.shares import Shares
from mesh_core.slices import Slices

DEFAULT_SIZE = 50
MAX_SIZE = 1000
READ_ROWS = 100
"""Rows that are read at a time, which may be larger than what is shown of them."""
PAGES_AT_ONCE = 8
"""Large pages that a process has in the making: each may take `MAX_BYTES` and some."""
MAX_BYTES = 3 * 1024 * 1024
"""How large the rows of one page may be together as messages; gRPC clients take answers up to 4 MiB."""

Row = TypeVar("Row")
Rendered = TypeVar("Rendered", bound=Message)


@dataclass(frozen=True, slots=True)
class Page:
    """What a request asks for: at most `limit` rows behind position `after`, None for the first page.

    A position is whatever the listing is ordered by, as a rule the bytes of the row's id.
    """

    limit: int
    after: bytes | None
    _token: Callable[[bytes], str] = field(repr=False, compare=False)

    @property
    def after_id(self) -> UUID | None:
        """`after`, for a listing in the order of its ids."""
        return None if self.after is None else UUID(self.after)

    @property
    def fetch(self) -> int:
        """How many rows to select: one more than the page holds, to know whether it is the last page."""
        return self.limit + 1

    def cut(
        self,
        rows: Iterable[Row],
        render: Callable[[Row], Rendered],
        position: Callable[[Row], bytes] | None = None,
    ) -> tuple[list[Rendered], str]:
        """The messages of the page, and the token of the next page: empty when `rows` are all shown.

        `rows` are those behind `after`, `fetch` of them or all. At least one is shown, whatever its size.
        `position` tells a row's position; by default it is the row's `"id"`, a UUID.
        """
        shown: list[Rendered] = []
        cut = _Cut(self, position or _id_of)
        for row in rows:
            message = render(row)
            if not cut.takes(row, message.ByteSize()):
                break
            shown.append(message)
        return shown, cut.token

    async def cut_in(
        self,
        slices: Slices,
        tenant: UUID,
        rows: Iterable[Row],
        render: Callable[[Row], Rendered],
        position: Callable[[Row], bytes] | None = None,
    ) -> tuple[list[Rendered], str]:
        """The same in slices of the event loop, which `Pager.working` gives."""
        shown: list[Rendered] = []
        cut = _Cut(self, position or _id_of)
        async for row in slices.each(tenant, rows):
            message = render(row)
            if not cut.takes(row, message.ByteSize()):
                break
            shown.append(message)
        return shown, cut.token


class _Cut:
    """Where a page ends. `token` is of the next page, empty while all rows were taken."""

    __slots__ = ("_last", "_page", "_position", "_rows", "_size", "token")

    def __init__(self, page: Page, position: Callable[[Any], bytes]) -> None:
        self._page = page
        self._position = position
        self._rows = self._size = 0
        self._last: Any = None
        self.token = ""

    def takes(self, row: Any, size: int) -> bool:
        """Whether the page has room for a row of that many bytes; the first one always fits."""
        self._size += size + _FRAMING
        if self._rows and (self._rows == self._page.limit or self._size > MAX_BYTES):
            self.token = self._page._token(self._position(self._last))
            return False
        self._rows += 1
        self._last = row
        return True


class Pager:
    """Makes and checks page tokens, and lets few pages be made at a time.

    `key` must be the same in every process that serves the listing, and a secret; `ValueError` for an empty
    one.
    """

    def __init__(self, key: bytes) -> None:
        if not key:
            raise ValueError("page tokens cannot be signed with an empty key: anybody could make them")
        self._key = blake2b(key, digest_size=32, person=b"page-token").digest()
        self._places = Shares(PAGES_AT_ONCE)
        self._slices = Slices()

    @property
    def slices(self) -> Slices:
        """The slices of the event loop in which this process' pages are made, for pages that wait for more
        than a place of `working`.
        """
        return self._slices

    def page(self, request: Message, scope: bytes = b"") -> Page:
        """The page that `request` asks for with its fields `page_size` and `page_token`.

        `scope` is what the listing depends on beside the request, such as the caller's tenant. Raises like
        `parse`.
        """
        size: int = request.page_size  # type: ignore[attr-defined]  # every list request has these fields
        token: str = request.page_token  # type: ignore[attr-defined]
        return self.parse(size, token, listing(request, scope))

    def parse(self, page_size: int, token: str, filters: bytes) -> Page:
        """The page that a request asks for.

        Raises `InvalidField` for a size outside 0..1,000, and with reason INVALID_PAGE_TOKEN for a
        token that was made for other filters or another order, or not here.
        """
        if not 0 <= page_size <= MAX_SIZE:
            raise InvalidField("page_size", f"must be between 0 (for {DEFAULT_SIZE}) and {MAX_SIZE}")
        limit = page_size or DEFAULT_SIZE
        if not token:
            return Page(limit, None, partial(self.token, filters=filters))
        try:
            raw = urlsafe_b64decode(token + "=" * (-len(token) % 4))
        except ValueError:
            raise _refused() from None
        mac, after = raw[:_MAC_SIZE], raw[_MAC_SIZE:]
        if not compare_digest(mac, self._mac(after, filters)):
            raise _refused()
        return Page(limit, after, partial(self.token, filters=filters))

    @asynccontextmanager
    async def working(self, tenant: UUID | None) -> AsyncIterator[Slices]:
        """Hold one of the `PAGES_AT_ONCE` places for a page, which tenants share; work in the slices."""
        async with self._places.place(tenant or _OPERATOR):
            yield self._slices

    async def answer(
        self,
        page: Page,
        tenant: UUID | None,
        read: Callable[[UUID | None, int], Awaitable[Sequence[Row]]],
        render: Callable[[Row], Message],
        response: Callable[..., Message],
        position: Callable[[Row], bytes] | None = None,
    ) -> bytes:
        """The page as a serialised `response`, whose field 1 are the rows' messages.

        `tenant` is whose call it is, None an operator's. `read` returns so many rows behind an id, and fewer
        when there are no more; `position` tells a row's id, as for `Page.cut`.
        """
        rows, token = await self.rows(page, tenant, read, render, position)
        return rows + response(next_page_token=token).SerializeToString()

    async def rows(
        self,
        page: Page,
        tenant: UUID | None,
        read: Callable[[UUID | None, int], Awaitable[Sequence[Row]]],
        render: Callable[[Row], Message],
        position: Callable[[Row], bytes] | None = None,
    ) -> tuple[bytes, str]:
        """Like `answer`, for a response with more than rows and token: these two."""
        place = position or _id_of
        shown: list[bytes] = []
        cut = _Cut(page, place)
        after, left = page.after_id, page.fetch
        async with self.working(tenant) as slices:
            while left and not cut.token:
                rows = await read(after, asked := min(left, READ_ROWS))
                async for row in slices.each(tenant or _OPERATOR, rows):
                    message = render(row).SerializeToString()
                    if not cut.takes(row, len(message)):
                        break
                    shown.append(BytesValue(value=message).SerializeToString())  # a message as field 1
                if len(rows) < asked:
                    break
                after, left = UUID(place(rows[-1])), left - asked
        return b"".join(shown), cut.token

    def token(self, after: bytes, filters: bytes) -> str:
        """The token of the page behind position `after` of the listing with `filters`."""
        return urlsafe_b64encode(self._mac(after, filters) + after).rstrip(b"=").decode()

    def _mac(self, after: bytes, filters: bytes) -> bytes:
        message = len(after).to_bytes(4, "big") + after + filters
        return blake2b(message, digest_size=_MAC_SIZE, key=self._key).digest()


def listing(request: Message, scope: bytes = b"") -> bytes:
    """What a token of `request` is bound to: type, filters, order, and `scope`, such as the tenant."""
    filters = type(request)()
    filters.CopyFrom(request)
    filters.ClearField("page_size")
    filters.ClearField("page_token")
    name = request.DESCRIPTOR.full_name.encode()
    return b"\0".join([name, scope, filters.SerializeToString(deterministic=True)])


def _id_of(row: Any) -> bytes:
    position: bytes = row["id"].bytes
    return position


def _refused() -> InvalidField:
    return InvalidField(
        "page_token", "was made for another listing; begin again without it", "INVALID_PAGE_TOKEN"
    )


_OPERATOR = UUID(bytes(16))
_MAC_SIZE = 16
_FRAMING = 6  # a repeated message's tag and length, in bytes
