"""Serves our own links over HTTP: whole files and ranges, to programs and to pages of any site."""

from __future__ import annotations

import asyncio
import re
import socket
from collections import Counter
from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

import structlog
from aiohttp import ETag, web
from asyncpg.pgproto.pgproto import UUID

from mesh_core.errors import DataLoss, FailedPrecondition, MeshError, NotFound, StartupError, Unavailable
from mesh_core.settings import LinksSettings
from mesh_media.api.links import EndedLink, Link, LinkSigner, WrongLink
from mesh_media.api.reader import Reader
from mesh_media.api.variants import VariantFile, file_of, name_of
from mesh_media.repository.media_repository import MediaRepository
from mesh_media.repository.rows import MediaRow
from mesh_media.stores.s3 import attachment
from sessionmesh.v1 import media_pb2

logger = structlog.get_logger(__name__)

MOST_DOWNLOADS = 256
"""At a time. A tenant's files may have another one while they have fewer than are free, so those of one alone
half; one more is told to come again.
"""
MOST_CONNECTIONS = 320
"""At a time. They ask for no key, and each takes a descriptor that callers need. For one more the oldest that
serves no link has to go: whoever has none keeps nobody out who has.
"""
READ_SECONDS = 30.0
"""How long a download waits for its reader to take a chunk, and a connection for its peer to take some."""
IDLE_SECONDS = 15.0
"""How long a connection may say nothing between two requests."""


class LinkServer:
    """An HTTP server that knows `GET` and `HEAD` of `/media/TOKEN`, and nobody's key.

    Whoever has an address may read the file, so pages of any site that have it may, too.
    """

    def __init__(self, media: MediaRepository, reader: Reader, signer: LinkSigner) -> None:
        self._media = media
        self._reader = reader
        self._signer = signer
        self._running: Counter[UUID] = Counter()
        self._serving: set[asyncio.BaseProtocol] = set()
        self._runner: web.AppRunner | None = None

    async def start(self, settings: LinksSettings) -> str:
        """Serves links, unless the settings say nowhere. Returns the beginning of their addresses, "" where
        none are served. Raises `StartupError`.
        """
        if not settings.listen:
            return ""
        application = web.Application(client_max_size=0)
        application.router.add_get("/media/{token}", self._serve)
        application.router.add_options("/media/{token}", _tell_pages)
        application.on_response_prepare.append(_prepare)
        self._runner = _Runner(
            self._serving,
            application,
            access_log=None,
            keepalive_timeout=IDLE_SECONDS,
            handle_signals=False,
            auto_decompress=False,  # no request has a body that counts: nothing is unpacked or awaited of one
            lingering_time=0.0,
        )
        await self._runner.setup()
        host, _, port = settings.listen.rpartition(":")
        try:
            await web.TCPSite(self._runner, host.strip("[]"), int(port)).start()
        except OSError as error:
            raise StartupError(f"MESH_LINKS_LISTEN={settings.listen}: {error.strerror}") from None
        taken: int = self._runner.addresses[0][1]
        return settings.public_url.rstrip("/") or f"http://{host}:{taken}"

    async def stop(self) -> None:
        """Waits for a few seconds until downloads have ended."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        try:
            link = self._signer.link(request.match_info["token"], datetime.now(UTC))
        except WrongLink:
            return web.Response(status=403, text="this link was not made here\n")
        except EndedLink:
            return web.Response(status=410, text="this link has ended\n")
        self._serving.add(request.protocol)
        try:
            row = await self._media.get(link.media)
            if self._running[row.tenant] >= MOST_DOWNLOADS - self._running.total():
                return _later("there are too many downloads\n")
            self._running[row.tenant] += 1
            try:
                return await self._answer(request, row, link, file_of(row, link.variant))
            finally:
                self._running -= Counter([row.tenant])  # which keeps nothing of who has none
        except (NotFound, FailedPrecondition):
            return web.Response(status=404, text="this file is gone\n")
        except Unavailable:
            return _later("the file cannot be read now\n")
        except DataLoss:
            return web.Response(status=500, text="the stored file is damaged\n")
        finally:
            self._serving.discard(request.protocol)

    async def _answer(
        self, request: web.Request, row: MediaRow, link: Link, file: VariantFile
    ) -> web.StreamResponse:
        tag = file.sha256.hex()
        headers = _headers(row, link, file) | {"ETag": f'"{tag}"'}
        if not _is_among(tag, request.if_match, strongly=True):
            return web.Response(status=412, headers=headers)
        if request.if_none_match and _is_among(tag, request.if_none_match, strongly=False):
            return web.Response(status=304, headers=headers)
        try:
            start, end = _range(request, f'"{tag}"', file.size)
        except ValueError:
            return web.Response(status=416, headers={"Content-Range": f"bytes */{file.size}"})
        response = web.StreamResponse(status=200, headers=headers)
        if (start, end) != (0, file.size):
            response.set_status(206)
            response.headers["Content-Range"] = f"bytes {start}-{end - 1}/{file.size}"
        response.content_length = end - start
        if request.method == "HEAD" or start == end:
            await response.prepare(request)
            return response
        try:
            await self._send(request, response, self._reader.read(row, link.variant, start, end))
        except (MeshError, TimeoutError):
            if not response.prepared:
                raise
            if request.transport is not None:  # cut off, so that nobody takes it for the whole
                request.transport.abort()
        return response

    async def _send(
        self, request: web.Request, response: web.StreamResponse, read: AsyncGenerator[bytes, None]
    ) -> None:
        async with aclosing(read) as chunks:
            async for chunk in chunks:
                if not response.prepared:  # now that there is something to send: until then it is refused
                    await response.prepare(request)
                async with asyncio.timeout(READ_SECONDS):
                    await response.write(chunk)


class _Runner(web.AppRunner):
    """Has at most `MOST_CONNECTIONS`, those that are in `serving` before others."""

    def __init__(self, serving: Collection[asyncio.BaseProtocol], *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._serving = serving

    @property
    def server(self) -> Any:
        """What makes the protocol of a new connection."""
        return None if super().server is None else self._protocol

    def _protocol(self) -> asyncio.BaseProtocol:
        made = super().server
        assert made is not None  # noqa: S101 - it was, when the site began
        there = [one for one in made.connections if one.transport is not None]
        if len(there) >= MOST_CONNECTIONS:
            oldest = next((one for one in there if one not in self._serving), None)
            if oldest is None or oldest.transport is None:
                return _Closing()
            transport = oldest.transport
            oldest.force_close()
            transport.abort()  # what it was answered and did not read is not waited for
        return made()


class _Closing(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


async def _tell_pages(_: web.Request) -> web.Response:
    """What a browser asks before a page's request with headers of these is sent."""
    headers = {
        "Access-Control-Allow-Headers": "If-Match, If-None-Match, If-Range, Range",
        "Access-Control-Allow-Methods": "GET, HEAD",
        "Access-Control-Max-Age": "86400",
    }
    return web.Response(status=204, headers=headers)


async def _prepare(request: web.Request, response: web.StreamResponse) -> None:
    """What holds for every answer."""
    response.headers["Access-Control-Allow-Origin"] = "*"
    response.headers["Access-Control-Expose-Headers"] = "Content-Disposition, Content-Range, ETag"
    response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
    if request.transport is not None:  # an answer that nobody reads would keep its connection for ever
        taken = request.transport.get_extra_info("socket")
        taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(READ_SECONDS * 1000))


def _is_among(tag: str, tags: tuple[ETag, ...] | None, *, strongly: bool) -> bool:
    """Whether a file is one that a condition names, or there is none."""
    if tags is None:
        return True
    return any(one.value in ("*", tag) and not (strongly and one.is_weak) for one in tags)


def _range(request: web.Request, tag: str, size: int) -> tuple[int, int]:
    """First byte and the one behind the last; all of them where no range is asked for, several are, or one of
    another file. Raises `ValueError` for a range that the file does not have.
    """
    found = _RANGE(request.headers.get("Range", ""))
    if found is None or request.method != "GET" or request.headers.get("If-Range", tag) != tag or not size:
        return 0, size
    first, last = (int(text) if text else None for text in found.groups())
    if first is None:
        start, end = max(0, size - (last or 0)), size
    elif last is not None and last < first:
        return 0, size
    else:
        start, end = first, size if last is None else min(size, last + 1)
    if start >= end:
        raise ValueError("the file has no such range")
    return start, end


def _headers(row: MediaRow, link: Link, file: VariantFile) -> dict[str, str]:
    """Whatever the bytes are, a browser stores them and runs nothing; thumbnails are pictures of ours."""
    inline = link.variant == media_pb2.MEDIA_VARIANT_THUMBNAIL
    return {
        "Accept-Ranges": "bytes",
        "Cache-Control": "private",
        "Content-Disposition": "inline" if inline else attachment(name_of(row, file)),
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "Content-Type": file.mime_type or "application/octet-stream",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }


def _later(text: str) -> web.Response:
    return web.Response(status=503, text=text, headers={"Retry-After": "1"})


# One range; what is none is as good as not there.
_RANGE = re.compile(r"\s*bytes\s*=\s*(?!-\s*$)(\d{0,20})-(\d{0,20})\s*", re.ASCII | re.IGNORECASE).fullmatch
