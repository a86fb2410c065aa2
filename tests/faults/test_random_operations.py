"""Nodes join, leave, drain, crash, freeze and restart at random, on an etcd of three members, under load.

A seed names one sequence of operations. MESH_FAULT_SEEDS says how many seeds, or, as a list with commas,
which; MESH_FAULT_OPERATIONS how many operations each has.
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.faults.fleet.etcd_cluster import EtcdCluster
from tests.faults.fleet.operations import Operations
from tests.faults.fleet.scene import Scene, scene
from tests.faults.fleet.timings import seeds

pytestmark = pytest.mark.asyncio(loop_scope="module")

OPERATIONS = int(os.environ.get("MESH_FAULT_OPERATIONS", "8"))


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def stage() -> AsyncIterator[Scene]:
    async with scene(members=3) as opened:
        yield opened


async def test_an_etcd_that_loses_its_leader_costs_nothing(stage: Scene) -> None:
    cluster = stage.mesh.etcd
    assert isinstance(cluster, EtcdCluster)
    async with stage.under_load():
        lost = await cluster.leader()
        await lost.kill()
        await cluster.leader()
        await stage.load.until_more(10)
        await lost.start()
    await stage.assert_undisturbed()


@pytest.mark.timed
@pytest.mark.parametrize("seed", seeds())
async def test_nothing_is_lost_whatever_happens_to_nodes(stage: Scene, seed: int) -> None:
    operations = Operations(stage, seed)
    try:
        async with stage.under_load():
            for _ in range(OPERATIONS):
                await operations.next()
            await operations.restore()
    finally:
        sys.stdout.write(f"\nseed {seed}: {', '.join(operations.done)}\n")
    assert await stage.needless() == {}
