"""The media service in a process of its own, which measures how late its event loop is.

Its first line of input is a `Servers` as JSON, each line after it a `Start` or `Lag`.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import msgspec
import structlog
import uvloop

from bench.measuring.workers import serve
from mesh_core.settings import read
from mesh_media.__main__ import main
from mesh_media.settings import MediaServiceSettings
from tests.support.running import running

TICK_SECONDS = 0.005


class Servers(msgspec.Struct, frozen=True):
    """The service's settings, as environment."""

    environment: dict[str, str]


class Start(msgspec.Struct, frozen=True, tag=True):
    """Answered with the service's address, once it serves."""


class Lag(msgspec.Struct, frozen=True, tag=True):
    """Answered with how late the loop was in milliseconds, in each of its ticks since the last `Lag`."""


class Served:
    """The service, from `Start` until the process ends."""

    def __init__(self, servers: Servers) -> None:
        self._settings = read(MediaServiceSettings, servers.environment)
        self._late: list[float] = []
        self._running = AsyncExitStack()

    async def obey(self, order: Start | Lag) -> object:
        if isinstance(order, Lag):
            late, self._late = self._late, []
            return late
        service = await self._running.enter_async_context(running("media", main, self._settings))
        self._ticking = asyncio.create_task(self._tick(), name="tick")
        return service.address

    async def _tick(self) -> None:
        while True:
            due = time.perf_counter() + TICK_SECONDS
            await asyncio.sleep(TICK_SECONDS)
            self._late.append((time.perf_counter() - due) * 1000)


def _make(servers: Servers) -> Callable[[Start | Lag], Awaitable[object]]:
    return Served(servers).obey


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # answers are on the other
    uvloop.run(serve(Servers, Start | Lag, _make))
