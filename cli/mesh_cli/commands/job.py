"""`mesh job`."""

from __future__ import annotations

from typing import Annotated

import typer

from mesh_cli.commands.output import AsJson, show
from mesh_cli.commands.target import call
from mesh_client import Client
from sessionmesh.v1 import job_pb2

app = typer.Typer(
    help="Jobs, such as drains: they continue when the command that started them ends.", no_args_is_help=True
)
COLUMNS = ("id", "kind", "state", "subject", "done", "total", "create_time", "end_time")
JobArgument = Annotated[
    str, typer.Argument(metavar="JOB_ID", help="The job's id, as `mesh job list` shows it.")
]


@app.command(name="list")
def list_jobs(context: typer.Context, as_json: AsJson = False) -> None:
    """List the newest 50 jobs."""

    async def work(client: Client) -> list[job_pb2.Job]:
        return list((await client.jobs.ListJobs(job_pb2.ListJobsRequest())).jobs)

    show(call(context, work), COLUMNS, as_json=as_json)


@app.command()
def get(context: typer.Context, job_id: JobArgument, as_json: AsJson = False) -> None:
    """Show a job."""

    async def work(client: Client) -> job_pb2.Job:
        return (await client.jobs.GetJob(job_pb2.GetJobRequest(job_id=job_id))).job

    show([call(context, work)], COLUMNS, as_json=as_json)


@app.command()
def cancel(context: typer.Context, job_id: JobArgument, as_json: AsJson = False) -> None:
    """Cancel a job. What it has done stays done, but the node of a drain is active again."""

    async def work(client: Client) -> job_pb2.Job:
        return (await client.jobs.CancelJob(job_pb2.CancelJobRequest(job_id=job_id))).job

    show([call(context, work)], COLUMNS, as_json=as_json)
