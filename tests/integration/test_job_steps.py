"""Jobs that are many steps, in a real Postgres: progress, going on, cancelling, failing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from asyncpg.pgproto.pgproto import UUID
from google.rpc import status_pb2

from mesh_core.database import Database
from mesh_core.database.requests import Method
from mesh_core.errors import AlreadyExists, FailedPrecondition, NotFound
from mesh_core.ids import new_uuid
from mesh_core.jobs import NewJob, Step, SteppedWorker, Total, store, worker
from mesh_core.settings import DatabaseSettings
from sessionmesh.v1 import job_pb2
from tests.support.eventually import eventually


class Counting(SteppedWorker):
    """Counts to its detail's `items`, one a step, and writes down the positions that it began at."""

    kind = job_pb2.JOB_KIND_PRUNE_MEDIA

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.begun: list[str] = []
        self.fail_at: dict[str, Exception] = {}
        self.stops_at: str | None = None
        self.go_on = asyncio.Event()

    async def count(self, connection: store.Connection, row: Any) -> Total:
        return Total(json.loads(row["detail"])["items"], None)

    async def step(self, connection: Any, row: Any, position: str) -> Step:
        self.begun.append(position)
        if position == self.stops_at:
            await self.go_on.wait()
        if error := self.fail_at.pop(position, None):
            raise error
        at = int(position or 0) + 1
        last = at == json.loads(row["detail"])["items"]
        odd = NotFound("thing", str(at)) if at % 2 else None
        return Step(None if last else str(at), done=1, failed=at % 2, done_bytes=10, error=odd)

    async def begin(self, items: int) -> UUID:
        new = NewJob(new_uuid(), self.kind, new_uuid(), detail=json.dumps({"items": items}), dry_run=True)
        async with self._database.pool.acquire() as connection:
            await store.insert(connection, new)
        return new.id


@pytest.fixture
async def database(postgres_url: str) -> AsyncIterator[Database]:
    database = await Database.open(DatabaseSettings(url=postgres_url, pool_size=2))
    yield database
    await database.close()


@pytest.fixture
async def counting(database: Database, monkeypatch: pytest.MonkeyPatch) -> Counting:
    monkeypatch.setattr(worker, "LOOK_SECONDS", 0.1)
    return Counting(database)


async def ended(database: Database, job: UUID, *workers: Counting) -> Any:
    """The job's row once it has ended, with these at work."""
    running = [asyncio.create_task(each.run()) for each in workers]

    async def row() -> Any:
        found = await store.get(database.callers.of(None), job)
        return found if found is not None and found["end_time"] else None

    try:
        return await eventually(row)
    finally:
        for task in running:
            task.cancel()
        await asyncio.wait(running)


async def test_progress_and_the_last_failure_are_stored(database: Database, counting: Counting) -> None:
    row = await ended(database, await counting.begin(5), counting)
    assert row["state"] == job_pb2.JOB_STATE_SUCCEEDED
    assert (row["total"], row["done"], row["failed"], row["done_bytes"]) == (5, 5, 3, 50)
    assert row["dry_run"]
    assert "thing 5" in status_pb2.Status.FromString(row["error"]).message


async def test_another_process_goes_on_where_one_stopped(database: Database, counting: Counting) -> None:
    job = await counting.begin(4)
    counting.stops_at = "2"
    running = asyncio.create_task(counting.run())
    await eventually(lambda: "2" in counting.begun)
    running.cancel()
    await asyncio.wait([running])
    other = Counting(database)
    row = await ended(database, job, other)
    assert other.begun == ["2", "3"]
    assert row["done"] == 4


async def test_two_processes_never_work_on_one_job(database: Database, counting: Counting) -> None:
    job, other = await counting.begin(30), Counting(database)
    await ended(database, job, counting, other)
    assert sorted(counting.begun + other.begun, key=lambda at: int(at or 0)) == ["", *map(str, range(1, 30))]


async def test_a_cancelled_job_stops_after_its_step(database: Database, counting: Counting) -> None:
    job = await counting.begin(1000)
    counting.stops_at = ""

    async def cancel() -> None:
        await eventually(lambda: bool(counting.begun))
        await store.request_cancel(database.callers.of(None), job)
        counting.go_on.set()

    row, _ = await asyncio.gather(ended(database, job, counting), cancel())
    assert row["state"] == job_pb2.JOB_STATE_CANCELLED
    assert (row["total"], row["done"]) == (1000, 1)


async def test_a_job_that_is_cancelled_before_it_begins_does_nothing(
    database: Database, counting: Counting
) -> None:
    job = await counting.begin(3)
    await store.request_cancel(database.callers.of(None), job)
    row = await ended(database, job, counting)
    assert (row["state"], row["done"]) == (job_pb2.JOB_STATE_CANCELLED, 0)
    assert counting.begun == []


async def test_an_error_of_the_domain_ends_the_job_and_another_one_does_not(
    database: Database, counting: Counting
) -> None:
    job = await counting.begin(4)
    counting.fail_at = {"1": OSError("gone for a moment"), "3": FailedPrecondition("no", "NO_CAPACITY")}
    row = await ended(database, job, counting)
    assert counting.begun == ["", "1", "1", "2", "3"]
    assert (row["state"], row["done"]) == (job_pb2.JOB_STATE_FAILED, 3)
    assert status_pb2.Status.FromString(row["error"]).message == "no"


async def test_a_request_that_is_sent_again_finds_its_job(database: Database) -> None:
    new = NewJob(new_uuid(), job_pb2.JOB_KIND_SCAN_STORAGE)

    async def start(digest: bytes) -> UUID:
        async with database.pool.acquire() as connection, connection.transaction():
            first = await store.repeated(connection, Method.SCAN_STORAGE, f"request of {new.id}", digest, new)
            row = first or await store.insert(connection, new)
            return UUID(row["id"].bytes)

    assert await start(b"1" * 16) == new.id == await start(b"1" * 16)
    with pytest.raises(AlreadyExists):
        await start(b"2" * 16)
