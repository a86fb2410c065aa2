"""Admission of connects: so many a second and so many at once, whoever asks."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mesh_session_node.session.session import Session

_SLICE = 0.02


class Pacer:
    """Sessions wait here for their turn to dial. `start` runs a dial as a task of its own."""

    def __init__(
        self, per_second: int, at_once: int, start: Callable[[str, Coroutine[Any, Any, None]], None]
    ) -> None:
        self._per_second = per_second
        self._room = asyncio.Semaphore(at_once)
        self._start = start
        self._waiting: deque[Session] = deque()
        self._wake = asyncio.Event()

    def admit(self, session: Session) -> None:
        """Let it dial when its turn comes."""
        self._waiting.append(session)
        self._wake.set()

    async def run(self) -> None:
        """Hands out turns; until it is cancelled."""
        loop = asyncio.get_running_loop()
        allowed, since = 1.0, loop.time()
        most = max(1.0, self._per_second * _SLICE)
        while True:
            if not self._waiting:
                self._wake.clear()
                await self._wake.wait()
            now = loop.time()
            allowed = min(most, allowed + (now - since) * self._per_second)
            since = now
            if allowed < 1.0:
                await asyncio.sleep((1.0 - allowed) / self._per_second)
                continue
            await self._room.acquire()
            allowed -= 1.0
            session = self._waiting.popleft()
            self._start(f"dial {session.id}", self._dial(session))

    async def _dial(self, session: Session) -> None:
        try:
            await session.dial()
        finally:
            self._room.release()
