"""One timer for all that is due later: thousands of receipts cost one wake-up of the event loop a tick."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import structlog

logger = structlog.get_logger(__name__)

TICK_SECONDS = 0.01
"""Seconds between two looks at what is due. Nothing is called early, and nothing is more than two ticks late,
unless the event loop is."""


class TimerWheel:
    """Calls functions after a delay. `after_tick` runs after each tick that called something."""

    def __init__(self, after_tick: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._after_tick = after_tick
        self._slots: dict[int, list[tuple[Callable[..., object], tuple[Any, ...]]]] = {}
        self._next = int(self._loop.time() / TICK_SECONDS)

    def after(self, delay: float, call: Callable[..., object], *args: Any) -> None:
        """Call `call(*args)` when `delay` seconds have passed."""
        slot = max(int((self._loop.time() + delay) / TICK_SECONDS) + 1, self._next)
        entries = self._slots.get(slot)
        if entries is None:
            self._slots[slot] = [(call, args)]
        else:
            entries.append((call, args))

    async def run(self) -> None:
        """Call what is due, tick by tick, until cancelled."""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            self.tick()

    def tick(self) -> None:
        """Call everything that is due."""
        now = int(self._loop.time() / TICK_SECONDS)
        if not self._slots:
            self._next = now + 1
            return
        called = False
        while self._next <= now:
            entries = self._slots.pop(self._next, None)
            self._next += 1
            if entries is not None:
                called = True
                for call, args in entries:
                    try:
                        call(*args)
                    except Exception:  # one account's: all others' receipts are due, too
                        logger.exception("what was due failed", call=repr(call))
        if called:
            self._after_tick()
