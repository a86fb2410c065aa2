"""Does what is still to be done to media, so much at once, in turns over the tenants."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog
from asyncpg.pgproto.pgproto import UUID

from mesh_core import ids
from mesh_core.database import UNAVAILABLE
from mesh_core.ids import Prefix
from mesh_core.telemetry import tracing
from mesh_core.turns import Turns
from mesh_media.repository.rows import WorkRow
from mesh_media.repository.work_repository import CLAIM, WorkRepository

logger = structlog.get_logger(__name__)


class Lane:
    """Work of one kind. What a process holds alone (`add`) and what it claims from the database, which every
    replica does, come alternately.
    """

    def __init__(
        self,
        work: WorkRepository,
        kind: int,
        do: Callable[[WorkRow], Awaitable[None]],
        *,
        places: int,
        of_a_tenant: int,
    ) -> None:
        """`do` does one piece of work and says in the database how it ended; it raises nothing. `places` are
        done at once, `of_a_tenant` of one tenant.
        """
        self._work = work
        self._kind = kind
        self._do = do
        self._places = places
        self._of_a_tenant = of_a_tenant
        self._own: Turns[UUID] = Turns()
        self._rows: dict[UUID, WorkRow] = {}
        self._running: dict[UUID, UUID] = {}
        self._last = UUID(bytes(16))
        self._own_turn = True
        self._news = asyncio.Event()

    @property
    def own(self) -> int:
        """How much this process holds alone, and has not begun."""
        return len(self._own)

    def own_of(self, tenant: UUID) -> int:
        """How much of that is this tenant's."""
        return sum(row.tenant == tenant for row in self._rows.values())

    def wake(self) -> None:
        """There is new work."""
        self._news.set()

    def add(self, row: WorkRow) -> None:
        """Takes work whose claim this process has."""
        self._rows[row.media] = row
        self._own.add(row.tenant, row.media)
        self._news.set()

    async def run(self) -> None:
        """Works until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_claims(), name="keep claims to media work")
            while True:
                self._news.clear()
                while len(self._running) < self._places and (row := await self._next()) is not None:
                    self._last = row.tenant
                    self._running[row.media] = row.tenant
                    group.create_task(self._run(row), name="media work")
                with suppress(TimeoutError):
                    async with asyncio.timeout(_POLL_SECONDS):
                        await self._news.wait()

    async def _run(self, row: WorkRow) -> None:
        about: tracing.Attributes = {
            "mesh.media.id": ids.encode(Prefix.MEDIA, row.media),
            "mesh.attempt": row.attempts + 1,
        }
        try:
            with tracing.span(
                "mesh.media.work", parent=tracing.found(f"media/{row.media}"), attributes=about
            ):
                await self._do(row)
        finally:
            del self._running[row.media]
            self._news.set()

    async def _next(self) -> WorkRow | None:
        counts = Counter(self._running.values())
        busy = [tenant for tenant, count in counts.items() if count >= self._of_a_tenant]
        self._own_turn = not self._own_turn
        for own in (self._own_turn, not self._own_turn):
            if own:
                media = self._own.take(may=lambda tenant: tenant not in busy)
                if media is not None:
                    return self._rows.pop(media)
                continue
            try:
                row = await self._work.claim(self._kind, self._last, busy)
            except UNAVAILABLE as error:
                logger.warning("media work waits for Postgres", error=repr(error))
                continue
            if row is not None and self._is_new(row):
                return row
        return None

    def _is_new(self, row: WorkRow) -> bool:
        """Whether work that was claimed is not being done here: its claim had run out while nobody could
        renew it, and holds again.
        """
        if self._rows.pop(row.media, None) is not None:
            self._own.discard(row.tenant, row.media)
        return row.media not in self._running

    async def _keep_claims(self) -> None:
        while True:
            await asyncio.sleep(CLAIM.total_seconds() / 4)
            if held := [*self._running, *self._rows]:
                try:
                    await self._work.renew(self._kind, held)
                except UNAVAILABLE as error:
                    logger.warning("claims to media work are not renewed", error=repr(error))


_POLL_SECONDS = 1.0
"""How often a process looks for what others have added, or left undone."""
