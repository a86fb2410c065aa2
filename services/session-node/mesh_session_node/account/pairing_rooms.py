"""Rooms for pairing attempts: so many at once on a node, shared by its tenants."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

from asyncpg.pgproto.pgproto import UUID

from mesh_core.turns import Turns


class Guest(Protocol):
    """A pairing attempt."""

    @property
    def tenant(self) -> UUID: ...
    def show_place(self, place: int) -> None:
        """So many are before it in the queue, itself included; often told again."""


class PairingRooms:
    """A tenant gets another room while it has fewer than are free: one tenant alone fills half of the rooms,
    two fill a third each, and a newcomer finds one. Turns in the queue go round the tenants.
    """

    def __init__(self, rooms: int) -> None:
        self._free = rooms
        self._held: Counter[UUID] = Counter()
        self._queue: Turns[Guest] = Turns()
        self._called: dict[Guest, asyncio.Event] = {}

    @asynccontextmanager
    async def room(self, guest: Guest) -> AsyncIterator[None]:
        """A room of its own, once its turn has come."""
        await self._wait_turn(guest)
        try:
            yield
        finally:
            self._leave(guest)

    async def _wait_turn(self, guest: Guest) -> None:
        self._called[guest] = called = asyncio.Event()
        self._queue.add(guest.tenant, guest)
        self._call_next()
        if not called.is_set():
            guest.show_place(next(place for place, other in enumerate(self._queue, 1) if other is guest))
        try:
            await called.wait()
        except asyncio.CancelledError:
            if not self._queue.discard(guest.tenant, guest):
                self._leave(guest)  # its turn had come
            raise
        finally:
            del self._called[guest]

    def _leave(self, guest: Guest) -> None:
        """The next one's turn has come; those behind it move up."""
        self._free += 1
        self._held[guest.tenant] -= 1
        if not self._held[guest.tenant]:
            del self._held[guest.tenant]
        self._call_next()
        for place, waiting in enumerate(self._queue, 1):
            waiting.show_place(place)

    def _call_next(self) -> None:
        while (guest := self._queue.take(lambda tenant: self._held[tenant] < self._free)) is not None:
            self._free -= 1
            self._held[guest.tenant] += 1
            self._called[guest].set()
