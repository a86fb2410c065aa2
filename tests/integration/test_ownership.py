"""Ownership among several nodes, with real etcd and Postgres.

The board of `mesh_of` fails any test in which two nodes ran one shard at once, or an epoch did not rise.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from mesh_cli.embedded import EmbeddedEtcd
from mesh_core.errors import NotFound
from mesh_core.etcd import boottime
from mesh_core.ids import SHARDS
from mesh_core.ownership.keys import ClusterKeys, NodeState
from mesh_core.ownership.metrics import TABLE_STALE
from mesh_core.ownership.nodes import NodeSuperseded, drain_node, set_node_state
from mesh_core.ownership.participant import IncarnationExpired
from tests.support.etcd_space import etcd_without_space
from tests.support.eventually import wait_until
from tests.support.ownership_nodes import FAST, Mesh, mesh_of, until
from tests.support.servers import patient_etcd_at

# gRPC's completions of one loop's last calls may arrive after it was closed, and then disturb the next
# loop's.
pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.slow]

LONG_TTL = replace(FAST, ttl=300)
"""Longer than `until` waits: who is in time did not wait for it."""


@pytest_asyncio.fixture(loop_scope="module")
async def own_etcd(tmp_state: Path) -> AsyncIterator[EmbeddedEtcd]:
    """A server whose data may be taken away."""
    server = EmbeddedEtcd(tmp_state)
    await server.start()
    yield server
    await server.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def mesh(etcd: str, postgres_url: str, cluster: str) -> AsyncIterator[Mesh]:
    async with mesh_of(etcd, postgres_url, cluster) as opened:
        yield opened


async def test_a_lone_node_runs_everything(mesh: Mesh) -> None:
    [a] = await mesh.start("a")
    await until(lambda: mesh.all_run(a))
    assert a.ownership.epoch(0) == 1
    assert a.ownership.admits(0)


async def test_three_nodes_that_start_together_share_all_shards_evenly(mesh: Mesh) -> None:
    nodes = await mesh.start("a", "b", "c")
    await until(lambda: mesh.all_run(*nodes))


async def test_a_joining_node_gets_its_share_and_no_other_shard_moves(mesh: Mesh) -> None:
    a, b = await mesh.start("a", "b")
    await until(lambda: mesh.all_run(a, b))
    before = dict(mesh.board.running)
    [c] = await mesh.start("c")
    await until(lambda: mesh.all_run(a, b, c))
    moved = {shard for shard, node in mesh.board.running.items() if node != before[shard]}
    assert {mesh.board.running[shard] for shard in moved} == {"c"}
    assert len(moved) < SHARDS / 3 * 1.02


async def test_a_draining_node_hands_all_over_and_is_left_with_nothing(mesh: Mesh) -> None:
    a, b, c = await mesh.start("a", "b", "c")
    await until(lambda: mesh.all_run(a, b, c))
    assert await a.ownership.drain(60.0)
    await until(lambda: mesh.all_run(b, c))
    assert a.sessions.losses == []
    assert set(a.sessions.released) >= set(range(SHARDS)) - set(mesh.board.running)


async def test_the_last_node_drains_too(mesh: Mesh) -> None:
    [a] = await mesh.start("a")
    await until(lambda: mesh.all_run(a))
    assert await a.ownership.drain(60.0)
    assert mesh.board.running == {}


async def test_a_node_obeys_an_order_to_drain_and_to_serve_again(mesh: Mesh) -> None:
    a, b = await mesh.start("a", "b")
    await until(lambda: mesh.all_run(a, b))
    await set_node_state(b.etcd, mesh.cluster, "a", NodeState.DRAINING)
    await until(lambda: mesh.all_run(b))
    assert a.ownership.state is NodeState.DRAINING
    await set_node_state(b.etcd, mesh.cluster, "a", NodeState.ACTIVE)
    await until(lambda: mesh.all_run(a, b))


async def test_an_order_to_an_unknown_node_is_not_found(etcd: str, cluster: str) -> None:
    client = patient_etcd_at(etcd)
    with pytest.raises(NotFound):
        await set_node_state(client, cluster, "nobody", NodeState.DRAINING)
    await client.close()


async def test_a_crashed_nodes_shards_run_elsewhere_soon_after_the_ttl(mesh: Mesh) -> None:
    a, b, c = await mesh.start("a", "b", "c")
    await until(lambda: mesh.all_run(a, b, c))
    await a.crash()
    await until(lambda: mesh.all_run(b, c))


async def test_evidence_of_death_spares_the_wait_for_the_ttl(mesh: Mesh) -> None:
    mesh.timings = LONG_TTL
    a, b = await mesh.start("a", "b")
    await until(lambda: mesh.all_run(a, b))
    b.let_a_ttl_pass()
    lease, incarnation = a.ownership.lease, a.ownership.incarnation
    await a.crash()
    await b.etcd.put(ClusterKeys(mesh.cluster).dead + incarnation.encode(), b"")
    await b.etcd.revoke(lease)
    await until(lambda: mesh.all_run(b))


async def test_a_node_that_stops_gives_its_shards_back_at_once(mesh: Mesh) -> None:
    mesh.timings = LONG_TTL
    a, b = await mesh.start("a", "b")
    await until(lambda: mesh.all_run(a, b))
    b.let_a_ttl_pass()
    await a.ownership.stop()
    await until(lambda: mesh.all_run(b))


async def test_a_revoked_lease_drops_no_session_and_the_keys_come_back(mesh: Mesh) -> None:
    a, b = await mesh.start("a", "b")
    await until(lambda: mesh.all_run(a, b))
    await b.wait_unbroken()  # from now on it may plan others out
    epochs = dict(mesh.board.epochs)
    lease = a.ownership.lease
    await b.etcd.revoke(lease)
    await until(lambda: a.ownership.lease not in (0, lease))
    await until(lambda: mesh.view_agrees(a, b))
    assert mesh.all_run(a, b)
    assert mesh.board.epochs == epochs
    assert a.sessions.losses == a.sessions.released == []


async def test_an_etcd_outage_beyond_the_ttl_drops_no_session(mesh: Mesh) -> None:
    a, b = await mesh.start("a", "b")
    await until(lambda: mesh.all_run(a, b))
    epochs = dict(mesh.board.epochs)
    for node in (a, b):
        await node.relay.cut()
    began = boottime()
    await until(lambda: boottime() > began + FAST.ttl + 1)
    assert a.ownership.admits(next(iter(a.ownership.running())))
    assert await a.ownership.unready() == ""
    for node in (a, b):
        await node.relay.open()
    await until(lambda: a.has_fresh_keys() and b.has_fresh_keys())
    await until(lambda: mesh.view_agrees(a, b))
    assert mesh.board.epochs == epochs
    assert a.sessions.losses == b.sessions.losses == []


async def test_an_emptied_etcd_drops_no_session_and_moves_none(
    own_etcd: EmbeddedEtcd, postgres_url: str, cluster: str
) -> None:
    async with mesh_of(own_etcd.url, postgres_url, cluster) as mesh:
        a, b = await mesh.start("a", "b")
        await until(lambda: mesh.all_run(a, b))
        before, epochs = dict(mesh.board.running), dict(mesh.board.epochs)
        await own_etcd.stop()
        shutil.rmtree(own_etcd.directory / "data")
        mesh.endpoint = await own_etcd.start()
        for node in (a, b):
            node.relay.target = mesh.endpoint
        await until(lambda: a.has_fresh_keys() and b.has_fresh_keys() and mesh.view_agrees(a, b))
        [c] = await mesh.start("c")  # while there is no table yet
        await until(lambda: mesh.all_run(a, b, c))
        moved = {shard for shard, node in mesh.board.running.items() if node != before[shard]}
        assert {mesh.board.running[shard] for shard in moved} == {"c"}
        assert all(mesh.board.epochs[shard] == epochs[shard] for shard in before.keys() - moved)
        assert a.sessions.losses == b.sessions.losses == []


async def test_a_node_goes_on_while_etcd_has_no_space_and_takes_a_lost_nodes_shards_after_that(
    own_etcd: EmbeddedEtcd, postgres_url: str, cluster: str
) -> None:
    async with mesh_of(own_etcd.url, postgres_url, cluster) as mesh:
        a, b = await mesh.start("a", "b")
        await until(lambda: mesh.all_run(a, b))
        async with etcd_without_space(own_etcd.url):
            await a.crash()
            await until(lambda: TABLE_STALE.value == 1)
            assert b.sessions.losses == []
        await until(lambda: mesh.all_run(b))


async def test_a_node_that_is_replaced_hands_each_shard_straight_to_the_other(mesh: Mesh) -> None:
    a, b = await mesh.start("a", "b")
    await until(lambda: mesh.all_run(a, b))
    before, epochs = dict(mesh.board.running), dict(mesh.board.epochs)
    [spare] = await mesh.start("spare", state=NodeState.STANDBY)
    await drain_node(b.etcd, mesh.cluster, "a", "spare")
    await until(lambda: mesh.all_run(b, spare))
    assert spare.ownership.state is NodeState.ACTIVE
    for shard, node in before.items():
        assert mesh.board.running[shard] == ("spare" if node == "a" else "b")
        assert mesh.board.epochs[shard] == epochs[shard] + (node == "a")


async def test_shards_with_many_sessions_spread_over_the_nodes(mesh: Mesh) -> None:
    a, b = await mesh.start("a", "b")
    await until(lambda: mesh.all_run(a, b))
    heavy = sorted(shard for shard, node in mesh.board.running.items() if node == "a")[:200]
    a.sessions.reported = {shard: (20 if shard in heavy else 0, 0) for shard in a.ownership.running()}
    b.sessions.reported = dict.fromkeys(b.ownership.running(), (0, 0))
    await until(lambda: sum(mesh.board.running.get(shard) == "b" for shard in heavy) >= 80)
    assert a.sessions.losses == b.sessions.losses == []


async def test_a_postgres_outage_beyond_the_ttl_drops_no_session(mesh: Mesh) -> None:
    a, b = await mesh.start("a", "b")
    await until(lambda: mesh.all_run(a, b))
    epochs = dict(mesh.board.epochs)
    for node in (a, b):
        node.cut_postgres()
    began = boottime()
    await until(lambda: boottime() > began + FAST.ttl + 1)
    for node in (a, b):
        node.postgres_allowed = True
        assert node.ownership.admits(next(iter(node.ownership.running())))
    assert mesh.board.epochs == epochs
    assert a.sessions.losses == b.sessions.losses == []


async def test_a_node_cut_off_from_both_stops_before_others_take_over(mesh: Mesh) -> None:
    a, b = await mesh.start("a", "b")
    await until(lambda: mesh.all_run(a, b))
    a.cut_postgres()
    await a.relay.cut()
    await until(lambda: mesh.board.count("a") == 0)
    assert not a.ownership.running()
    assert "cut off" in a.ended
    assert await a.ownership.unready() == "it holds no shards: its lease is lost, etcd does not answer"
    await until(lambda: mesh.all_run(b))
    assert await b.ownership.unready() == ""


async def test_a_blocked_event_loop_costs_no_session(mesh: Mesh) -> None:
    mesh.through_relays = False
    a, b = await mesh.start("a", "b")
    await until(lambda: mesh.all_run(a, b))
    epochs, leases = dict(mesh.board.epochs), [a.ownership.lease, b.ownership.lease]
    time.sleep(FAST.ttl + 2)  # noqa: ASYNC251 - a loop that stands still is what is tested
    assert a.ownership.admits(next(iter(a.ownership.running())))
    await until(lambda: mesh.view_agrees(a, b))
    assert mesh.board.epochs == epochs
    assert [a.ownership.lease, b.ownership.lease] == leases
    assert a.sessions.losses == a.sessions.released == []


async def test_a_node_cut_off_from_both_with_a_blocked_event_loop_ends_in_time(mesh: Mesh) -> None:
    [a] = await mesh.start("a")
    await until(lambda: mesh.all_run(a))
    a.cut_postgres()
    wait_until(lambda: bool(a.ended))  # meanwhile the loop stands still, and its relay to etcd, too
    assert "none left" in a.ended


async def test_a_node_judged_dead_hands_over_and_fails(mesh: Mesh) -> None:
    a, b = await mesh.start("a", "b")
    await until(lambda: mesh.all_run(a, b))
    await mesh.execute("UPDATE node_incarnation SET expired = true WHERE id = $1", a.ownership.incarnation)
    await until(lambda: isinstance(a.failure, IncarnationExpired))
    assert a.sessions.losses == []
    await until(lambda: mesh.all_run(b))


async def test_a_second_process_of_the_same_node_replaces_the_first(mesh: Mesh) -> None:
    [a] = await mesh.start("a")
    await until(lambda: mesh.all_run(a))
    [again] = await mesh.start("a")
    await until(lambda: isinstance(a.failure, NodeSuperseded))
    await until(lambda: len(again.ownership.running()) == SHARDS)


async def test_shards_that_the_fence_refuses_stop_at_once(mesh: Mesh) -> None:
    [a] = await mesh.start("a")
    await until(lambda: mesh.all_run(a))
    a.ownership.fence_refused([1, 2])
    assert sorted(a.sessions.losses) == [1, 2]
    assert a.ownership.epoch(1) is None
    await until(lambda: a.ownership.epoch(1) == 2)


async def test_a_key_under_my_lease_that_i_know_nothing_of_is_adopted_when_wanted(mesh: Mesh) -> None:
    """As a claim leaves it whose answer got lost."""
    [a] = await mesh.start("a")
    await until(lambda: mesh.all_run(a))
    key = ClusterKeys(mesh.cluster).owner(7)
    found = await a.etcd.get(key)
    assert found is not None
    a.ownership.fence_refused([7])
    await a.etcd.put(key, found.value, found.lease)
    await until(lambda: a.ownership.epoch(7) == 2)
