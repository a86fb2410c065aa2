"""Deletes expired media, and objects that no media row refers to."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import structlog
from prometheus_client import Counter

from mesh_core.database import UNAVAILABLE
from mesh_core.errors import Unavailable
from mesh_media.repository.media_repository import MediaRepository
from mesh_media.repository.object_repository import ObjectRepository
from mesh_media.stores.object_store import ObjectStore

logger = structlog.get_logger(__name__)

DELETED_OBJECTS = Counter("mesh_media_deleted_objects", "Objects deleted from the store.")
SWEEP_FAILURES = Counter("mesh_media_sweep_failures", "Sweeps that a backing server cut short.")


class Sweeper:
    """Any number of instances may sweep at once: deleting an object twice does no harm."""

    def __init__(
        self,
        media: MediaRepository,
        objects: ObjectRepository,
        store: ObjectStore,
        *,
        interval_seconds: float,
        delete_grace: timedelta,
    ) -> None:
        self._media = media
        self._objects = objects
        self._store = store
        self._interval_seconds = interval_seconds
        self._delete_grace = delete_grace

    async def run(self) -> None:
        """Sweeps at intervals until it is cancelled."""
        while True:
            try:
                await self.sweep()
            except _BACKENDS_UNAVAILABLE as error:  # the next sweep continues where this one stopped
                SWEEP_FAILURES.inc()
                logger.warning("sweep cut short", error=repr(error))
            await asyncio.sleep(self._interval_seconds)

    async def sweep(self) -> None:
        """Deletes everything that is due now."""
        while await self._media.delete_expired(self._delete_grace):
            pass
        while keys := await self._objects.due_for_deletion():
            await asyncio.gather(*(self._store.delete(key) for key in keys))
            await self._objects.remove(keys)
            DELETED_OBJECTS.inc(len(keys))


_BACKENDS_UNAVAILABLE: tuple[type[Exception], ...] = (*UNAVAILABLE, Unavailable)  # Postgres, the object store
