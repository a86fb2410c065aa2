"""Gathers completions: all that came while the last ones were committed go into the next transaction."""

from __future__ import annotations

import asyncio

import asyncpg
import structlog
from asyncpg.pgproto.pgproto import UUID

from mesh_webhook import deliveries
from mesh_webhook.away import AWAY
from mesh_webhook.deliveries import Completion

logger = structlog.get_logger(__name__)


class Completions:
    """The one writer of completions; `run` it as a task."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._open: list[tuple[Completion, asyncio.Future[bool]]] = []
        self._dirty = asyncio.Event()

    async def complete(self, completion: Completion) -> bool:
        """Returns once it is committed; False when the claim had lapsed, and nothing was stored."""
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._open.append((completion, done))
        self._dirty.set()
        return await done

    async def run(self) -> None:
        """Until it is cancelled. While the database is away it tries again.

        What comes too late by that is refused: its claim has lapsed.
        """
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            while self._open:
                batch, self._open = self._open[:_MOST], self._open[_MOST:]
                held = await self._write([completion for completion, _ in batch])
                for completion, done in batch:
                    if not done.done():
                        done.set_result(completion.delivery in held)

    async def _write(self, batch: list[Completion]) -> set[UUID]:
        while True:
            try:
                return await deliveries.complete(self._pool, batch)
            except AWAY as error:
                logger.warning("deliveries cannot be completed", count=len(batch), error=repr(error))
                await asyncio.sleep(_RETRY)


_MOST = 500
_RETRY = 0.5
