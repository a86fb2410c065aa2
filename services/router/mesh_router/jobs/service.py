"""JobService. Every router can answer for every job: its state is in Postgres and etcd."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any, Protocol

import asyncpg
from asyncpg.pgproto.pgproto import UUID

from mesh_core import ids
from mesh_core.database import Database
from mesh_core.errors import FailedPrecondition, NotFound
from mesh_core.ids import Prefix
from mesh_core.jobs import Progress, job_message, store
from mesh_core.paging import Pager
from mesh_core.rpc.auth import current_identity
from sessionmesh.v1 import job_pb2, job_pb2_grpc

WATCH_SECONDS = 0.25
"""Time between two looks at a watched job."""


class JobKind(Protocol):
    """What a kind of job adds, where this router can do its work."""

    def progress(self, row: asyncpg.Record) -> Progress:
        """How far an unfinished job is at this moment."""

    async def advance(self, job: UUID) -> asyncpg.Record | None:
        """Advances the job one step, which may end or cancel it; returns its row, None when there is none."""


class JobService(job_pb2_grpc.JobServiceServicer):
    """Jobs of the caller's tenant; an administrator sees all, the operator's included."""

    def __init__(
        self, database: Database, pager: Pager, kinds: Mapping[job_pb2.JobKind.ValueType, JobKind]
    ) -> None:
        self._callers = database.callers
        self._pager = pager
        self._kinds = kinds

    async def GetJob(self, request: job_pb2.GetJobRequest, context: Any) -> job_pb2.GetJobResponse:
        return job_pb2.GetJobResponse(job=self._message(await self._found(request.job_id)))

    async def ListJobs(self, request: job_pb2.ListJobsRequest, context: Any) -> job_pb2.ListJobsResponse:
        identity = current_identity()
        everyone = identity.tenant_id is None and not request.tenant_id
        tenant = None if everyone else UUID(identity.tenant_for(request.tenant_id).bytes)
        account = ids.decode(Prefix.ACCOUNT, request.account_id, "account_id") if request.account_id else None
        page = self._pager.page(request, tenant.bytes if tenant else b"")
        rows = await store.page(
            self._callers.of(identity.tenant_id),
            tenant=tenant,
            account=account,
            before=page.after_id,
            kind=request.kind or None,
            states=list(request.states) or None,
            limit=page.fetch,
        )
        jobs, next_page_token = page.cut(rows, self._message)
        return job_pb2.ListJobsResponse(jobs=jobs, next_page_token=next_page_token)

    async def WatchJob(
        self, request: job_pb2.WatchJobRequest, context: Any
    ) -> AsyncIterator[job_pb2.WatchJobResponse]:
        sent = None
        while True:
            row = await self._found(request.job_id)
            job = self._message(row)
            if job != sent:
                yield job_pb2.WatchJobResponse(job=job)
                sent = job
            if row["end_time"] is not None:
                return
            await asyncio.sleep(WATCH_SECONDS)

    async def CancelJob(self, request: job_pb2.CancelJobRequest, context: Any) -> job_pb2.CancelJobResponse:
        row = await self._found(request.job_id)
        pool = self._callers.of(current_identity().tenant_id)
        cancelled = await store.request_cancel(pool, row["id"])
        if cancelled is None:
            row = await self._found(request.job_id)
            if row["state"] != job_pb2.JOB_STATE_CANCELLED:
                raise FailedPrecondition(f"job {request.job_id} has ended", "JOB_ENDED")
        else:
            kind = self._kinds.get(cancelled["kind"])
            row = (kind and await kind.advance(cancelled["id"])) or cancelled
        return job_pb2.CancelJobResponse(job=self._message(row))

    async def _found(self, job_id: str) -> asyncpg.Record:
        job = ids.decode(Prefix.JOB, job_id, "job_id")
        identity = current_identity()
        row = await store.get(self._callers.of(identity.tenant_id), job)
        if row is None or (row["tenant"] is None and identity.tenant_id is not None):
            raise NotFound("job", job_id)
        if row["tenant"] is not None:
            identity.check_sees(row["tenant"], "job", job_id)
        return row

    def _message(self, row: asyncpg.Record) -> job_pb2.Job:
        kind = self._kinds.get(row["kind"])
        return job_message(row, kind.progress(row) if kind and row["end_time"] is None else None)
