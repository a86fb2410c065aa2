"""One HTTP request: a signed body to an endpoint, and what came of it."""

from __future__ import annotations

import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self
from urllib.parse import urlsplit

import aiohttp

from mesh_webhook import signature
from mesh_webhook.retries import retry_after
from mesh_webhook.settings import WebhookSettings
from mesh_webhook.ssrf import AddressForbidden, CheckedResolver

LONGEST_ANSWER = 64 * 1024
"""Bytes of an answer that are read; the connection of a longer one is closed."""

KEPT_ANSWER = 1024
"""Bytes of an answer that are stored."""


@dataclass(frozen=True, slots=True)
class Request:
    """What to send. `keys` sign it, the present one first."""

    url: str
    headers: Mapping[str, str]
    webhook_id: str
    body: bytes
    keys: Sequence[bytes]
    traceparent: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What happened. `status` is 0, and `error` says why, when there was no whole answer."""

    status: int
    error: str
    body: bytes
    retry_after: float | None
    start_time: datetime
    seconds: float

    @property
    def succeeded(self) -> bool:
        """Whether the endpoint took it: 2xx, and nothing else."""
        return 200 <= self.status < 300 and not self.error


class Sender:
    """An HTTP client that goes only where it may, follows nothing, and reads little. `async with` it."""

    def __init__(self, settings: WebhookSettings) -> None:
        self._settings = settings
        self._resolver = CheckedResolver(allow_private=settings.allow_private_addresses)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(resolver=self._resolver, limit=0, keepalive_timeout=_KEEP_IDLE),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=self._settings.timeout_seconds),
            auto_decompress=False,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def send(self, request: Request) -> Answer:
        """Makes one attempt. Whatever the network does is an `Answer`."""
        start, begun = datetime.now(UTC), time.monotonic()
        try:
            status, body, retry_header, location = await self._post(request, int(start.timestamp()))
        except (aiohttp.ClientError, ssl.SSLError, OSError, TimeoutError, ValueError) as error:
            return Answer(0, self._describe(error), b"", None, start, time.monotonic() - begun)
        problem = "" if 200 <= status < 300 else f"HTTP {status}"
        if 300 <= status < 400 and location:
            problem += ": redirects are not followed"
        wait = retry_after(retry_header, datetime.now(UTC))
        return Answer(status, problem, body[:KEPT_ANSWER], wait, start, time.monotonic() - begun)

    async def _post(self, request: Request, timestamp: int) -> tuple[int, bytes, str | None, str | None]:
        assert self._session is not None  # noqa: S101 - entered
        parts = urlsplit(request.url)
        if parts.scheme != "https" and not self._settings.allow_http:
            raise AddressForbidden("plain http is not allowed")
        self._resolver.check_literal(parts.hostname or "")
        headers = {
            **request.headers,
            "content-type": "application/json",
            "user-agent": "Sessionmesh-Webhook/1",
            "accept-encoding": "identity",
            "webhook-id": request.webhook_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signature.sign(request.keys, request.webhook_id, timestamp, request.body),
        }
        if request.traceparent:
            headers["traceparent"] = request.traceparent
        async with self._session.post(
            request.url, data=request.body, headers=headers, allow_redirects=False
        ) as response:
            body = await _beginning(response)
            return (
                response.status,
                body,
                response.headers.get("retry-after"),
                response.headers.get("location"),
            )

    def _describe(self, error: Exception) -> str:
        """For the endpoint's owner: what failed, in words, without the mesh's insides."""
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, AddressForbidden):
            cause = cause.__cause__
        if cause is not None:
            return str(cause)
        if isinstance(error, TimeoutError):
            return f"no whole answer within {self._settings.timeout_seconds:g} s"
        if isinstance(error, aiohttp.ClientConnectorDNSError):
            return f"{error.host} does not resolve"
        if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError):
            return f"TLS: {error}"[:_LONGEST_ERROR]
        if isinstance(error, aiohttp.ClientConnectorError):
            return f"cannot connect: {error.os_error.strerror or error.os_error}"[:_LONGEST_ERROR]
        if isinstance(error, aiohttp.ServerDisconnectedError):
            return "the connection was closed before an answer came"
        return f"{type(error).__name__}: {error}"[:_LONGEST_ERROR].replace("\0", "")


async def _beginning(response: aiohttp.ClientResponse) -> bytes:
    """The first `LONGEST_ANSWER` bytes; what is longer ends with its connection."""
    received = bytearray()
    while len(received) <= LONGEST_ANSWER:
        chunk = await response.content.read(LONGEST_ANSWER + 1 - len(received))
        if not chunk:
            return bytes(received)
        received += chunk
    response.close()
    return bytes(received[:LONGEST_ANSWER])


_KEEP_IDLE = (
    4.0  # less than what common servers keep: a request on a connection they just closed is a failed attempt
)
_LONGEST_ERROR = 300
