"""What is asked of table `job`. A job that has an `end_time` has ended and never changes again."""

from __future__ import annotations

import asyncpg
from asyncpg.pgproto.pgproto import UUID
from asyncpg.pool import PoolConnectionProxy

from sessionmesh.v1 import job_pb2

Connection = PoolConnectionProxy
ENDED = (job_pb2.JOB_STATE_SUCCEEDED, job_pb2.JOB_STATE_FAILED, job_pb2.JOB_STATE_CANCELLED)


async def get(database: asyncpg.Pool | Connection, job: UUID) -> asyncpg.Record | None:
    return await database.fetchrow("SELECT * FROM job WHERE id = $1", job)


async def lock(connection: Connection, job: UUID) -> asyncpg.Record | None:
    """The row, for the rest of the transaction; None also while somebody else has it."""
    return await connection.fetchrow("SELECT * FROM job WHERE id = $1 FOR UPDATE SKIP LOCKED", job)


async def wait_lock(connection: Connection, job: UUID) -> asyncpg.Record | None:
    """The row, for the rest of the transaction, once nobody else has it."""
    return await connection.fetchrow("SELECT * FROM job WHERE id = $1 FOR UPDATE", job)


async def insert(
    connection: Connection,
    job: UUID,
    kind: job_pb2.JobKind.ValueType,
    subject: str,
    detail: str,
    tenant: UUID | None = None,
) -> asyncpg.Record:
    """A PENDING job; `detail` is JSON."""
    inserted = await connection.fetchrow(_INSERT, job, tenant, kind, subject, detail)
    assert inserted is not None  # noqa: S101 - INSERT ... RETURNING
    return inserted


async def change(
    connection: Connection,
    job: UUID,
    state: job_pb2.JobState.ValueType,
    total: int,
    done: int,
    error: bytes | None = None,
) -> asyncpg.Record:
    """The locked row with a new state; one of `ENDED` ends it. `error` is a serialised google.rpc.Status."""
    changed = await connection.fetchrow(_CHANGE, job, state, total, done, error, state in ENDED)
    assert changed is not None  # noqa: S101 - the row is locked
    return changed


async def ask_to_cancel(database: asyncpg.Pool | Connection, job: UUID) -> asyncpg.Record | None:
    """Notes that the job shall end; None when it has ended already."""
    return await database.fetchrow(_ASK_TO_CANCEL, job)


async def unfinished(
    database: asyncpg.Pool | Connection, kind: job_pb2.JobKind.ValueType, subject: str | None = None
) -> list[asyncpg.Record]:
    """Jobs of that kind that have not ended, all or those about `subject`."""
    return await database.fetch(_UNFINISHED, kind, subject)


async def page(
    pool: asyncpg.Pool,
    *,
    tenant: UUID | None,
    before: UUID | None,
    kind: job_pb2.JobKind.ValueType | None,
    states: list[job_pb2.JobState.ValueType] | None,
    limit: int,
) -> list[asyncpg.Record]:
    """Jobs, newest first; without `tenant` of all of them and the operator's."""
    return await pool.fetch(_PAGE, tenant, before, kind, states, limit)


async def forget_ended(pool: asyncpg.Pool) -> int:
    """Deletes a bounded number of jobs that ended 30 days ago; how many."""
    return int((await pool.execute(_FORGET)).split()[-1])


_INSERT = """INSERT INTO job (id, tenant, kind, subject, detail) VALUES ($1, $2, $3, $4, $5) RETURNING *"""
_CHANGE = """UPDATE job
  SET state = $2, total = $3, done = $4, error = $5, update_time = now(),
      end_time = CASE WHEN $6 THEN now() END
  WHERE id = $1 RETURNING *"""
_ASK_TO_CANCEL = """UPDATE job SET cancel_time = coalesce(cancel_time, now()), update_time = now()
  WHERE id = $1 AND end_time IS NULL RETURNING *"""
_UNFINISHED = """SELECT * FROM job
  WHERE kind = $1 AND end_time IS NULL AND ($2::text IS NULL OR subject = $2) ORDER BY id"""
_PAGE = """SELECT * FROM job
  WHERE ($1::uuid IS NULL OR tenant = $1) AND ($2::uuid IS NULL OR id < $2)
    AND ($3::smallint IS NULL OR kind = $3) AND ($4::smallint[] IS NULL OR state = ANY ($4))
  ORDER BY id DESC LIMIT $5"""
_FORGET = """DELETE FROM job WHERE id = ANY (ARRAY(
  SELECT id FROM job WHERE end_time < now() - interval '30 days' LIMIT 1000))"""
