"""Jobs that any process of their service goes on with where another one stopped."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from contextlib import suppress
from time import monotonic
from typing import ClassVar

import asyncpg
import structlog
from asyncpg.pgproto.pgproto import UUID

from mesh_core.database import Database
from mesh_core.jobs import store, traces
from mesh_core.jobs.resource import Progress
from mesh_core.jobs.store import Total
from sessionmesh.v1 import job_pb2

logger = structlog.get_logger(__name__)

LOOK_SECONDS = 2.0
"""Time between two looks for jobs."""


class Worker(ABC):
    """Works on all jobs of its kind, each in one process at a time; `run` must run in every process of the
    service.

    A job is claimed by a lock of a connection that nothing else uses, which Postgres gives back when that
    ends, however the process ended. One job after the other, in turns over the tenants.
    """

    kind: ClassVar[job_pb2.JobKind.ValueType]

    def __init__(self, database: Database) -> None:
        self._database = database
        self._woken = asyncio.Event()
        self._last = store.OPERATOR
        """Whose turn was the last one."""
        self._tried: dict[UUID, float] = {}
        """When a job's last turn ended."""

    @abstractmethod
    async def work(self, connection: asyncpg.Connection, row: asyncpg.Record) -> None:
        """Does what the job of this row asks for, whatever of it was done before, and records its end.

        The connection's transactions are short. What it raises is logged, and the job is tried again.
        """

    @abstractmethod
    async def count(self, connection: store.Connection, row: asyncpg.Record) -> Total:
        """How much there is to do."""

    @abstractmethod
    async def cancel(self, connection: store.Connection, row: asyncpg.Record) -> asyncpg.Record:
        """Cancels the job, whose row is locked, or leaves it; returns its row.

        Raises `FailedPrecondition` for one that cannot be cancelled any more.
        """

    def progress(self, row: asyncpg.Record) -> Progress:
        """As stored: it is written after each step."""
        return Progress(row["total"], row["done"])

    async def advance(self, job: UUID) -> asyncpg.Record | None:
        """Cancels the job where that was asked for; returns its row. Raises as `cancel`."""
        async with self._database.pool.acquire() as connection, connection.transaction():
            row = await store.lock(connection, job)
            if row is None or row["end_time"] is not None or row["cancel_time"] is None:
                return row
            return await self.cancel(connection, row)

    async def run(self) -> None:
        """Goes on with every job that has not ended, until cancelled."""
        while True:
            self._woken.clear()
            try:
                while row := await self._next():
                    await self._guarded(row)
                    self._last, self._tried[row["id"]] = row["tenant"] or store.OPERATOR, monotonic()
            except Exception as error:  # whatever it is, the next look may do better
                logger.warning("no look for jobs", kind=self.name, error=repr(error))
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._woken.wait()

    def wake(self) -> None:
        """A job was begun in this process: it need not wait for the next look."""
        self._woken.set()

    async def _next(self) -> asyncpg.Record | None:
        """Whose turn it is; None when all were tried a moment ago."""
        before = monotonic() - LOOK_SECONDS
        self._tried = {job: ended for job, ended in self._tried.items() if ended > before}
        return await store.next_unfinished(self._database.pool, self.kind, self._last, self._tried)

    @property
    def name(self) -> str:
        """Of the kind, for logs."""
        return job_pb2.JobKind.Name(self.kind).removeprefix("JOB_KIND_")

    async def _guarded(self, row: asyncpg.Record) -> None:
        """One job that fails stops no other; it is tried again."""
        try:
            async with self._database.alone(f"job about {row['subject'] or row['id']}") as connection:
                if connection is not None and (begun := await self._begun(row["id"])) is not None:
                    with traces.turn(row["id"], self.kind):
                        await self.work(connection, begun)
        except Exception as error:
            logger.warning("a job is not done yet", kind=self.name, job=str(row["id"]), error=repr(error))

    async def _begun(self, job: UUID) -> asyncpg.Record | None:
        """Has the job begin; None where it has ended, or was cancelled before that."""
        async with self._database.pool.acquire() as connection, connection.transaction():
            row = await store.lock(connection, job)
            if row is None or row["end_time"] is not None:
                return None
            if row["state"] != job_pb2.JOB_STATE_PENDING:
                return row
            if row["cancel_time"] is not None:
                await self.cancel(connection, row)
                return None
            total = await self.count(connection, row)
            logger.info("a job begins", kind=self.name, job=str(job), items=total.items)
            return await store.begin(connection, job, total)
