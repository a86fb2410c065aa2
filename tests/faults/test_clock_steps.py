"""Clocks that jump, under load: Postgres' own, and the nodes' wall clock. Neither decides who lives."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.faults.fleet.clocks import WallClock, let_postgres_be_stepped, step_postgres
from tests.faults.fleet.scene import AWAY_AND_BACK, Scene, scene
from tests.faults.fleet.timings import CLOCK_STEP_SECONDS, TTL_SECONDS
from tests.support.eventually import eventually

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timed]


@pytest.fixture(scope="module")
def wall_clock(tmp_path_factory: pytest.TempPathFactory) -> WallClock:
    folder: Path = tmp_path_factory.mktemp("clock")
    return WallClock(folder)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def stage(wall_clock: WallClock) -> AsyncIterator[Scene]:
    async with scene(nodes=2, environment=wall_clock.environment, prepare=let_postgres_be_stepped) as opened:
        yield opened


async def test_a_step_of_postgres_clock_costs_no_session(stage: Scene) -> None:
    database = stage.mesh.database
    async with stage.under_load():
        for step in (CLOCK_STEP_SECONDS, 0):
            await step_postgres(database, step)
            await _until_all_beat_by(stage, step)
            await stage.load.until_more(2)
    await stage.assert_undisturbed()


async def test_evidence_of_death_needs_no_clock(stage: Scene) -> None:
    """The last beats lie ahead, by a clock that was set back since: nobody looks dead by his beat."""
    database = stage.mesh.database
    await step_postgres(database, CLOCK_STEP_SECONDS)
    await _until_all_beat_by(stage, CLOCK_STEP_SECONDS)
    victim = await stage.busiest()
    incarnation = await stage.mesh.incarnation(victim.name)
    async with stage.under_load():
        await step_postgres(database, 0)
        killed = await victim.kill_child()
        await victim.until_replaced(killed)
        await stage.load.until_more(2)
    assert await stage.mesh.is_on_record_as_dead(incarnation)
    assert await stage.needless() == {}
    assert await stage.moves() <= AWAY_AND_BACK * 3 / 2


async def test_steps_of_the_nodes_wall_clock_cost_no_session(stage: Scene, wall_clock: WallClock) -> None:
    async with stage.under_load():
        for step in (CLOCK_STEP_SECONDS, -CLOCK_STEP_SECONDS, 0):
            wall_clock.step(step)
            await _until_nodes_read(stage, step)
            await stage.load.until_more(2)
    await stage.assert_undisturbed()


async def _until_all_beat_by(stage: Scene, step: int) -> None:
    async def beaten() -> bool:
        off = await stage.mesh.database.fetchval(
            "SELECT max(abs(extract(epoch FROM beat_at - pg_catalog.clock_timestamp()) - $1))"
            " FROM node_incarnation WHERE NOT expired",
            step,
        )
        return bool(off < TTL_SECONDS)

    await eventually(beaten, what="a beat of every node by the new clock")


async def _until_nodes_read(stage: Scene, step: int) -> None:
    """New messages are dated by the new clock: their ids, which nodes make, begin with their time."""

    async def dated() -> bool:
        milliseconds = await stage.mesh.database.fetchval(
            "SELECT ('x' || left(replace(key, '-', ''), 12))::bit(48)::bigint FROM history.change"
            " WHERE kind = 'message' ORDER BY position DESC LIMIT 1"
        )
        return bool(abs(milliseconds / 1000 - time.time() - step) < TTL_SECONDS)

    await eventually(dated, what=f"messages dated {step} s off")
