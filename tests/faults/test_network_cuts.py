"""Session-nodes that are cut off from etcd, Postgres or the network, under load.

A cut is silent: what was sent is not answered, and nothing says that it never will be.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from mesh_simulator.ledger.records import Kind
from sessionmesh.v1 import account_pb2
from tests.faults.fleet.namespaces import NamespaceSite, namespaces_work
from tests.faults.fleet.relay_site import RelaySite
from tests.faults.fleet.scene import AWAY_AND_BACK, FOR_BALANCE, Scene, scene
from tests.faults.fleet.sites import Server, Site
from tests.faults.fleet.timings import OUTAGE_SECONDS
from tests.support.eventually import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

ENVIRONMENT = {"MESH_SESSION_KEEPALIVE_SECONDS": "2"}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def site() -> Site:
    return NamespaceSite() if namespaces_work() else RelaySite()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def stage(site: Site) -> AsyncIterator[Scene]:
    async with scene(site=site, environment=ENVIRONMENT) as opened:
        yield opened


@pytest.mark.long
@pytest.mark.timed
async def test_a_node_cut_off_from_postgres_keeps_its_sessions(stage: Scene, site: Site) -> None:
    victim = await stage.busiest()
    its_own = [account.id for account in await stage.accounts_of(victim)]
    async with stage.under_load():
        with site.cut_off(victim.name, Server.POSTGRES):
            before = stage.load.counts()
            await stage.let_pass(OUTAGE_SECONDS)
            after = stage.load.counts()
        assert all(after[account] <= before[account] + 1 for account in its_own)  # nothing it could store
    await stage.assert_undisturbed()


async def test_a_node_cut_off_from_etcd_hands_over_in_order(stage: Scene, site: Site) -> None:
    """It is asked to by way of Postgres, once the others see it no more."""
    victim = await stage.busiest()
    its_own = await stage.accounts_of(victim)
    async with stage.under_load():
        with site.cut_off(victim.name, Server.ETCD):

            async def moved() -> bool:
                return victim not in (await stage.owners()).values()

            await eventually(moved, what="other owners of its accounts")
            await stage.load.until_more(1, [account.id for account in its_own])
    assert await stage.seizures() == 0
    assert await stage.needless() == {}
    assert await stage.moves() <= AWAY_AND_BACK


async def test_a_node_cut_off_from_both_stops_in_time_and_others_take_over(stage: Scene, site: Site) -> None:
    victim = await stage.busiest()
    its_own = await stage.accounts_of(victim)
    async with stage.under_load():
        with site.cut_off(victim.name, Server.ETCD, Server.POSTGRES):
            assert await stage.until_ended(its_own) == {Kind.CLOSED}  # none waited for a new login
            await stage.load.until_more(1, [account.id for account in its_own])
    assert await stage.needless() == {}
    assert await stage.moves() <= AWAY_AND_BACK


async def test_a_node_cut_off_from_everything_does_no_harm_when_it_is_back(stage: Scene, site: Site) -> None:
    """The network knows nothing of its end: it holds the old connections until others log in."""
    victim = await stage.busiest()
    its_own = await stage.accounts_of(victim)
    async with stage.under_load():
        with site.cut_off(victim.name, *Server):
            await stage.load.until_more(1, [account.id for account in its_own])
    assert await stage.needless() == {}
    assert await stage.moves() <= AWAY_AND_BACK


async def test_a_node_cut_off_from_the_network_alone_keeps_its_accounts(stage: Scene, site: Site) -> None:
    victim = await stage.busiest()
    its_own = await stage.accounts_of(victim)
    async with stage.under_load():
        with site.cut_off(victim.name, Server.NETWORK):
            await stage.until_not_connected(its_own)
    assert stage.reconnects().keys() >= _names(its_own)
    assert (await stage.needless()).keys() <= _names(its_own)
    assert await stage.seizures() == 0
    assert await stage.moves() <= FOR_BALANCE


def _names(accounts: list[account_pb2.Account]) -> set[str]:
    return {account.id for account in accounts}
