"""Telling readers of new events with NOTIFY. It is a hint: it may come before the events can be read."""

from __future__ import annotations

import asyncio

import structlog

from mesh_core.database.listening import Listener
from mesh_core.database.pool import Database
from mesh_core.database.unavailable import UNAVAILABLE

logger = structlog.get_logger(__name__)

CHANNEL = "sessionmesh_events"


class Notifier:
    """Sends one NOTIFY for all commits of the last `every` seconds, at most.

    Not in the transactions themselves: Postgres takes a lock for those that notify, which makes commits wait
    for each other.
    """

    def __init__(self, database: Database, *, every: float = 0.05) -> None:
        self.sent = 0
        self._database = database
        self._every = every
        self._dirty = asyncio.Event()

    def wake(self) -> None:
        """Events were committed: have the readers told."""
        self._dirty.set()

    async def run(self) -> None:
        """Notifies at once when it was quiet, then every `every` seconds at most; until it is cancelled."""
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            try:
                await self._database.pool.execute(f"NOTIFY {CHANNEL}")
                self.sent += 1
            except UNAVAILABLE as error:  # readers look by themselves every second
                logger.warning("cannot notify of events", error=repr(error))
            await asyncio.sleep(self._every)


class EventListener(Listener):
    """One LISTEN connection for all readers of a process."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, CHANNEL)
