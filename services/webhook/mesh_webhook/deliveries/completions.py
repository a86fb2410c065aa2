"""Stores completions in batches: those that arrive during one commit share the next one."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import asyncpg
import structlog
from asyncpg.pgproto.pgproto import UUID

from mesh_core.backoff import Backoff
from mesh_core.database import UNAVAILABLE
from mesh_core.metrics import counter
from mesh_core.signal import Signal
from mesh_webhook.deliveries import claims
from mesh_webhook.deliveries.claims import Completion

logger = structlog.get_logger(__name__)

UNSTORED = counter(
    "mesh_webhook_unstored_answers_total",
    "Attempts whose answers the database refused to store.",
    answers="Are webhooks sent twice for our own fault?",
)

UNSTORABLE = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
    asyncpg.FeatureNotSupportedError,  # such as a number made of an infinite time
    asyncpg.InternalServerError,  # such as a damaged row
)
"""Raised for what some rows contain: the same statement may succeed for others."""


class CompletionWriter:
    """The only writer of completions in this process; `run` it as a task."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._waiting: list[tuple[Completion, asyncio.Future[bool]]] = []
        self._added = Signal()

    async def complete(self, completion: Completion) -> bool:
        """Returns once it is committed; False when the claim had lapsed and nothing was stored."""
        stored: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((completion, stored))
        self._added.notify()
        return await stored

    async def run(self) -> None:
        """Runs until it is cancelled, and repeats a batch while the database is unavailable.

        A completion whose claim lapsed meanwhile is then refused. One that the database cannot store,
        alone of its batch, is stored without what the endpoint said.
        """
        while True:
            await self._added.wait_until(lambda: self._waiting)
            batch, self._waiting = self._waiting[:_MAX_BATCH], self._waiting[_MAX_BATCH:]
            held = await self._store([completion for completion, _ in batch])
            for completion, stored in batch:
                if not stored.done():
                    stored.set_result(completion.delivery in held)

    async def _store(self, batch: list[Completion]) -> set[UUID]:
        """Stores a batch; halves one that the database refuses, so that only what it refuses is changed."""
        try:
            return await self._write(batch)
        except UNSTORABLE as error:
            if len(batch) == 1:
                return await self._store_bare(batch[0], error)
        middle = len(batch) // 2
        return await self._store(batch[:middle]) | await self._store(batch[middle:])

    async def _store_bare(self, completion: Completion, error: Exception) -> set[UUID]:
        """Stores that there was an attempt; if not even that can be, its delivery is claimed again later."""
        UNSTORED.inc()
        logger.error("an attempt cannot be stored", delivery=str(completion.delivery), error=repr(error))
        said = replace(completion.result, error="the answer cannot be stored", body=b"")
        try:
            return await self._write([replace(completion, result=said)])
        except UNSTORABLE:
            return set()

    async def _write(self, batch: list[Completion]) -> set[UUID]:
        backoff = Backoff(_FIRST_PAUSE_SECONDS, _MAX_PAUSE_SECONDS)
        while True:
            try:
                return await claims.complete(self._pool, batch)
            except UNAVAILABLE as error:
                logger.warning("attempts cannot be stored, retrying", count=len(batch), error=repr(error))
                await asyncio.sleep(backoff.next())


_MAX_BATCH = 50
_FIRST_PAUSE_SECONDS = 0.5
_MAX_PAUSE_SECONDS = 2.0
