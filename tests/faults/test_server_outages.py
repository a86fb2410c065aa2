"""etcd and Postgres are killed, frozen and emptied, under load. One of them away costs no session."""

from __future__ import annotations

import os

import pytest

from tests.faults.fleet.scene import Scene
from tests.faults.fleet.servers import Etcd

pytestmark = pytest.mark.asyncio(loop_scope="session")

BEYOND_TTL_SECONDS = 9.0
POSTGRES_OUTAGE_SECONDS = float(os.environ.get("MESH_FAULT_OUTAGE_SECONDS", "9"))
"""Beyond the TTL; docs/faults.md tells how to make it a minute."""


@pytest.fixture(name="stage")
def whole_scene(shared_scene: Scene) -> Scene:
    return shared_scene


@pytest.fixture
def etcd(stage: Scene) -> Etcd:
    assert isinstance(stage.mesh.etcd, Etcd)
    return stage.mesh.etcd


async def test_an_etcd_that_is_killed_and_started_again_costs_nothing(stage: Scene, etcd: Etcd) -> None:
    async with stage.under_load():
        await etcd.restart()
        await stage.load.until_more(5)
    assert stage.reconnects() == {}
    assert await stage.moves() == 0


async def test_an_etcd_frozen_beyond_the_ttl_costs_nothing(stage: Scene, etcd: Etcd) -> None:
    """When it wakes up, every lease has run out: all keys have to come back."""
    async with stage.under_load():
        etcd.freeze()
        await stage.load.keep_going(BEYOND_TTL_SECONDS)
        etcd.thaw()
    assert stage.reconnects() == {}
    assert await stage.moves() == 0


async def test_an_emptied_etcd_is_filled_again_by_those_who_run(stage: Scene, etcd: Etcd) -> None:
    async with stage.under_load():
        await etcd.wipe()
        await stage.load.until_more(5)
    assert stage.reconnects() == {}
    assert await stage.moves() == 0


async def test_a_postgres_that_is_killed_amid_writes_costs_no_session(stage: Scene) -> None:
    async with stage.under_load():
        await stage.mesh.postgres.restart()
        await stage.load.until_more(5)
    assert stage.reconnects() == {}
    assert await stage.moves() == 0


async def test_a_postgres_away_beyond_the_ttl_costs_no_session(stage: Scene) -> None:
    async with stage.under_load():
        await stage.mesh.postgres.kill()
        await stage.let_pass(POSTGRES_OUTAGE_SECONDS)
        await stage.mesh.postgres.start()
        await stage.load.until_more(5)
    assert stage.reconnects() == {}
    assert await stage.moves() == 0


async def test_a_postgres_frozen_beyond_the_ttl_costs_no_session(stage: Scene) -> None:
    async with stage.under_load():
        stage.mesh.postgres.freeze()
        await stage.let_pass(BEYOND_TTL_SECONDS)
        stage.mesh.postgres.thaw()
        await stage.load.until_more(5)
    assert stage.reconnects() == {}
    assert await stage.moves() == 0
