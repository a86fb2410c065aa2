"""Traffic shaping: holds a connection's bytes back while a fault stalls, delays or limits it."""

from __future__ import annotations

import asyncio
from collections import deque

from mesh_simulator.accounts.account import Effects


class TrafficShaper:
    """Stands between a connection and its transport: keeps the order, and writes bytes when they are due."""

    __slots__ = ("_effects", "_last_due", "_loop", "_queue", "_timer", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._effects = Effects()
        self._queue: deque[tuple[float, bytes]] = deque()
        self._last_due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def apply(self, effects: Effects) -> None:
        """Shape by `effects` from now on."""
        self._effects = effects
        if effects.stalled:
            self._transport.pause_reading()
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
        else:
            self._transport.resume_reading()
            self._pump()

    def write(self, data: bytes) -> None:
        """Send `data` when it is due."""
        effects = self._effects
        due = max(self._loop.time() + effects.latency, self._last_due)
        if effects.bandwidth:
            due += len(data) / effects.bandwidth
        self._last_due = due
        self._queue.append((due, data))
        self._pump()

    def received(self, size: int) -> None:
        """Read on only when `size` bytes would have arrived."""
        if self._effects.bandwidth:
            self._transport.pause_reading()
            self._loop.call_later(size / self._effects.bandwidth, self._read_on)

    def _read_on(self) -> None:
        if not self._effects.stalled and not self._transport.is_closing():
            self._transport.resume_reading()

    def _pump(self) -> None:
        if self._effects.stalled or self._timer is not None:
            return
        now = self._loop.time()
        while self._queue and self._queue[0][0] <= now:
            self._transport.write(self._queue.popleft()[1])
        if self._queue:
            self._timer = self._loop.call_later(self._queue[0][0] - now, self._due)

    def _due(self) -> None:
        self._timer = None
        self._pump()
