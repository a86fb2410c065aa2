"""The trace of a job: found by its id, so that whoever goes on with it needs no more than that.

It is recorded whatever the ratio of sampling: there are few jobs, and they take long.
"""

from __future__ import annotations

from asyncpg.pgproto.pgproto import UUID

from mesh_core import ids
from mesh_core.ids import Prefix
from mesh_core.telemetry import tracing
from sessionmesh.v1 import job_pb2


def record_asked(job: UUID, kind: job_pb2.JobKind.ValueType) -> None:
    """Somebody asked for the job just now: begin its trace, with a link to that of the call."""
    tracing.start_span(
        "mesh.job",
        itself=_trace(job),
        attributes=_about(job, kind),
        links=[tracing.current_traceparent()],
    ).end()


def turn(job: UUID, kind: job_pb2.JobKind.ValueType) -> tracing.span:
    """Surrounds what is done for the job at once."""
    return tracing.span("mesh.job.turn", parent=_trace(job), attributes=_about(job, kind))


def record_end(job: UUID, kind: job_pb2.JobKind.ValueType, state: job_pb2.JobState.ValueType) -> None:
    """The job has ended."""
    about = {**_about(job, kind), "mesh.job.state": job_pb2.JobState.Name(state).removeprefix("JOB_STATE_")}
    with tracing.start_span("mesh.job.end", parent=_trace(job), attributes=about) as span:
        if state == job_pb2.JOB_STATE_FAILED:
            span.fail("the job failed")


def _trace(job: UUID) -> str:
    return tracing.found(f"job/{job}", always=True)


def _about(job: UUID, kind: job_pb2.JobKind.ValueType) -> tracing.Attributes:
    name = job_pb2.JobKind.Name(kind).removeprefix("JOB_KIND_")
    return {"mesh.job.id": ids.encode(Prefix.JOB, job), "mesh.job.kind": name}
