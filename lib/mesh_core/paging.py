"""Pages of a listing: size checks, and opaque tokens that are only good for the listing that made them.

A handler calls `parse`, selects `page.limit + 1` rows after `page.after`, and, where there was one row more,
answers with `token` of the last row it returns:

    filters = listing(request, tenant.bytes)
    page = pager.parse(request.page_size, request.page_token, filters)
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from hashlib import blake2b
from hmac import compare_digest

from google.protobuf.message import Message

from mesh_core.errors import InvalidArgument, InvalidField

DEFAULT_SIZE = 50
MAX_SIZE = 1000


@dataclass(frozen=True, slots=True)
class Page:
    """What to select: at most `limit` rows behind position `after`, which is None for the first page."""

    limit: int
    after: bytes | None


class Pager:
    """Makes and checks page tokens.

    `key` must be the same in every process that serves the listing, and a secret; `ValueError` for an empty
    one.
    """

    def __init__(self, key: bytes) -> None:
        if not key:
            raise ValueError("page tokens cannot be signed with an empty key: anybody could make them")
        self._key = blake2b(key, digest_size=32, person=b"page-token").digest()

    def parse(self, page_size: int, token: str, filters: bytes) -> Page:
        """The page that a request asks for.

        Raises `InvalidField` for a size outside 0..1,000, and `InvalidArgument` INVALID_PAGE_TOKEN for a
        token that was made for other filters or another order, or not here.
        """
        if not 0 <= page_size <= MAX_SIZE:
            raise InvalidField("page_size", f"must be between 0 (for {DEFAULT_SIZE}) and {MAX_SIZE}")
        limit = page_size or DEFAULT_SIZE
        if not token:
            return Page(limit, None)
        try:
            raw = urlsafe_b64decode(token + "=" * (-len(token) % 4))
        except ValueError:
            raise _refused() from None
        mac, after = raw[:_MAC_SIZE], raw[_MAC_SIZE:]
        if not compare_digest(mac, self._mac(after, filters)):
            raise _refused()
        return Page(limit, after)

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


def _refused() -> InvalidArgument:
    return InvalidArgument(
        "page_token: was made for another listing; begin again without it", "INVALID_PAGE_TOKEN"
    )


_MAC_SIZE = 16
