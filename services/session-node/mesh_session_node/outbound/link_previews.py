"""Reads what is shown of a link: the page's title, description and a small picture.

The address comes from a caller's text, and those after it from strangers' servers: the rule for all that the
mesh connects to for a caller is asked about each. A preview is never worth a failed message: nothing here
raises.
"""

from __future__ import annotations

import asyncio
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Self
from urllib.parse import urljoin

import aiohttp
import structlog
from yarl import URL

from mesh_core.egress import AddressForbidden, CheckedResolver, connector
from mesh_session_node.context.places import Places
from mesh_session_node.journal import AccountRef
from mesh_session_node.outbound.page_head import read_head
from sessionmesh.v1.content_pb2 import LinkPreview

logger = structlog.get_logger(__name__)

MAX_SECONDS = 2.0
"""How long a preview may take, picture and all."""

MAX_PAGE_BYTES = 128 * 1024
"""How much of a page is read, up to the end of its head. To parse so much takes a tenth of a second."""

MAX_PICTURE_BYTES = 64_000
MAX_REDIRECTS = 3
MAX_URL_LENGTH = 2048


def first_link(text: str) -> str:
    """The first http or https address in a text, as it stands there; "" for none."""
    found = _LINK.search(text)
    if found is None:
        return ""
    link = found[0].rstrip(_PUNCTUATION)
    while link.endswith(")") and link.count(")") > link.count("("):
        link = link[:-1].rstrip(_PUNCTUATION)
    return link if len(link) <= MAX_URL_LENGTH else ""


class LinkPreviews:
    """An HTTP client for previews; use it with `async with`. A few are read at once, the others wait their
    turn.
    """

    def __init__(self, *, allow_private_addresses: bool) -> None:
        self._resolver = CheckedResolver(allow_private=allow_private_addresses)
        self._places = Places(_AT_ONCE, _OF_AN_ACCOUNT)
        # Parsing has a thread of its own: the loop goes on meanwhile, and so do the look-ups of names.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="preview")
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=connector(self._resolver, keepalive_seconds=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            headers={"user-agent": "Sessionmesh-Preview/1", "accept-encoding": "identity"},
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()
        await self._resolver.close()
        self._thread.shutdown(cancel_futures=True)

    async def read(self, url: str, owner: AccountRef) -> LinkPreview | None:
        """What is shown of `url`, for an account; None when the page does not say it within `MAX_SECONDS`.
        Never raises.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + MAX_SECONDS
        preview = LinkPreview(url=url)
        try:
            async with asyncio.timeout_at(end), self._places.place(owner):
                page = await self._get(url, _PAGE_TYPES, MAX_PAGE_BYTES, _HEAD_ENDS)
                head = await loop.run_in_executor(self._thread, read_head, page.body, page.charset)
                preview.title, preview.description = head.title, head.description
                if head.image:
                    preview.thumbnail = await self._picture(urljoin(page.url, head.image))
        except _FAILURES as error:
            logger.debug("no whole preview", error=repr(error))
        except Exception:  # a stranger's page has found a fault of ours: the message goes out without it
            logger.exception("a preview failed", host=_host(url))
        return preview if preview.title or preview.description or preview.thumbnail else None

    async def _picture(self, url: str) -> bytes:
        """The bytes of a picture that is small and a JPEG already, as messages carry it; else none."""
        picture = await self._get(url, _PICTURE_TYPES, MAX_PICTURE_BYTES + 1, _NEVER_ENDS)
        if len(picture.body) > MAX_PICTURE_BYTES or not picture.body.startswith(b"\xff\xd8\xff"):
            return b""
        return picture.body

    async def _get(
        self, address: str, types: frozenset[str], max_bytes: int, ends: re.Pattern[bytes]
    ) -> _Answer:
        """The beginning of what `address` serves, after at most `MAX_REDIRECTS` redirects: until `ends` is
        found in it.
        """
        assert self._session is not None  # noqa: S101 - entered
        url = URL(address)
        for _ in range(MAX_REDIRECTS + 1):
            self._check(url)
            async with self._session.get(
                url, allow_redirects=False, headers={"accept": ", ".join(sorted(types))}
            ) as response:
                if response.status in _REDIRECTS and "location" in response.headers:
                    url = url.join(URL(response.headers["location"]))
                    continue
                if response.status != 200 or response.content_type not in types:
                    raise _Unfit(f"HTTP {response.status}, {response.content_type}")
                if response.headers.get("content-encoding", "identity") != "identity":
                    raise _Unfit("it is compressed, though that was not asked for")
                body = bytearray()
                async for chunk in response.content.iter_any():
                    looked_at = max(0, len(body) - _LONGEST_END)
                    body += chunk[: max_bytes - len(body)]
                    if len(body) == max_bytes or ends.search(body, looked_at):
                        break
                return _Answer(str(url), response.charset or "", bytes(body))
        raise _Unfit("too many redirects")

    def _check(self, url: URL) -> None:
        if url.scheme not in ("http", "https") or not url.host or len(str(url)) > MAX_URL_LENGTH:
            raise _Unfit("no address of a page")
        if url.user is not None or url.password is not None:
            raise _Unfit("an address with a user")
        self._resolver.check_literal(url.host)


def _host(url: str) -> str:
    """Whose page it is, for the log: the rest of an address may be nobody else's business."""
    try:
        return URL(url).host or ""
    except ValueError:
        return ""


class _Unfit(Exception):
    """What an address serves is nothing that a preview is made of."""


@dataclass(frozen=True, slots=True)
class _Answer:
    """`url` is where it came from in the end; `charset` is empty where the server names none."""

    url: str
    charset: str
    body: bytes


_AT_ONCE = 16
_OF_AN_ACCOUNT = 4
_HEAD_ENDS = re.compile(rb"</head|<body", re.IGNORECASE)
_NEVER_ENDS = re.compile(rb"(?!)")
_LONGEST_END = len(b"</head")
_LINK = re.compile(r"https?://[^\s<>\"'`\x00-\x20]+", re.IGNORECASE)
_PUNCTUATION = ".,;:!?*_~"
_PAGE_TYPES = frozenset({"text/html", "application/xhtml+xml"})
_PICTURE_TYPES = frozenset({"image/jpeg"})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_FAILURES = (_Unfit, AddressForbidden, aiohttp.ClientError, OSError, TimeoutError, ValueError)
