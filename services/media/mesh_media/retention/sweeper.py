"""Deletes expired media, and objects that no media row refers to."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import structlog
from prometheus_client import Counter

from mesh_media.repository.media_repository import MediaRepository
from mesh_media.repository.object_repository import ObjectRepository
from mesh_media.stores.object_store import ObjectStore

logger = structlog.get_logger(__name__)

DELETED_OBJECTS = Counter("mesh_media_deleted_objects", "Objects deleted from the store.")
SWEEP_FAILURES = Counter("mesh_media_sweep_failures", "Sweeps that a backing server cut short.")


STUCK_OBJECTS = Counter("mesh_media_stuck_objects", "Objects that the store did not delete when asked.")


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
            for part in (self.expire_media, self.delete_objects):
                try:
                    await part()
                except Exception as error:  # the next sweep continues where this one stopped
                    SWEEP_FAILURES.inc()
                    logger.warning("sweep cut short", error=repr(error))
            await asyncio.sleep(self._interval_seconds)

    async def expire_media(self) -> None:
        """Deletes the media that have expired; their objects become due."""
        while await self._media.delete_expired(self._delete_grace):
            pass

    async def delete_objects(self) -> None:
        """Deletes the objects that are due. One that the store does not delete is left for later and stops no
        other; raises when it deletes none.
        """
        while keys := await self._objects.due_for_deletion():
            outcomes = await asyncio.gather(
                *(self._store.delete(key) for key in keys), return_exceptions=True
            )
            failed = {key: error for key, error in zip(keys, outcomes, strict=True) if error is not None}
            if failed:
                STUCK_OBJECTS.inc(len(failed))
                await self._objects.postpone([*failed], _RETRY)
            if len(failed) == len(keys):
                raise next(iter(failed.values()))
            await self._objects.remove([key for key in keys if key not in failed])
            DELETED_OBJECTS.inc(len(keys) - len(failed))
            for key, error in failed.items():
                logger.warning("an object was not deleted", key=key, error=repr(error))


_RETRY = timedelta(minutes=10)
