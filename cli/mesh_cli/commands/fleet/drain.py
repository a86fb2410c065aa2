"""`mesh fleet drain`: starts a drain and shows its progress."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Protocol, Self

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from mesh_cli.commands.fleet.show import is_terminal
from mesh_cli.commands.output import as_dict
from mesh_cli.commands.target import EXIT_FAILED, call, fail
from mesh_cli.commands.terminal import Terminal, say
from mesh_client import Client, MeshCallError
from sessionmesh.admin.v1 import fleet_pb2
from sessionmesh.v1 import job_pb2

EXIT_INTERRUPTED = 130


class View(Protocol):
    """Something that shows a job."""

    def show(self, job: job_pb2.Job) -> None: ...


def drain_node(
    context: typer.Context, request: fleet_pb2.DrainNodeRequest, *, wait: bool, as_json: bool
) -> None:
    """Drain a node. The exit code is 1 when the drain was refused, failed or was cancelled."""

    async def work(client: Client) -> job_pb2.Job:
        job = (await client.fleet.DrainNode(request)).job
        with _view(request.node_id, as_json=as_json) as view:
            view.show(job)
            while wait and not job.HasField("end_time"):
                job = await _follow(client, job, view)
        return job

    try:
        job = call(context, work)
    except KeyboardInterrupt:
        fail(
            f"{request.node_id} is still draining; `mesh fleet undrain {request.node_id}` cancels it",
            EXIT_INTERRUPTED,
        )
    if job.state == job_pb2.JOB_STATE_FAILED:
        fail(f"the drain failed: {job.error.message}", EXIT_FAILED)
    if job.state == job_pb2.JOB_STATE_CANCELLED:
        fail("the drain was cancelled", EXIT_FAILED)


async def _follow(client: Client, job: job_pb2.Job, view: View) -> job_pb2.Job:
    """The job as it was when its watch ended: because the job ended, or because the router drains."""
    try:
        async for frame in client.jobs.WatchJob(job_pb2.WatchJobRequest(job_id=job.id)):
            job = frame.job
            view.show(job)
    except MeshCallError as error:
        if error.reason != "GOING_AWAY":
            raise
    return job


def _view(node: str, *, as_json: bool) -> AbstractContextManager[View]:
    if as_json:
        return nullcontext(_JsonLines())
    return _Bar(node) if is_terminal() else nullcontext(_Lines(node))


class _JsonLines:
    def show(self, job: job_pb2.Job) -> None:
        print(json.dumps(as_dict(job)), flush=True)


class _Lines:
    """A line for each tenth of the shards moved."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._shown = ""

    def show(self, job: job_pb2.Job) -> None:
        tenths = 10 * job.done // job.total if job.total else 0
        state = _state(job)
        if self._shown != (shown := f"{state} {tenths}"):
            self._shown = shown
            say(f"{self._node} {state}: {job.done} of {job.total} shards moved ({job.id})")


class _Bar:
    """A progress bar."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._task: TaskID | None = None
        self._progress = Progress(
            TextColumn("[bold]{task.fields[node]}[/] {task.description}"),
            BarColumn(bar_width=40),
            MofNCompleteColumn(),
            TextColumn("shards moved"),
            TimeElapsedColumn(),
            console=Terminal(),
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def show(self, job: job_pb2.Job) -> None:
        if self._task is None:
            self._task = self._progress.add_task("", node=self._node)
        # With nothing to move, an empty bar would look like a drain that does not begin.
        nothing = job.HasField("end_time") and not job.total
        self._progress.update(
            self._task,
            description=_state(job),
            total=1 if nothing else job.total or None,
            completed=1 if nothing else job.done,
        )


def _state(job: job_pb2.Job) -> str:
    return _WORDS.get(job.state, "")


_WORDS = {
    job_pb2.JOB_STATE_PENDING: "waits to drain",
    job_pb2.JOB_STATE_RUNNING: "drains",
    job_pb2.JOB_STATE_SUCCEEDED: "is drained",
    job_pb2.JOB_STATE_FAILED: "is not drained",
    job_pb2.JOB_STATE_CANCELLED: "serves again",
}
