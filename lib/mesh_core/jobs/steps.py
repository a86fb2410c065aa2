"""Jobs that are many like steps: progress is stored after each, and the next one begins behind it."""

from __future__ import annotations

import json
from abc import abstractmethod
from dataclasses import dataclass
from time import monotonic

import asyncpg
import structlog

from mesh_core.errors import MeshError, Unavailable
from mesh_core.jobs import store, traces
from mesh_core.jobs.worker import Worker
from mesh_core.rpc.server.status import details_of
from sessionmesh.v1 import job_pb2

logger = structlog.get_logger(__name__)

TURN_SECONDS = 30.0
"""How long a job works before those of other tenants have their turn."""


@dataclass(frozen=True, slots=True)
class Step:
    """What one step did: `done` items, `failed` ones included, and `done_bytes`. `error` is why its last
    failed item failed. `position` is where the next step begins, None when nothing is left. `waits`: there is
    nothing to do at present, and others have their turn.
    """

    position: str | None
    done: int = 0
    failed: int = 0
    done_bytes: int = 0
    error: MeshError | None = None
    waits: bool = False


class SteppedWorker(Worker):
    """A kind of job whose work is steps of a second or so. What `step` raises ends the job as FAILED when it
    is an error of the domain other than `Unavailable`; whatever else it raises is logged, and the step is
    tried again.
    """

    @abstractmethod
    async def step(self, connection: asyncpg.Connection, row: asyncpg.Record, position: str) -> Step:
        """Does the step that begins at `position`, which is empty for the first one. A process that died in a
        step did none or some of it, so it must do no harm twice. `row` is the job's, as its turn began.
        """

    async def cancel(self, connection: store.Connection, row: asyncpg.Record) -> asyncpg.Record:
        """At once before it began; else after the step that it is at."""
        if row["state"] != job_pb2.JOB_STATE_PENDING:
            return row
        return await store.change(
            connection, row["id"], job_pb2.JOB_STATE_CANCELLED, row["total"], row["done"]
        )

    async def work(self, connection: asyncpg.Connection, row: asyncpg.Record) -> None:
        position = json.loads(row["detail"]).get("position", "")
        until = monotonic() + TURN_SECONDS
        cancelled = row["cancel_time"] is not None
        while not cancelled and monotonic() < until:
            try:
                step = await self.step(connection, row, position)
            except Unavailable:
                raise
            except MeshError as error:
                logger.warning("a job failed", kind=self.name, job=str(row["id"]), error=repr(error))
                await self._end(connection, row, job_pb2.JOB_STATE_FAILED, error)
                return
            cancelled = await connection.fetchval(
                _RECORD,
                row["id"],
                step.done,
                step.failed,
                step.done_bytes,
                step.position,
                details_of(step.error) if step.error else None,
            )
            if step.position is None:
                logger.info("a job is done", kind=self.name, job=str(row["id"]))
                traces.record_end(row["id"], self.kind, job_pb2.JOB_STATE_SUCCEEDED)
                return
            position = step.position
            if step.waits:
                break
        if cancelled:
            await self._end(connection, row, job_pb2.JOB_STATE_CANCELLED, None)

    async def _end(
        self,
        connection: asyncpg.Connection,
        row: asyncpg.Record,
        state: job_pb2.JobState.ValueType,
        error: MeshError | None,
    ) -> None:
        await connection.execute(_END, row["id"], state, details_of(error) if error else None)
        traces.record_end(row["id"], self.kind, state)


# `total` was counted before it began: what came or went since is in `done`.
_RECORD = f"""UPDATE job SET done = done + $2, failed = failed + $3, done_bytes = done_bytes + $4,
    detail = detail || jsonb_strip_nulls(jsonb_build_object('position', $5::text)),
    error = coalesce($6, error), update_time = now(),
    state = CASE WHEN $5 IS NULL THEN {job_pb2.JOB_STATE_SUCCEEDED} ELSE state END,
    end_time = CASE WHEN $5 IS NULL THEN now() END,
    total = CASE WHEN $5 IS NULL THEN done + $2 ELSE total END,
    total_bytes = CASE WHEN $5 IS NULL THEN done_bytes + $4 ELSE total_bytes END
  WHERE id = $1 RETURNING cancel_time IS NOT NULL"""  # noqa: S608 - constants
_END = """UPDATE job SET state = $2, error = coalesce($3, error), update_time = now(), end_time = now()
  WHERE id = $1"""
