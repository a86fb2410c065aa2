"""A number of places for what is scarce, such as connections: tenants share them, and wait in turns."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from asyncpg.pgproto.pgproto import UUID

from mesh_core.turns import Turns


class Shares:
    """So many places of a process. A tenant gets another one while it has fewer than are free: one alone
    fills half, and a newcomer finds a place. The queue goes round the tenants.

    Who holds a place must not wait for a second one: the tenant may get no more.
    """

    __slots__ = ("_free", "_queue", "_taken")

    def __init__(self, places: int) -> None:
        self._free = places
        self._taken: Counter[UUID] = Counter()
        self._queue: Turns[_Guest] = Turns()

    @asynccontextmanager
    async def place(self, tenant: UUID) -> AsyncIterator[None]:
        """A place for the tenant, once its turn has come."""
        guest = _Guest(tenant, asyncio.get_running_loop().create_future())
        self._queue.add(tenant, guest)
        self._call_next()
        try:
            await guest.called
            yield
        finally:
            if not self._queue.discard(tenant, guest):  # it was called, if only to find itself cancelled
                self._free += 1
                self._taken -= Counter([tenant])
                self._call_next()

    def _call_next(self) -> None:
        while self._free and (guest := self._queue.take(self._may)) is not None:
            self._free -= 1
            self._taken[guest.tenant] += 1
            if not guest.called.done():
                guest.called.set_result(None)

    def _may(self, tenant: UUID) -> bool:
        return self._taken[tenant] < self._free


@dataclass(frozen=True, slots=True, eq=False)
class _Guest:
    tenant: UUID
    called: asyncio.Future[None]
