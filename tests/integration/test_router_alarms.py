"""The fleet's alarms. Each test has a router alone in the process, whose alarms and log lines they are."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from mesh_core.ids import Prefix, decode
from mesh_router.fleet import alarms, monitor, outages
from sessionmesh.admin.v1 import fleet_pb2
from sessionmesh.v1 import session_pb2
from tests.support.eventually import eventually
from tests.support.fake_nodes import FakeNode
from tests.support.fleet_calls import Watch, capacity_of, node
from tests.support.relay import relay_to
from tests.support.router_world import RouterWorld, account_maker, router_world


@pytest.fixture
async def world(postgres_url: str, etcd: str, cluster: str) -> AsyncIterator[RouterWorld]:
    async with router_world(postgres_url, etcd, cluster) as running:
        yield running


async def kinds(world: RouterWorld) -> set[str]:
    names = {fleet_pb2.AlarmKind.Name(alarm.kind) for alarm in (await capacity_of(world)).alarms}
    return {name.removeprefix("ALARM_KIND_") for name in names}


async def until_alarms(world: RouterWorld, *expected: str) -> None:
    async def are_on() -> bool:
        return await kinds(world) == set(expected)

    await eventually(are_on, what=f"alarms {expected}")


@pytest.mark.slow
async def test_a_filling_fleet_warns_and_then_alarms(world: RouterWorld) -> None:
    n1 = await node(world, "n1", capacity=5)
    create = await account_maker(world)
    for number in range(4):
        await create(str(number))
    await until_alarms(world, "CAPACITY_WARNING")
    await create("5")
    await until_alarms(world, "CAPACITY_CRITICAL")
    n1.capacity = 50
    await n1.register()
    await until_alarms(world)


@pytest.mark.slow
async def test_alarms_are_in_the_watch(world: RouterWorld) -> None:
    watch = Watch(world)
    await node(world, "n1", capacity=1)
    await (await account_maker(world))("1")
    while not (await watch.next()).alarms:
        pass
    alarm = watch.frames[-1].alarms[0]
    assert alarm.kind == fleet_pb2.ALARM_KIND_CAPACITY_CRITICAL
    assert (alarm.subject, alarm.detail) == ("fleet", "1 accounts want one of 1 sessions")
    assert alarm.HasField("since")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Alarms after a second instead of two TTL, looked for all the time."""
    monkeypatch.setattr(monitor, "GRACE_SECONDS", 1.0)
    monkeypatch.setattr(monitor, "EVERY_SECONDS", 0.05)
    monkeypatch.setattr(alarms, "STALE_SECONDS", 3.0)


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
async def test_shards_that_nobody_runs_and_a_fleet_without_nodes_are_alarms(
    postgres_url: str, etcd: str, cluster: str
) -> None:
    with capture_logs() as logs:
        async with router_world(postgres_url, etcd, cluster) as world:
            await until_alarms(world, "SHARDS_UNOWNED", "NO_ACTIVE_NODE")
            n1 = await node(world, "n1")
            await until_alarms(world, "SHARDS_UNOWNED")
            await n1.own(range(4096))
            await until_alarms(world)
    begun = [line["alarm"] for line in logs if line["event"] == "alarm"]
    ended = [line["alarm"] for line in logs if line["event"] == "alarm is over"]
    assert sorted(begun) == sorted(ended) == ["no_active_node", "shards_unowned"]


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
async def test_a_router_that_lost_etcd_says_so_and_nothing_else(
    postgres_url: str, etcd: str, cluster: str
) -> None:
    async with relay_to(etcd) as relay, router_world(postgres_url, relay.url, cluster) as world:
        n1 = FakeNode(world.etcd, cluster, "n1")
        await n1.register()
        await n1.own(range(4096))
        await until_alarms(world)
        await relay.cut()
        await until_alarms(world, "VIEW_STALE")
        assert (await capacity_of(world)).nodes[0].shards == 4096, "as last seen"
        await relay.open()
        await until_alarms(world)


async def test_accounts_that_wait_for_a_failing_network_are_an_alarm_until_they_do_not(
    world: RouterWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outages, "EVERY_SECONDS", 0.1)
    monkeypatch.setattr(outages, "OVER_SECONDS", 0.5)
    monkeypatch.setattr(alarms, "OUTAGE_SECONDS", 0.5)
    await node(world, "n1")
    account = (await (await account_maker(world))("1")).account
    uuid = decode(Prefix.ACCOUNT, account.id, "account_id")
    waits = (session_pb2.SESSION_STATE_BACKOFF, session_pb2.SESSION_CAUSE_NETWORK_FAILING)
    pool = world.database.pool
    await pool.execute(_SESSION, uuid, *waits)
    await until_alarms(world, "NETWORK_FAILING")
    [alarm] = (await capacity_of(world)).alarms
    assert alarm.detail == "the network fails for most accounts of n1: 1 wait until it works again"
    await pool.execute("UPDATE session SET state = $2 WHERE account = $1", uuid, waits[0] - 1)
    await until_alarms(world)


_SESSION = """
INSERT INTO session (account, tenant, epoch, node, state, cause, detail, phone, network_user_id, hidden_id,
  push_name, restrictions, paired, recent_failures, sent, received, failed, connects, settings, update_time)
SELECT id, tenant, 1, 'n1', $2, $3, '', '', '', '', '', '', true, 0, 0, 0, 0, 0, '', now() FROM account
WHERE id = $1
"""
