"""One thing at a time goes wrong, under load: a session-node, its watchdog, etcd or Postgres.

All on one mesh, as starting one takes some 10 s; each test leaves it whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import psutil
import pytest
import pytest_asyncio

from tests.faults.fleet.scene import AWAY_AND_BACK, Scene, scene
from tests.faults.fleet.servers import Etcd
from tests.faults.fleet.timings import OUTAGE_SECONDS
from tests.support.eventually import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

NOTICED_SECONDS = 30.0
"""The hard deadline, the watchdog's look and a wide margin for a slow machine."""


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def stage() -> AsyncIterator[Scene]:
    async with scene() as opened:
        yield opened


@pytest.fixture
def etcd(stage: Scene) -> Etcd:
    assert isinstance(stage.mesh.etcd, Etcd)
    return stage.mesh.etcd


async def test_a_killed_session_node_is_followed_at_once(stage: Scene) -> None:
    victim = await stage.busiest()
    incarnation = await stage.mesh.incarnation(victim.name)
    async with stage.under_load():
        killed = await victim.kill_child()
        await victim.until_replaced(killed)
        await stage.load.until_more(2)
    assert await stage.mesh.is_on_record_as_dead(incarnation)  # which spares others the wait for the TTL
    assert await stage.needless() == {}
    assert await stage.moves() <= AWAY_AND_BACK


async def test_nodes_whose_watchdog_is_killed_die_with_it(stage: Scene) -> None:
    """One loses its watchdog, another is killed with it; no one is left to tell of their end."""
    orphaned, wiped_out, spared = stage.mesh.nodes.values()
    async with stage.under_load():
        await asyncio.gather(orphaned.kill(), wiped_out.kill_all())
        await stage.mesh.until_settled(spared.name)
        await stage.load.until_more(1)
        await asyncio.gather(orphaned.start(), wiped_out.start())
    assert await stage.needless() == {}
    assert await stage.moves() <= 2 * AWAY_AND_BACK


async def test_a_frozen_session_node_is_killed_before_it_can_wake_up(stage: Scene) -> None:
    victim = await stage.busiest()
    async with stage.under_load():
        frozen = victim.session_node()
        frozen.suspend()
        await eventually(lambda: not frozen.is_running(), NOTICED_SECONDS, "the end of the frozen node")
        await victim.until_replaced(frozen.pid)
    assert await stage.needless() == {}
    assert await stage.moves() <= AWAY_AND_BACK


@pytest.mark.timed
async def test_a_frozen_watchdog_ends_no_session(stage: Scene) -> None:
    victim = await stage.busiest()
    child = victim.session_node()
    async with stage.under_load():
        victim.watchdog.suspend()
        await stage.load.keep_going(OUTAGE_SECONDS)
        victim.watchdog.resume()
        await stage.load.until_more(5)
    assert victim.session_node() == child
    await stage.assert_undisturbed()


async def test_a_node_frozen_with_its_watchdog_wakes_up_without_a_session(stage: Scene) -> None:
    victim = await stage.busiest()
    its_own = await stage.accounts_of(victim)
    async with stage.under_load():
        child = victim.session_node()
        victim.watchdog.suspend()
        child.suspend()
        await stage.load.until_more(1, [account.id for account in its_own])
        child.resume()
        await eventually(lambda: _has_ended(child), NOTICED_SECONDS, "the end of the node that woke up")
        victim.watchdog.resume()
    assert await stage.needless() == {}
    assert await stage.moves() <= AWAY_AND_BACK


async def test_an_etcd_that_is_killed_and_started_again_costs_nothing(stage: Scene, etcd: Etcd) -> None:
    async with stage.under_load():
        await etcd.restart()
        await stage.load.until_more(5)
    await stage.assert_undisturbed()


@pytest.mark.long
@pytest.mark.timed
async def test_an_etcd_frozen_beyond_the_ttl_costs_nothing(stage: Scene, etcd: Etcd) -> None:
    """When it wakes up, every lease has run out: all keys have to come back."""
    async with stage.under_load():
        etcd.freeze()
        await stage.load.keep_going(OUTAGE_SECONDS)
        etcd.thaw()
    await stage.assert_undisturbed()


async def test_an_emptied_etcd_is_filled_again_by_those_who_run(stage: Scene, etcd: Etcd) -> None:
    async with stage.under_load():
        await etcd.wipe()
        await stage.load.until_more(5)
    await stage.assert_undisturbed()


async def test_a_postgres_that_is_killed_amid_writes_costs_no_session(stage: Scene) -> None:
    async with stage.under_load():
        await stage.mesh.postgres.restart()
        await stage.load.until_more(5)
    await stage.assert_undisturbed()


@pytest.mark.long
@pytest.mark.timed
async def test_a_postgres_away_beyond_the_ttl_costs_no_session(stage: Scene) -> None:
    async with stage.under_load():
        await stage.mesh.postgres.kill()
        await stage.let_pass(OUTAGE_SECONDS)
        await stage.mesh.postgres.start()
        await stage.load.until_more(5)
    await stage.assert_undisturbed()


@pytest.mark.long
@pytest.mark.timed
async def test_a_postgres_frozen_beyond_the_ttl_costs_no_session(stage: Scene) -> None:
    async with stage.under_load():
        stage.mesh.postgres.freeze()
        await stage.let_pass(OUTAGE_SECONDS)
        stage.mesh.postgres.thaw()
        await stage.load.until_more(5)
    await stage.assert_undisturbed()


def _has_ended(process: psutil.Process) -> bool:
    """Also when its parent has not noticed yet."""
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
