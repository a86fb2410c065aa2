"""So many jobs at once, in turns over the tenants."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

from asyncpg.pgproto.pgproto import UUID

from mesh_core.metrics import gauges
from mesh_core.turns import Turns

WAITING = gauges(
    "mesh_media_processing_waiting",
    "Files whose turn to be processed or stored has not come.",
    answers="Does media lack processors?",
    lane=("pictures", "films", "storing"),
)

MOST_BESIDE = 2
"""Jobs that go on beside those that have places, because their turn is over."""


class Lane:
    """Places for `places` jobs, so that a tenant with hundreds in the queue delays another one's by one.

    A job that has had its place for `turn_seconds` gives it to one of another tenant that waits, and goes on
    beside it, at most `MOST_BESIDE` so: so one that takes long delays another tenant's by its turn. A tenant
    whose job goes on beside gets no place until that has ended.
    """

    def __init__(self, name: str, places: int, turn_seconds: float = math.inf) -> None:
        """`name` is a value of a metric's label."""
        self.name = name
        self._places = places
        self._turn_seconds = turn_seconds
        self._holders: dict[_Job, None] = {}  # the longest there first
        self._beside: set[_Job] = set()
        self._waiting = WAITING.labels(name)
        self._waiting.set(0)
        self._turns: Turns[_Job] = Turns()

    @asynccontextmanager
    async def place(self, tenant: UUID) -> AsyncIterator[None]:
        """Has a place until the block ends, once it is the tenant's turn."""
        job = _Job(tenant)
        self._turns.add(tenant, job)
        self._call_next()
        self._waiting.set(len(self._turns))
        try:
            await job.called.wait()
        except asyncio.CancelledError:
            if not self._turns.discard(tenant, job):  # it was called just now
                self._end(job)
            raise
        finally:
            self._waiting.set(len(self._turns))
        over = asyncio.get_running_loop().call_later(min(self._turn_seconds, _NEVER), self._turn_over, job)
        try:
            yield
        finally:
            over.cancel()
            self._end(job)

    def _turn_over(self, job: _Job) -> None:
        job.is_over = True
        self._call_next()

    def _end(self, job: _Job) -> None:
        self._holders.pop(job, None)
        self._beside.discard(job)
        self._call_next()

    def _call_next(self) -> None:
        while len(self._holders) < self._places and (job := self._turns.take(self._may)) is not None:
            self._call(job)
        for old in [job for job in self._holders if job.is_over][: MOST_BESIDE - len(self._beside)]:
            if (job := self._turns.take(partial(self._may, beside=old.tenant))) is not None:
                del self._holders[old]
                self._beside.add(old)
                self._call(job)

    def _call(self, job: _Job) -> None:
        self._holders[job] = None
        job.called.set()

    def _may(self, tenant: UUID, beside: UUID | None = None) -> bool:
        return tenant != beside and all(job.tenant != tenant for job in self._beside)


@dataclass(slots=True, eq=False)
class _Job:
    tenant: UUID
    called: asyncio.Event = field(default_factory=asyncio.Event)
    is_over: bool = False
    """Whether it has had its turn."""


_NEVER = 86_400.0
"""Seconds; longer than any job may take."""
