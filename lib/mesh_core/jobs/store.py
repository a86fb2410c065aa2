"""The SQL of table `job`. A job with an `end_time` has ended and never changes again."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass

import asyncpg
import structlog
from asyncpg.pgproto.pgproto import UUID
from asyncpg.pool import PoolConnectionProxy

from mesh_core import ids
from mesh_core.database import DATABASE_ERRORS, Database
from mesh_core.database.callers import CallerPool
from mesh_core.database.requests import OPERATOR_SCOPE, Method, claim_request
from mesh_core.errors import NotFound
from mesh_core.ids import Prefix
from mesh_core.jobs import traces
from sessionmesh.v1 import job_pb2

logger = structlog.get_logger(__name__)

Connection = PoolConnectionProxy
Queries = CallerPool | Connection
OPERATOR = UUID(bytes(16))
"""Whose turn that of jobs without a tenant is."""
ENDED = (job_pb2.JOB_STATE_SUCCEEDED, job_pb2.JOB_STATE_FAILED, job_pb2.JOB_STATE_CANCELLED)


@dataclass(frozen=True, slots=True)
class NewJob:
    """What a job is asked for. `tenant` is None for the operator's; `subject` is what the job is about, such
    as a node's id; `detail` is JSON that only the kind's own code reads.
    """

    id: UUID
    kind: job_pb2.JobKind.ValueType
    tenant: UUID | None = None
    subject: str = ""
    detail: str = "{}"
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Total:
    """How much a job has to do; None where nobody knows before."""

    items: int | None = None
    bytes: int | None = None


async def get(database: Queries, job: UUID) -> asyncpg.Record | None:
    return await database.fetchrow("SELECT * FROM job WHERE id = $1", job)


async def lock_if_free(connection: Connection, job: UUID) -> asyncpg.Record | None:
    """Locks and returns the row; None when there is none, or another transaction has it locked."""
    return await connection.fetchrow("SELECT * FROM job WHERE id = $1 FOR UPDATE SKIP LOCKED", job)


async def lock(connection: Connection, job: UUID) -> asyncpg.Record | None:
    """Locks and returns the row, after waiting for other transactions that have it locked."""
    return await connection.fetchrow("SELECT * FROM job WHERE id = $1 FOR UPDATE", job)


async def insert(connection: Connection, new: NewJob) -> asyncpg.Record:
    """Inserts a PENDING job."""
    inserted = await connection.fetchrow(
        _INSERT, new.id, new.tenant, new.kind, new.subject, new.detail, new.dry_run
    )
    assert inserted is not None  # noqa: S101 - INSERT ... RETURNING
    traces.record_asked(new.id, new.kind)
    return inserted


async def repeated(
    connection: Connection, method: Method, request_id: str, digest: bytes, new: NewJob
) -> asyncpg.Record | None:
    """The job that the same request began before; None for a new request, which claims its id for `new`.

    Raises `AlreadyExists` REQUEST_ID_REUSED.
    """
    scope = OPERATOR_SCOPE if new.tenant is None else new.tenant
    first = await claim_request(connection, scope, method, request_id, digest, new.id)
    if first is None:
        return None
    row = await get(connection, first)
    if row is None:  # only where its tenant was deleted: jobs are kept for longer than request ids
        raise NotFound("job", ids.encode(Prefix.JOB, first))
    return row


async def begin(connection: Connection, job: UUID, total: Total) -> asyncpg.Record:
    """Has a locked row RUNNING."""
    begun = await connection.fetchrow(_BEGIN, job, job_pb2.JOB_STATE_RUNNING, total.items, total.bytes)
    assert begun is not None  # noqa: S101 - the row is locked
    return begun


async def change(
    connection: Connection,
    job: UUID,
    state: job_pb2.JobState.ValueType,
    total: int | None,
    done: int,
    error: bytes | None = None,
) -> asyncpg.Record:
    """Sets state and progress of a locked row. A state of `ENDED` ends the job. `error` is a serialised
    google.rpc.Status.
    """
    changed = await connection.fetchrow(_CHANGE, job, state, total, done, error, state in ENDED)
    assert changed is not None  # noqa: S101 - the row is locked
    if state in ENDED:
        traces.record_end(job, changed["kind"], state)
    return changed


async def request_cancel(database: Queries, job: UUID) -> asyncpg.Record | None:
    """Marks the job to be cancelled by its worker; None when it has ended already."""
    return await database.fetchrow(_REQUEST_CANCEL, job)


async def unfinished(
    database: asyncpg.Pool | Connection, kind: job_pb2.JobKind.ValueType, subject: str | None = None
) -> list[asyncpg.Record]:
    """Jobs of that kind that have not ended, in creation order. `subject=None`: about any subject."""
    return await database.fetch(_UNFINISHED, kind, subject)


async def count_unfinished(connection: Connection, kind: job_pb2.JobKind.ValueType, tenant: UUID) -> int:
    """How many jobs of that kind a tenant has that have not ended."""
    found: int = await connection.fetchval(_COUNT_UNFINISHED, kind, tenant)
    return found


async def next_unfinished(
    pool: asyncpg.Pool, kind: job_pb2.JobKind.ValueType, after: UUID, tried: Collection[UUID]
) -> asyncpg.Record | None:
    """A tenant's oldest job of that kind that has not ended, and is none of those `tried`: of the next tenant
    behind `after` that has one, where zeros are the operator. None when nobody has any.
    """
    for behind, start in ((">", after), (">=", OPERATOR)):
        row = await pool.fetchrow(_NEXT_UNFINISHED.format(behind), kind, start, [*tried])
        if row is not None:
            return row
    return None


async def page(
    pool: CallerPool,
    *,
    tenant: UUID | None,
    account: UUID | None,
    before: UUID | None,
    kind: job_pb2.JobKind.ValueType | None,
    states: list[job_pb2.JobState.ValueType] | None,
    limit: int,
) -> list[asyncpg.Record]:
    """Jobs that are older than job `before`, newest first. None for a filter: any; `tenant=None` includes the
    operator's. Raises `DeadlineExceeded` SEARCH_TOO_LONG.
    """
    return await pool.search(_PAGE, tenant, before, kind, states, account, limit)


async def delete_ended(pool: asyncpg.Pool) -> int:
    """Deletes at most 1,000 jobs that ended more than 30 days ago; returns how many."""
    return int((await pool.execute(_DELETE_ENDED)).split()[-1])


async def keep_deleting_ended(database: Database) -> None:
    """Deletes old ended jobs once an hour, until cancelled. Any number of processes may run this."""
    while True:
        await asyncio.sleep(_RETENTION_PERIOD)
        try:
            while await delete_ended(database.pool):
                pass
        except DATABASE_ERRORS as error:
            logger.warning("old jobs are not deleted", error=repr(error))


_RETENTION_PERIOD = 3600.0
_INSERT = """INSERT INTO job (id, tenant, kind, subject, detail, dry_run) VALUES ($1, $2, $3, $4, $5, $6)
  RETURNING *"""
_BEGIN = """UPDATE job SET state = $2, total = $3, total_bytes = $4, update_time = now() WHERE id = $1
  RETURNING *"""
_CHANGE = """UPDATE job
  SET state = $2, total = $3, done = $4, error = $5, update_time = now(),
      end_time = CASE WHEN $6 THEN now() END
  WHERE id = $1 RETURNING *"""
_REQUEST_CANCEL = """UPDATE job SET cancel_time = coalesce(cancel_time, now()), update_time = now()
  WHERE id = $1 AND end_time IS NULL RETURNING *"""
_UNFINISHED = """SELECT * FROM job
  WHERE kind = $1 AND end_time IS NULL AND ($2::text IS NULL OR subject = $2) ORDER BY id"""
_COUNT_UNFINISHED = "SELECT count(*) FROM job WHERE kind = $1 AND tenant = $2 AND end_time IS NULL"
_TURN = "coalesce(tenant, '00000000-0000-0000-0000-000000000000')"
# One index probe, however many jobs there are.
_NEXT_UNFINISHED = f"""SELECT * FROM job
  WHERE kind = $1 AND end_time IS NULL AND {_TURN} {{}} $2 AND id <> ALL ($3::uuid[])
  ORDER BY {_TURN}, id LIMIT 1"""  # noqa: S608 - constants
_PAGE = """SELECT * FROM job
  WHERE ($1::uuid IS NULL OR tenant = $1) AND ($2::uuid IS NULL OR id < $2)
    AND ($3::smallint IS NULL OR kind = $3) AND ($4::smallint[] IS NULL OR state = ANY ($4))
    AND ($5::uuid IS NULL OR account = $5)
  ORDER BY id DESC LIMIT $6"""
_DELETE_ENDED = """DELETE FROM job WHERE id = ANY (ARRAY(
  SELECT id FROM job WHERE end_time < now() - interval '30 days' LIMIT 1000))"""
