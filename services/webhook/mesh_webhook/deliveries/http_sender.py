"""Sends one signed HTTP request to an endpoint, and reports what came of it."""

from __future__ import annotations

import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Self

import aiohttp
from yarl import URL

from mesh_core.egress import AddressForbidden, CheckedResolver, connector
from mesh_webhook.deliveries.odd_answers import Handler, OddAnswer, Response
from mesh_webhook.deliveries.retries import parse_retry_after
from mesh_webhook.deliveries.settings import WebhookSettings
from mesh_webhook.endpoints import signature

MAX_RESPONSE_BYTES = 64 * 1024
"""How much of a response is read; the connection of a longer one is closed."""

STORED_RESPONSE_BYTES = 1024
"""How much of a response is stored with the attempt."""


@dataclass(frozen=True, slots=True)
class OutgoingRequest:
    """What to send. It is signed with each of `keys`, the current one first. `marks` are headers of our own
    that say what kind of request it is.
    """

    url: str
    headers: Mapping[str, str] = field(repr=False)
    webhook_id: str
    body: bytes = field(repr=False)
    keys: Sequence[bytes] = field(repr=False)
    traceparent: str = ""
    marks: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AttemptResult:
    """What came of a request. Without a complete response `status` is None and `error` says why."""

    status: int | None
    error: str
    body: bytes
    retry_after: float | None
    start_time: datetime
    seconds: float

    @property
    def succeeded(self) -> bool:
        """Whether the endpoint accepted the delivery: any 2xx, and nothing else."""
        return self.status is not None and 200 <= self.status < 300 and not self.error


class HttpSender:
    """An HTTP client for webhooks; use it with `async with`.

    It connects to permitted addresses only, follows no redirect, and reads the beginning of responses only.
    """

    def __init__(self, settings: WebhookSettings) -> None:
        self._settings = settings
        self.resolver = CheckedResolver(allow_private=settings.allow_private_addresses)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=connector(self.resolver, keepalive_seconds=_KEEPALIVE_SECONDS, handler=Handler),
            response_class=Response,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=self._settings.timeout_seconds),
            auto_decompress=False,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()
        await self.resolver.close()

    async def send(self, request: OutgoingRequest) -> AttemptResult:
        """Makes one attempt. Nothing raises: whatever comes of it is the result."""
        start, started = datetime.now(UTC), time.monotonic()
        try:
            status, body, retry_header, location = await self._post(request, int(start.timestamp()))
        except Exception as error:  # whatever an endpoint makes the client raise is its failed attempt
            return AttemptResult(None, self._describe(error), b"", None, start, time.monotonic() - started)
        problem = "" if 200 <= status < 300 else f"HTTP {status}"
        if 300 <= status < 400 and location:
            problem += ": redirects are not followed"
        wait = parse_retry_after(retry_header, datetime.now(UTC))
        seconds = time.monotonic() - started
        return AttemptResult(status, problem, body[:STORED_RESPONSE_BYTES], wait, start, seconds)

    async def _post(
        self, request: OutgoingRequest, timestamp: int
    ) -> tuple[int, bytes, str | None, str | None]:
        """The response's status, the beginning of its body, its Retry-After and its Location header."""
        assert self._session is not None  # noqa: S101 - entered
        # As it was given: yarl would spell it otherwise, and a signed query no longer fit its signature.
        url = URL(request.url, encoded=True)
        if url.scheme != "https" and not self._settings.allow_http:
            raise AddressForbidden("plain http is not allowed")
        self.resolver.check_literal(url.host or "")
        headers = {
            **request.headers,
            **request.marks,
            "content-type": "application/json",
            "user-agent": "Sessionmesh-Webhook/1",
            "accept-encoding": "identity",
            "webhook-id": request.webhook_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signature.sign(request.keys, request.webhook_id, timestamp, request.body),
        }
        if request.traceparent:
            headers["traceparent"] = request.traceparent
        try:
            async with self._session.post(
                url, data=request.body, headers=headers, allow_redirects=False
            ) as response:
                body = await _read_beginning(response)
                return (
                    response.status,
                    body,
                    response.headers.get("retry-after"),
                    response.headers.get("location"),
                )
        except OddAnswer as odd:
            return odd.status, b"", None, None

    def _describe(self, error: Exception) -> str:
        """What failed, in words for the endpoint's owner, who must not learn the mesh's own addresses.

        An endpoint's own text may be in it: it is cut, and made of what can be stored and shown.
        """
        words = self._words(error)[:_MAX_ERROR_LENGTH].encode("ascii", "backslashreplace").decode()
        return "".join(letter if letter.isprintable() else "?" for letter in words)

    def _words(self, error: Exception) -> str:
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
            return f"TLS: {error}"
        if isinstance(error, aiohttp.ClientConnectorError):
            return f"cannot connect: {error.os_error.strerror or error.os_error}"
        if isinstance(error, aiohttp.ServerDisconnectedError):
            return "the connection was closed before an answer came"
        return f"{type(error).__name__}: {error}"


async def _read_beginning(response: aiohttp.ClientResponse) -> bytes:
    """The first `MAX_RESPONSE_BYTES` of the body; closes the connection of a longer response."""
    received = bytearray()
    while len(received) <= MAX_RESPONSE_BYTES:
        chunk = await response.content.read(MAX_RESPONSE_BYTES + 1 - len(received))
        if not chunk:
            return bytes(received)
        received += chunk
    response.close()
    return bytes(received[:MAX_RESPONSE_BYTES])


# Shorter than what common servers keep: a request on a connection they just closed is a failed attempt.
_KEEPALIVE_SECONDS = 4.0
_MAX_ERROR_LENGTH = 300
