"""What comes on a connection, handled some at a time: between, the node serves its other accounts."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable

MOST_UNSTORED = 32
"""Messages that were taken and are not stored yet: with so many nothing is taken until half of them are. What
one account is written must neither fill the journal that all accounts share nor most of one of its batches.
"""
MOST_WAITING = 512
"""Frames that were read and wait: with more nothing is read until half of them are handled."""
_TURN_SECONDS = 0.001
"""How long frames are handled in one turn of the loop: some messages."""


class Intake:
    """The frames of one connection, in order, each passed to `handle`."""

    __slots__ = ("_handle", "_loop", "_paused", "_transport", "_turn", "_unstored", "_waiting")

    def __init__(self, handle: Callable[[bytes], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._handle = handle
        self._waiting: deque[bytes] = deque()
        self._turn: asyncio.Handle | None = None
        self._transport: asyncio.Transport | None = None
        self._paused = False
        self._unstored = 0

    def begin(self, transport: asyncio.Transport) -> None:
        """The connection is there."""
        self._transport = transport

    def add(self, frames: Iterable[bytes]) -> None:
        """These were read: the first are handled at once, unless others wait."""
        self._waiting.extend(frames)
        if self._turn is None:
            self._work()

    def taken(self) -> None:
        """A message was handed over, which is to be stored."""
        self._unstored += 1

    def stored(self) -> None:
        """It is stored."""
        self._unstored -= self._unstored > 0
        if self._unstored <= MOST_UNSTORED // 2:
            self._go_on()

    def end(self) -> None:
        """The connection has ended: what waits is handled now, such as why it did."""
        self._transport = None
        while self._waiting:
            self._handle(self._waiting.popleft())

    def _work(self) -> None:
        self._turn = None
        until = time.perf_counter() + _TURN_SECONDS
        while self._waiting and self._unstored < MOST_UNSTORED:
            self._handle(self._waiting.popleft())
            if time.perf_counter() > until:
                break
        if self._unstored < MOST_UNSTORED:
            self._go_on()
        if self._transport is not None and not self._transport.is_closing():
            if not self._paused and len(self._waiting) > MOST_WAITING:
                self._paused = True
                self._transport.pause_reading()
            elif self._paused and len(self._waiting) <= MOST_WAITING // 2:
                self._paused = False
                self._transport.resume_reading()

    def _go_on(self) -> None:
        if self._turn is None and self._waiting:
            self._turn = self._loop.call_soon(self._work)
