"""Files are processed in turns over the tenants."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest
from asyncpg.pgproto.pgproto import UUID

from mesh_core.ids import new_uuid
from mesh_media.processing.lane import MOST_BESIDE, Lane
from tests.support.eventually import eventually

MANY, FEW = new_uuid(), new_uuid()
THIRD, FOURTH = new_uuid(), new_uuid()


class Jobs:
    """Jobs in a lane with one place, each of which waits until it may go on."""

    def __init__(self, turn_seconds: float = math.inf) -> None:
        self.lane = Lane("test", 1, turn_seconds)
        self.begun: list[str] = []
        self.go_on = asyncio.Semaphore(0)

    def begin(self, tenant: UUID, name: str) -> asyncio.Task[Any]:
        return asyncio.create_task(self._work(tenant, name), name=name)

    async def _work(self, tenant: UUID, name: str) -> None:
        async with self.lane.place(tenant):
            self.begun.append(name)
            await self.go_on.acquire()

    def let_end(self, count: int) -> None:
        for _ in range(count):
            self.go_on.release()


async def test_a_tenant_with_hundreds_of_jobs_delays_another_ones_by_one() -> None:
    jobs = Jobs()
    many = [jobs.begin(MANY, f"many-{number}") for number in range(300)]
    await eventually(lambda: jobs.begun == ["many-0"])
    few = jobs.begin(FEW, "few")
    await asyncio.sleep(0)
    jobs.let_end(3)
    async with asyncio.timeout(10):
        await few
    assert "few" in jobs.begun[:3]
    jobs.let_end(300)
    await asyncio.gather(*many)
    assert len(jobs.begun) == 301


async def test_what_was_cancelled_frees_its_place() -> None:
    jobs = Jobs()
    cancelled = jobs.begin(MANY, "cancelled")
    await eventually(lambda: jobs.begun == ["cancelled"])
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    jobs.let_end(1)
    async with asyncio.timeout(10):
        await jobs.begin(FEW, "few")


async def test_what_was_cancelled_before_its_turn_takes_none() -> None:
    jobs = Jobs()
    first = jobs.begin(MANY, "first")
    await eventually(lambda: jobs.begun == ["first"])
    cancelled = jobs.begin(MANY, "cancelled")
    last = jobs.begin(FEW, "last")
    await asyncio.sleep(0)
    cancelled.cancel()
    jobs.let_end(2)
    async with asyncio.timeout(10):
        await asyncio.gather(first, last)
    assert jobs.begun == ["first", "last"]


async def test_a_job_that_takes_long_holds_up_another_tenants_by_its_turn_and_goes_on() -> None:
    jobs = Jobs(turn_seconds=0.01)
    long = jobs.begin(MANY, "long")
    await eventually(lambda: jobs.begun == ["long"])
    few = jobs.begin(FEW, "few")
    await eventually(lambda: jobs.begun == ["long", "few"])
    assert not long.done()
    jobs.let_end(2)
    async with asyncio.timeout(10):
        await asyncio.gather(long, few)


async def test_a_job_keeps_its_place_while_only_its_own_tenant_waits() -> None:
    jobs = Jobs(turn_seconds=0.01)
    tasks = [jobs.begin(MANY, "long"), jobs.begin(MANY, "next")]
    await eventually(lambda: jobs.begun == ["long"])
    tasks.append(jobs.begin(FEW, "few"))
    await eventually(lambda: jobs.begun == ["long", "few"])
    tasks.append(jobs.begin(THIRD, "third"))
    await eventually(lambda: jobs.begun == ["long", "few", "third"], what="the first's next one left out")
    jobs.let_end(4)
    async with asyncio.timeout(10):
        await asyncio.gather(*tasks)
    assert jobs.begun[-1] == "next"


async def test_so_many_jobs_go_on_beside_those_that_have_places() -> None:
    jobs = Jobs(turn_seconds=0.01)
    tasks = [jobs.begin(tenant, str(tenant)) for tenant in (MANY, FEW, THIRD, FOURTH)]
    await eventually(lambda: len(jobs.begun) == 1 + MOST_BESIDE)
    others = Jobs(turn_seconds=0.01)
    tasks += [others.begin(MANY, "first"), others.begin(FEW, "second")]
    await eventually(lambda: len(others.begun) == 2, what="a turn that is over later than any of the lane's")
    assert len(jobs.begun) == 1 + MOST_BESIDE
    jobs.let_end(4)
    others.let_end(2)
    async with asyncio.timeout(10):
        await asyncio.gather(*tasks)
