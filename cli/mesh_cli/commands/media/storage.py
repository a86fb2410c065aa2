"""`mesh media migrate` and `mesh media scan`."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated

import typer

from mesh_cli.commands.amounts import bytes_text, read_bytes
from mesh_cli.commands.output import AsJson, show
from mesh_cli.commands.progress import item_bar
from mesh_cli.commands.target import EXIT_FAILED, call, fail
from mesh_cli.commands.terminal import say
from mesh_client import Client
from sessionmesh.v1 import job_pb2, media_pb2

COLUMNS = ("id", "state", "subject", "dry_run", "done", "failed", "total", "done_bytes")
DryRun = Annotated[bool, typer.Option("--dry-run", help="Change nothing, say what would be done.")]


def migrate(
    context: typer.Context,
    target: Annotated[str, typer.Argument(metavar="STORE", help="Its name in the media service's settings.")],
    rate: Annotated[
        str, typer.Option(metavar="BYTES", help="At most so many bytes a second, such as 10M.")
    ] = "",
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Move all files to another store while both serve, and wait until that is done.

    It goes on when this command ends: `mesh job cancel` stops it.
    """
    request = media_pb2.MigrateStorageRequest(target_store=target, dry_run=dry_run)
    if rate:
        request.bytes_per_second = read_bytes(rate)

    async def work(client: Client) -> job_pb2.Job:
        return await _shown(client, (await client.media.MigrateStorage(request)).job)

    job = call(context, work)
    moved = "would move" if dry_run else f"are in {target}"
    _end(job, f"{job.done - job.failed} objects {moved}, {bytes_text(job.done_bytes)}", as_json=as_json)


def scan(context: typer.Context, dry_run: DryRun = False, as_json: AsJson = False) -> None:
    """Compare what is stored with what is known, mend what is wrong, and wait until that is done."""

    async def work(client: Client) -> job_pb2.Job:
        request = media_pb2.ScanStorageRequest(dry_run=dry_run)
        return await _shown(client, (await client.media.ScanStorage(request)).job)

    job = call(context, work)
    mended = "are wrong" if dry_run else "were wrong and are mended"
    _end(job, f"{job.done} objects, of which {job.failed} {mended}", as_json=as_json, fails=False)


async def _shown(client: Client, job: job_pb2.Job) -> job_pb2.Job:
    """The job once it has ended; until then a bar on standard error shows how far it is."""
    with item_bar("objects") as advance:
        async with aclosing(_watched(client, job)) as seen:
            async for job in seen:
                advance(job.done, job.total if job.HasField("total") else None)
    return job


async def _watched(client: Client, job: job_pb2.Job) -> AsyncGenerator[job_pb2.Job, None]:
    async for seen in client.jobs.WatchJob(job_pb2.WatchJobRequest(job_id=job.id)):
        yield seen.job


def _end(job: job_pb2.Job, told: str, *, as_json: bool, fails: bool = True) -> None:
    """Tells how it ended. `fails`: items that failed make the command fail."""
    if as_json:
        show([job], COLUMNS, as_json=True)
    elif job.state == job_pb2.JOB_STATE_SUCCEEDED:
        say(told)
    if job.state != job_pb2.JOB_STATE_SUCCEEDED:
        state = job_pb2.JobState.Name(job.state).removeprefix("JOB_STATE_")
        fail(f"job {job.id} ended otherwise: {state} {job.error.message}", EXIT_FAILED)
    if fails and job.failed:
        fail(f"{job.failed} objects stay where they are: {job.error.message}", EXIT_FAILED)
