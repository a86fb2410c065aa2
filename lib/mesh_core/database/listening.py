"""LISTEN: hearing what other processes tell with NOTIFY."""

from __future__ import annotations

import asyncio

import structlog

from mesh_core.backoff import Backoff
from mesh_core.database.pool import Database
from mesh_core.database.unavailable import UNAVAILABLE
from mesh_core.signal import Signal

logger = structlog.get_logger(__name__)


class Listener:
    """Listens to one channel over a connection of its own, for everybody in this process.

    `heard` is notified of each NOTIFY, and whenever the connection was made, because something may have been
    missed before. It is a hint: look at intervals too, since a connection may die unnoticed.
    """

    def __init__(self, database: Database, channel: str) -> None:
        self.heard = Signal()
        self._database = database
        self._channel = channel

    async def run(self) -> None:
        """Listens, and connects again whenever the connection ends; until it is cancelled."""
        backoff = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE, jitter=0.5)
        while True:
            try:
                connection = await self._database.connect_direct()
                ended = asyncio.Event()
                try:
                    connection.add_termination_listener(lambda *_, ended=ended: ended.set())
                    await connection.add_listener(self._channel, self._notify)
                    backoff.reset()
                    self._notify()
                    await ended.wait()
                finally:
                    connection.terminate()
                logger.warning("listening ended, connecting again", channel=self._channel)
            except UNAVAILABLE as error:
                logger.warning("cannot listen", channel=self._channel, error=repr(error))
            await asyncio.sleep(backoff.next())

    def _notify(self, *_: object) -> None:
        self.heard.notify()


_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 2.0
