"""The demo's own webhook endpoint: verifies each signature as a customer's backend would."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from mesh_client import WebhookVerificationError, verify_webhook


@dataclass(slots=True)
class Received:
    """What came: events by id, each once, and how many requests were good or bad."""

    events: dict[str, dict[str, Any]] = field(default_factory=dict)
    verified: int = 0
    refused: int = 0


class Receiver:
    """An HTTP server on a free loopback port. Set `secret` before the first delivery."""

    def __init__(self) -> None:
        self.received = Received()
        self.secret = ""
        self.url = ""
        self._news = asyncio.Condition()
        application = web.Application()
        application.router.add_post("/webhook", self._receive)
        self._runner = web.AppRunner(application, access_log=None)

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/webhook"
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    async def until(self, satisfied: Callable[[list[dict[str, Any]]], bool], timeout: float) -> None:
        """Wait until the events received so far satisfy; raises TimeoutError."""
        async with asyncio.timeout(timeout), self._news:
            await self._news.wait_for(lambda: satisfied(list(self.received.events.values())))

    async def _receive(self, request: web.Request) -> web.Response:
        body = await request.read()
        try:
            verify_webhook(self.secret, request.headers, body)
        except WebhookVerificationError:
            self.received.refused += 1
            return web.Response(status=401)
        event = json.loads(body)
        self.received.verified += 1
        self.received.events[event["id"]] = event
        async with self._news:
            self._news.notify_all()
        return web.Response(status=204)
