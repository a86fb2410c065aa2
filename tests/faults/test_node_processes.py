"""A session-node, its watchdog, or both are killed or frozen, under load."""

from __future__ import annotations

import asyncio

import psutil
import pytest

from tests.eventually import eventually
from tests.faults.fleet.scene import AWAY_AND_BACK, Scene

pytestmark = pytest.mark.asyncio(loop_scope="session")

TTL_SECONDS = 7.0
NOTICED_SECONDS = 12.0
"""The hard deadline, the watchdog's look and a wide margin for a slow machine."""


@pytest.fixture(name="stage")
def whole_scene(shared_scene: Scene) -> Scene:
    return shared_scene


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


async def test_a_frozen_watchdog_ends_no_session(stage: Scene) -> None:
    victim = await stage.busiest()
    child = victim.session_node()
    async with stage.under_load():
        victim.watchdog.suspend()
        await stage.load.keep_going(TTL_SECONDS + 2)
        victim.watchdog.resume()
        await stage.load.until_more(5)
    assert victim.session_node() == child
    assert stage.reconnects() == {}
    assert await stage.moves() == 0


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


def _has_ended(process: psutil.Process) -> bool:
    """Also when its parent has not noticed yet."""
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
