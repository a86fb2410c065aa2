"""Long work for callers, in slices of the event loop: between two of them everybody else's calls go on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from time import perf_counter
from typing import TypeVar

from asyncpg.pgproto.pgproto import UUID

from mesh_core.turns import Turns

SLICE_SECONDS = 0.003
"""How long a slice holds the loop, and at most one item longer."""

T = TypeVar("T")


class Slices:
    """Those of a process: in each turn of the loop one slice is worked off, in turns over the tenants."""

    __slots__ = ("_due", "_waiting")

    def __init__(self) -> None:
        self._waiting: Turns[asyncio.Future[None]] = Turns()
        self._due = False

    async def each(self, tenant: UUID, items: Iterable[T]) -> AsyncIterator[T]:
        """The items, between which the caller's work is interrupted whenever a slice is over."""
        until = 0.0
        for item in items:
            if perf_counter() >= until:
                await self._turn(tenant)
                until = perf_counter() + SLICE_SECONDS
            yield item

    async def _turn(self, tenant: UUID) -> None:
        if not self._due:
            self._plan()
            return
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(tenant, waiting)
        await waiting

    def _plan(self) -> None:
        """Who comes before the loop has turned once has to wait."""
        self._due = True
        asyncio.get_running_loop().call_soon(self._call_next)

    def _call_next(self) -> None:
        self._due = False
        while (waiting := self._waiting.take()) is not None:
            if not waiting.done():  # else it was cancelled
                self._plan()
                waiting.set_result(None)
                return
