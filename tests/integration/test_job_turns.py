"""Whose job comes next: tenants have turns, in a real Postgres."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from asyncpg.pgproto.pgproto import UUID

from mesh_core.database import Database
from mesh_core.ids import new_uuid
from mesh_core.jobs import NewJob, Total, Worker, store, worker
from mesh_core.settings import DatabaseSettings
from sessionmesh.v1 import job_pb2
from tests.support.eventually import eventually


class Recorder(Worker):
    """Writes down the names of the jobs that it does; `during` runs while it does one."""

    kind = job_pb2.JOB_KIND_ERASE_PERSON

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.done: list[str] = []
        self.during: Callable[[str], Awaitable[object]] = lambda _: asyncio.sleep(0)

    async def work(self, connection: Any, row: Any) -> None:
        self.done.append(row["subject"])
        await self.during(row["subject"])
        await store.change(connection, row["id"], job_pb2.JOB_STATE_SUCCEEDED, 0, 0)

    async def count(self, connection: store.Connection, row: Any) -> Total:
        return Total()

    async def cancel(self, connection: store.Connection, row: Any) -> Any:
        return row

    async def insert(self, tenant: UUID | None, name: str) -> None:
        async with self._database.pool.acquire() as connection:
            await store.insert(connection, NewJob(new_uuid(), self.kind, tenant, name))


@pytest.fixture
async def recorder(postgres_url: str) -> AsyncIterator[Recorder]:
    database = await Database.open(DatabaseSettings(url=postgres_url, pool_size=2))
    recorder = Recorder(database)
    yield recorder
    await database.close()


async def work_until(recorder: Recorder, jobs: int) -> list[str]:
    """What is done first."""
    running = asyncio.create_task(recorder.run())
    await eventually(lambda: len(recorder.done) >= jobs)
    running.cancel()
    await asyncio.wait([running])
    return recorder.done


async def test_one_tenants_many_jobs_do_not_go_before_another_ones(recorder: Recorder) -> None:
    crowded, small = new_uuid(), new_uuid()
    for name in ("a1", "a2", "a3"):
        await recorder.insert(crowded, name)
    await recorder.insert(small, "b1")
    assert await work_until(recorder, 4) == ["a1", "b1", "a2", "a3"]


async def test_the_operators_jobs_have_turns_as_a_tenants(recorder: Recorder) -> None:
    tenant = new_uuid()
    for name in ("a1", "a2"):
        await recorder.insert(tenant, name)
    for name in ("o1", "o2"):
        await recorder.insert(None, name)
    assert await work_until(recorder, 4) == ["a1", "o1", "a2", "o2"]


async def test_a_job_that_comes_meanwhile_is_next_where_its_tenant_waits_longest(recorder: Recorder) -> None:
    crowded, late = new_uuid(), new_uuid()
    for name in ("a1", "a2", "a3"):
        await recorder.insert(crowded, name)

    async def come(during: str) -> None:
        if during == "a1":
            await recorder.insert(late, "b1")
            await recorder.insert(late, "b2")

    recorder.during = come
    assert await work_until(recorder, 5) == ["a1", "b1", "a2", "b2", "a3"]


async def test_a_job_that_fails_is_tried_again_after_those_that_wait(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "LOOK_SECONDS", 0.3)
    tenant = new_uuid()
    for name in ("a1", "a2", "a3"):
        await recorder.insert(tenant, name)

    async def fail_once(during: str) -> None:
        if during == "a1" and recorder.done.count("a1") == 1:
            raise ConnectionError

    recorder.during = fail_once
    assert sorted(await work_until(recorder, 4)) == ["a1", "a1", "a2", "a3"]
    assert recorder.done[:2] == ["a1", "a2"]
