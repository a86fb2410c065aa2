"""Admission of connects, whichever account they are for."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

from asyncpg.pgproto.pgproto import UUID

from mesh_core.turns import Turns
from mesh_session_node.account.reconnect import Dialer

_SLICE_SECONDS = 0.02
_IN_A_ROW = 3
"""Those that somebody asked for come first, but not more of them in a row while others wait."""


class ConnectLimiter:
    """Limits connects per second and in parallel, with turns that go round the tenants. `start` runs a dial
    as a task of its own.

    One tenant dials at most three quarters of `parallel` at once: where its dials hang, others have room.
    """

    def __init__(
        self, per_second: int, parallel: int, start: Callable[[str, Coroutine[Any, Any, None]], None]
    ) -> None:
        self._per_second = per_second
        self._parallel = parallel
        self._share = max(1, parallel * 3 // 4)
        self._start = start
        self._asked: Turns[Dialer] = Turns()
        self._others: Turns[Dialer] = Turns()
        self._in_a_row = 0
        self._dialing: Counter[UUID] = Counter()
        self._wake = asyncio.Event()

    def admit(self, dialer: Dialer, *, first: bool = False) -> None:
        """Let it dial when its turn comes; `first`: before those that nobody asked for."""
        if first:
            self._others.discard(dialer.tenant, dialer)
            self._asked.add(dialer.tenant, dialer)
        else:
            self._others.add(dialer.tenant, dialer)
        self._wake.set()

    async def run(self) -> None:
        """Gives turns, until cancelled."""
        loop = asyncio.get_running_loop()
        allowed, since = 1.0, loop.time()
        burst = max(1.0, self._per_second * _SLICE_SECONDS)
        while True:
            now = loop.time()
            allowed = min(burst, allowed + (now - since) * self._per_second)
            since = now
            if allowed < 1.0:
                await asyncio.sleep((1.0 - allowed) / self._per_second)
                continue
            dialer = self._take()
            if dialer is None:
                self._wake.clear()
                await self._wake.wait()
                continue
            allowed -= 1.0
            self._dialing[dialer.tenant] += 1
            self._start(f"dial {dialer.id}", self._dial(dialer))

    def _take(self) -> Dialer | None:
        """Whose turn it is, if there is room."""
        if self._dialing.total() >= self._parallel:
            return None
        queues = [self._asked, self._others]
        if self._in_a_row >= _IN_A_ROW:
            queues.reverse()
        for queue in queues:
            if (dialer := queue.take(self._has_room)) is not None:
                self._in_a_row = self._in_a_row + 1 if queue is self._asked else 0
                return dialer
        return None

    def _has_room(self, tenant: UUID) -> bool:
        return self._dialing[tenant] < self._share

    async def _dial(self, dialer: Dialer) -> None:
        try:
            await dialer.dial()
        finally:
            self._dialing[dialer.tenant] -= 1
            if not self._dialing[dialer.tenant]:
                del self._dialing[dialer.tenant]
            self._wake.set()
