"""Telling readers of new events: a hint, never more, since it may come before they can be read."""

from __future__ import annotations

import asyncio

import asyncpg
import structlog

from mesh_core.database.pool import Database

logger = structlog.get_logger(__name__)

CHANNEL = "sessionmesh_events"


class Notifier:
    """One NOTIFY for all commits of the last `every` seconds, after the commit and apart from it: inside it
    serialises commits.
    """

    def __init__(self, database: Database, *, every: float = 0.05) -> None:
        self.sent = 0
        self._database = database
        self._every = every
        self._dirty = asyncio.Event()

    def poke(self) -> None:
        """There are new events."""
        self._dirty.set()

    async def run(self) -> None:
        """Notifies at once when it was quiet, then every `every` seconds at most; until it is cancelled."""
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            try:
                await self._database.pool.execute(f"NOTIFY {CHANNEL}")
                self.sent += 1
            except _AWAY as error:  # readers look by themselves every second
                logger.warning("events: no NOTIFY", error=repr(error))
            await asyncio.sleep(self._every)


class EventListener:
    """One LISTEN connection for all readers of a process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: set[asyncio.Event] = set()

    def subscribe(self) -> asyncio.Event:
        """An event that is set whenever there may be something new; `unsubscribe` it."""
        event = asyncio.Event()
        self._waiting.add(event)
        return event

    def unsubscribe(self, event: asyncio.Event) -> None:
        self._waiting.discard(event)

    async def run(self) -> None:
        """Listens, again and again when the connection ends; until it is cancelled."""
        while True:
            try:
                connection = await self._database.connect_direct()
                lost = asyncio.Event()
                try:
                    connection.add_termination_listener(lambda *_, lost=lost: lost.set())
                    await connection.add_listener(CHANNEL, self._heard)
                    self._heard()  # whatever came while nobody listened
                    await lost.wait()
                finally:
                    connection.terminate()
            except _AWAY as error:
                logger.warning("events: not listening", error=repr(error))
            await asyncio.sleep(_RELISTEN)

    def _heard(self, *_: object) -> None:
        for event in self._waiting:
            event.set()


_AWAY = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
_RELISTEN = 0.5
