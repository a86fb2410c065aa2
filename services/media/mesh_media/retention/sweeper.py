"""What deletes expired media, and objects that nothing speaks for."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import asyncpg
import structlog

from mesh_core.errors import Unavailable
from mesh_core.objects import ObjectStore
from mesh_media import metrics
from mesh_media.catalogue import Catalogue
from mesh_media.settings import MediaSettings

logger = structlog.get_logger(__name__)

AWAY = (Unavailable, asyncpg.PostgresError, asyncpg.InterfaceError, OSError)
"""What a backing server that is away raises; the next sweep goes on where this one stopped."""


class Sweep:
    """Any number of instances may sweep at once: deleting an object twice is harmless."""

    def __init__(self, settings: MediaSettings, catalogue: Catalogue, store: ObjectStore) -> None:
        self._every = settings.sweep_seconds
        self._grace = timedelta(seconds=settings.delete_grace_seconds)
        self._catalogue = catalogue
        self._store = store

    async def run(self) -> None:
        """Sweep now and then, until cancelled."""
        while True:
            try:
                await self.once()
            except AWAY as error:
                metrics.sweep_failures.inc()
                logger.warning("sweep cut short", error=repr(error))
            await asyncio.sleep(self._every)

    async def once(self) -> None:
        """Delete everything that is due now."""
        while await self._catalogue.delete_expired(self._grace):
            pass
        while keys := await self._catalogue.due_objects():
            await asyncio.gather(*(self._store.delete(key) for key in keys))
            await self._catalogue.forget_objects(keys)
            metrics.deleted_objects.inc(len(keys))
