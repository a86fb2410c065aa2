"""Deletes media whose time is over and those beyond a limit, and then the objects that nothing refers to."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from time import monotonic

import structlog

from mesh_core.metrics import counter, counters, gauge
from mesh_media.repository.expiry_repository import BATCH, ExpiryRepository
from mesh_media.repository.limit_repository import MOST, Limit, LimitRepository, Look
from mesh_media.repository.object_repository import ObjectRepository
from mesh_media.repository.rows import Batch
from mesh_media.repository.usage_repository import UsageRepository
from mesh_media.retention.quota_watch import QuotaWatch
from mesh_media.stores.object_store import ObjectStore

logger = structlog.get_logger(__name__)

_REASONS = ("expired", "limit")
DELETED_OBJECTS = counter(
    "mesh_media_deleted_objects_total", "Objects deleted from the store.", answers="Is space given back?"
)
DELETED_MEDIA = counters(
    "mesh_media_deleted_media_total",
    "Media deleted by the sweeper, by reason.",
    answers="What is deleted, and why?",
    reason=_REASONS,
)
DELETED_BYTES = counters(
    "mesh_media_deleted_bytes_total",
    "Bytes of these, shared objects included.",
    answers="How much is deleted, and why?",
    reason=_REASONS,
)
SWEEP_FAILURES = counter(
    "mesh_media_sweep_failures_total",
    "Sweeps that a backing server cut short.",
    answers="Is what is over deleted?",
)
WAITING = gauge(
    "mesh_media_work_waiting",
    "Media to be processed or fetched, by whichever replica.",
    answers="Does media keep up?",
)
WAITING.set(0)
STUCK_OBJECTS = counter(
    "mesh_media_stuck_objects_total",
    "Objects that the store did not delete when asked.",
    answers="Does the store keep what was deleted?",
)

SELDOM = 4
"""How many intervals pass between two looks for tenants and categories that have too much."""


class Sweeper:
    """Any number of instances may sweep at once: what one is at, the others leave to it, and deleting an
    object twice does no harm. Each part of the work goes its own pace, so none waits for another.
    """

    def __init__(
        self,
        expiry: ExpiryRepository,
        objects: ObjectRepository,
        store: ObjectStore,
        *,
        interval_seconds: float,
        usage: UsageRepository,
        limits: LimitRepository,
    ) -> None:
        self._expiry = expiry
        self._limits = limits
        self._usage = usage
        self._objects = objects
        self._store = store
        self._interval_seconds = interval_seconds
        self._quotas = QuotaWatch(objects)

    async def run(self) -> None:
        """Sweeps at intervals until it is cancelled."""
        often, seldom = self._interval_seconds, SELDOM * self._interval_seconds
        async with asyncio.TaskGroup() as parts:
            for part in (self.expire_media, self.delete_objects, self.settle, self.count_work):
                parts.create_task(self._repeat(part, often))
            for part in (
                self.make_room,
                self._quotas.look,
                self._expiry.put_totals_together,
                self.report_usage,
            ):
                parts.create_task(self._repeat(part, seldom))

    async def expire_media(self) -> None:
        """Deletes the media that have expired; their objects become due. Rests between two batches for a
        quarter of what one took: the database is others', too.
        """
        while True:
            began = monotonic()
            batch = await self._expiry.delete_due()
            self._count(batch, "expired")
            if batch.seen < BATCH:
                return
            await asyncio.sleep((monotonic() - began) / 4)

    async def make_room(self) -> None:
        """Deletes the oldest of what is beyond the limits of categories and tenants, one after the other."""
        async with self._limits.look() as look:
            if look is None:
                return
            async for limit in look.limits():
                began = monotonic()
                if await self._hold(look, limit):
                    logger.info(
                        "a limit of media was passed", tenant=str(limit.tenant), category=limit.category
                    )
                await asyncio.sleep((monotonic() - began) / 4)

    async def _hold(self, look: Look, limit: Limit) -> int:
        """Has a limit hold; how many files it looked at for that."""
        seen = deleted = 0
        while found := (much := await look.too_much(limit)).media:
            for first in range(0, len(found), BATCH):
                began = monotonic()
                batch = await self._limits.evict(limit, much.time, found[first : first + BATCH])
                self._count(batch, "limit")
                seen, deleted = seen + batch.seen, deleted + batch.deleted
                await asyncio.sleep((monotonic() - began) / 4)
            if len(found) < MOST or not deleted:
                break
        return seen

    async def settle(self) -> None:
        """Has media follow references and rules that were changed."""
        while await self._expiry.settle_changed() or await self._expiry.settle_policies():
            pass

    async def count_work(self) -> None:
        """Has the metric say how much waits."""
        WAITING.set(await self._expiry.waiting_work())

    async def report_usage(self) -> None:
        """Counts what tenants with very many files store, for when they ask."""
        while await self._usage.report():
            pass

    async def delete_objects(self) -> None:
        """Deletes the objects that are due. One that the store does not delete is left for later and stops no
        other; raises when it deletes none.
        """
        while keys := await self._objects.due_for_deletion():
            outcomes = await self._delete(keys)
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

    async def _delete(self, keys: Sequence[str]) -> Sequence[BaseException | None]:
        """What became of each: all at once, or one by one where that finds out which it is about."""
        try:
            await self._store.delete_all(keys)
        except Exception:  # of any of them: the others are deleted all the same, and who failed is told
            return await asyncio.gather(*(self._store.delete(key) for key in keys), return_exceptions=True)
        return [None] * len(keys)

    def _count(self, batch: Batch, reason: str) -> None:
        DELETED_MEDIA.labels(reason).inc(batch.deleted)
        DELETED_BYTES.labels(reason).inc(batch.bytes)

    async def _repeat(self, part: Callable[[], Awaitable[object]], interval: float) -> None:
        while True:
            try:
                await part()
            except Exception as error:  # the next sweep continues where this one stopped
                SWEEP_FAILURES.inc()
                logger.warning("sweep cut short", error=repr(error))
            await asyncio.sleep(interval)


_RETRY = timedelta(minutes=10)
