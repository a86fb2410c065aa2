"""Files of the web: read under the rules for all that the mesh asks for a caller."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Self

import aiohttp
from yarl import URL

from mesh_core.egress import (
    MAX_URL_LENGTH,
    AddressForbidden,
    AnswerHandler,
    CheckedResolver,
    check_url,
    connector,
)
from mesh_core.errors import FailedPrecondition, InvalidField
from mesh_media.ingest.file_names import name_of_answer
from mesh_media.processing.spool import LEAST_RATE, MAX_CHUNK, PIECE_SECONDS, START_SECONDS
from sessionmesh.v1 import media_pb2

MAX_REDIRECTS = 3


class NotFetched(Exception):
    """A file cannot be had from its address; `final`: nor later."""

    def __init__(self, failure: media_pb2.MediaFailure.ValueType, *, final: bool) -> None:
        super().__init__(media_pb2.MediaFailure.Name(failure))
        self.failure = failure
        self.final = final


@dataclass(frozen=True, slots=True)
class WebFile:
    """A file that an address gives. `size` None: it does not say; "" for a name that it does not say either;
    `pieces` raise `NotFetched`.
    """

    size: int | None
    mime_type: str
    name: str
    pieces: AsyncIterator[bytes]


class Web:
    """An HTTP client for files; use it with `async with`."""

    def __init__(self, *, max_bytes: int, allow_http: bool, allow_private_addresses: bool) -> None:
        self._max_bytes = max_bytes
        self._allow_http = allow_http
        self._resolver = CheckedResolver(allow_private=allow_private_addresses)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        class Handler(AnswerHandler):
            """What a chunked body needs besides its bytes is at most as much."""

            max_bytes = 2 * self._max_bytes + AnswerHandler.max_bytes

        self._session = aiohttp.ClientSession(
            connector=connector(self._resolver, keepalive_seconds=0, handler=Handler),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=None),
            headers={"user-agent": "Sessionmesh-Fetch/1", "accept-encoding": "identity"},
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()
        await self._resolver.close()

    async def check(self, field: str, url: str) -> str:
        """An address that may be fetched, spelled as browsers do: with what is not ASCII encoded. Raises
        `InvalidField`, `FailedPrecondition` ADDRESS_FORBIDDEN.
        """
        if not _is_encoded(url) and len(url) <= MAX_URL_LENGTH:
            try:
                url = str(URL(url))
            except ValueError as error:
                raise InvalidField(field, f"is not a URL: {error}") from None
        return await check_url(field, url, self._resolver, allow_http=self._allow_http)

    @asynccontextmanager
    async def open(self, address: str, headers: Mapping[str, str]) -> AsyncIterator[WebFile]:
        """The file that `address` gives, after at most `MAX_REDIRECTS` redirects; it can be read until the
        block ends. A redirect to another host is followed without the `headers`. Raises `NotFetched`.
        """
        end = asyncio.get_running_loop().time() + START_SECONDS
        answer = await self._answer(address, headers, end)
        try:
            size = answer.content_length
            if size is not None and size > self._max_bytes:
                raise NotFetched(media_pb2.MEDIA_FAILURE_TOO_LARGE, final=True)
            end += (self._max_bytes if size is None else size) / LEAST_RATE
            name = name_of_answer(answer.headers.get("content-disposition", ""), answer.url)
            yield WebFile(size, answer.headers.get("content-type", ""), name, _pieces(answer, end))
        finally:
            answer.close()

    async def _answer(self, address: str, headers: Mapping[str, str], end: float) -> aiohttp.ClientResponse:
        assert self._session is not None  # noqa: S101 - entered
        url = _as_given(address)
        try:
            async with asyncio.timeout_at(end):
                for _ in range(MAX_REDIRECTS + 1):
                    await self.check("url", str(url))
                    answer = await self._session.get(url, headers=headers, allow_redirects=False)
                    if answer.status in _REDIRECTS and "location" in answer.headers:
                        answer.close()
                        following = url.join(_as_given(answer.headers["location"])).with_fragment(None)
                        if following.origin() != url.origin():
                            headers = {}
                        url = following
                        continue
                    if (failed := _failure(answer)) is not None:
                        answer.close()
                        raise failed
                    return answer
        except (InvalidField, FailedPrecondition, AddressForbidden) as error:
            raise NotFetched(media_pb2.MEDIA_FAILURE_ADDRESS_FORBIDDEN, final=True) from error
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            if _is_forbidden(error):
                raise NotFetched(media_pb2.MEDIA_FAILURE_ADDRESS_FORBIDDEN, final=True) from error
            raise NotFetched(media_pb2.MEDIA_FAILURE_UNREACHABLE, final=False) from error
        raise NotFetched(media_pb2.MEDIA_FAILURE_UNREACHABLE, final=True)  # it only ever redirects


def _as_given(address: str) -> URL:
    """The address as it is spelled: yarl would spell it otherwise, and a signed one would no longer fit its
    signature. What must not be in an address, and is in that of some redirects, is encoded.
    """
    return URL(address, encoded=_is_encoded(address))


def _is_encoded(address: str) -> bool:
    return address.isascii() and " " not in address


async def _pieces(answer: aiohttp.ClientResponse, end: float) -> AsyncIterator[bytes]:
    loop = asyncio.get_running_loop()
    try:
        while True:
            async with asyncio.timeout_at(min(end, loop.time() + PIECE_SECONDS)):
                piece = await answer.content.read(MAX_CHUNK)
            if not piece:
                return
            yield piece
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise NotFetched(media_pb2.MEDIA_FAILURE_UNREACHABLE, final=False) from error


def _failure(answer: aiohttp.ClientResponse) -> NotFetched | None:
    if answer.status in _GONE:
        return NotFetched(media_pb2.MEDIA_FAILURE_GONE, final=True)
    if answer.status != 200:
        again = answer.status >= 500 or answer.status in _AGAIN
        return NotFetched(media_pb2.MEDIA_FAILURE_UNREACHABLE, final=not again)
    if answer.headers.get("content-encoding", "identity") != "identity":  # though that was not asked for
        return NotFetched(media_pb2.MEDIA_FAILURE_CORRUPT, final=True)
    return None


def _is_forbidden(error: BaseException | None) -> bool:
    while error is not None and not isinstance(error, AddressForbidden):
        error = error.__cause__
    return error is not None


_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_GONE = frozenset({404, 410})
_AGAIN = frozenset({408, 425, 429})
