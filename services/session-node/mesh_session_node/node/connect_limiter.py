"""Admission of connects, whichever account they are for."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from mesh_session_node.account.connector import Dialer

_SLICE_SECONDS = 0.02


class ConnectLimiter:
    """Limits connects per second and in parallel. `start` runs a dial as a task of its own."""

    def __init__(
        self, per_second: int, parallel: int, start: Callable[[str, Coroutine[Any, Any, None]], None]
    ) -> None:
        self._per_second = per_second
        self._room = asyncio.Semaphore(parallel)
        self._start = start
        self._waiting: deque[Dialer] = deque()
        self._wake = asyncio.Event()

    def admit(self, dialer: Dialer) -> None:
        """Let it dial when its turn comes."""
        self._waiting.append(dialer)
        self._wake.set()

    async def run(self) -> None:
        """Gives turns, first come first served, until cancelled."""
        loop = asyncio.get_running_loop()
        allowed, since = 1.0, loop.time()
        burst = max(1.0, self._per_second * _SLICE_SECONDS)
        while True:
            if not self._waiting:
                self._wake.clear()
                await self._wake.wait()
            now = loop.time()
            allowed = min(burst, allowed + (now - since) * self._per_second)
            since = now
            if allowed < 1.0:
                await asyncio.sleep((1.0 - allowed) / self._per_second)
                continue
            await self._room.acquire()
            allowed -= 1.0
            dialer = self._waiting.popleft()
            self._start(f"dial {dialer.id}", self._dial(dialer))

    async def _dial(self, dialer: Dialer) -> None:
        try:
            await dialer.dial()
        finally:
            self._room.release()
