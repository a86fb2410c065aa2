"""Jobs as the API shows them."""

from __future__ import annotations

from dataclasses import dataclass

import asyncpg
from google.rpc import status_pb2

from mesh_core import ids, validation
from mesh_core.ids import Prefix
from sessionmesh.v1 import job_pb2


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is: `total` items, None while that is unknown, of which `done` are done."""

    total: int | None
    done: int


def job_message(row: asyncpg.Record, progress: Progress | None = None) -> job_pb2.Job:
    """The job of a row of table `job`; `progress` where something newer than the row's is known."""
    progress = progress or Progress(row["total"], row["done"])
    job = job_pb2.Job(
        id=ids.encode(Prefix.JOB, row["id"]),
        tenant_id=ids.encode(Prefix.TENANT, row["tenant"]) if row["tenant"] is not None else "",
        account_id=ids.encode(Prefix.ACCOUNT, row["account"]) if row["account"] is not None else "",
        kind=row["kind"],
        state=row["state"],
        dry_run=row["dry_run"],
        total=progress.total,
        done=progress.done,
        failed=row["failed"],
        total_bytes=row["total_bytes"],
        done_bytes=row["done_bytes"],
        subject=row["subject"],
        create_time=validation.to_timestamp(row["create_time"]),
        update_time=validation.to_timestamp(row["update_time"]),
    )
    if row["end_time"] is not None:
        job.end_time.CopyFrom(validation.to_timestamp(row["end_time"]))
    if row["error"] is not None:
        job.error.CopyFrom(status_pb2.Status.FromString(row["error"]))
    return job
