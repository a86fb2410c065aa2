"""FleetService over real etcd and Postgres: the watch, capacity and its refusal, plans."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf.field_mask_pb2 import FieldMask
from grpc import StatusCode

from mesh_core import ids
from mesh_core.ids import Prefix, new_uuid
from mesh_core.kept import answers as kept_answers
from mesh_core.kept.answers import Kept, KeptAnswers
from mesh_core.ownership.keys import NodeState
from mesh_core.process.service import service_version
from mesh_core.settings import RedisSettings
from sessionmesh.admin.v1 import fleet_pb2
from sessionmesh.v1 import account_pb2
from tests.support.eventually import eventually
from tests.support.fleet_calls import Watch, capacity_of, node
from tests.support.router_world import ADMIN, RouterWorld, account_maker, failing, router_world

pytestmark = pytest.mark.asyncio(loop_scope="module")

PAUSED = account_pb2.DESIRED_STATE_PAUSED
ONLINE = account_pb2.DESIRED_STATE_ONLINE


@pytest_asyncio.fixture(loop_scope="module")
async def own_world(postgres_url: str, etcd: str, cluster: str) -> AsyncIterator[RouterWorld]:
    """A router of the test's own: the router counts all accounts of its database against its nodes."""
    async with router_world(postgres_url, etcd, cluster) as running:
        yield running


# --- nodes


async def test_a_node_tells_its_version_its_start_and_its_load(own_world: RouterWorld) -> None:
    made = await node(own_world, "n1", capacity=50)
    create = await account_maker(own_world)
    account = (await create("one")).account
    shard = (
        await own_world.fleet.GetPlacement(
            fleet_pb2.GetPlacementRequest(account_id=account.id), metadata=ADMIN
        )
    ).shards[0]
    assert (shard.node_id, shard.accounts, shard.state) == ("", 1, fleet_pb2.OWNER_STATE_UNSPECIFIED)
    await made.own([shard.shard], epoch=7)

    async def owned() -> fleet_pb2.Node | None:
        found: fleet_pb2.Node = (
            await own_world.fleet.ListNodes(fleet_pb2.ListNodesRequest(), metadata=ADMIN)
        ).nodes[0]
        return found if found.shards else None

    shown = await eventually(owned)
    assert (shown.version, shown.start_time.seconds) == (service_version(), 1_700_000_000)
    assert (shown.accounts, shown.usage_percent) == (1, 2.0)
    placed = (
        await own_world.fleet.GetPlacement(fleet_pb2.GetPlacementRequest(shard=shard.shard), metadata=ADMIN)
    ).shards[0]
    assert (placed.node_id, placed.epoch, placed.state) == ("n1", 7, fleet_pb2.OWNER_STATE_ACTIVE)


# --- the watch


@pytest.mark.slow
async def test_a_watch_begins_with_every_node(world: RouterWorld) -> None:
    await node(world, "a")
    await node(world, "b")
    watch = Watch(world)
    first = await watch.next()
    assert set(watch.nodes) == {"a", "b"}
    assert (first.unowned, list(first.shards)) == (4096, [])


@pytest.mark.read_back("WatchFleet")
async def test_a_watch_tells_of_owners_and_nodes_that_come_change_and_go(world: RouterWorld) -> None:
    a = await node(world, "a")
    watch = Watch(world)
    await watch.next()
    await a.own([5], epoch=3)
    while 5 not in watch.shards:
        frame = await watch.next()
    assert [(one.node_id, one.epoch, one.incarnation) for one in frame.shards] == [("a", 3, "a-1")]
    assert (watch.nodes["a"].shards, frame.unowned) == (1, 4095)
    await a.register(NodeState.DRAINING)
    while watch.nodes["a"].state != fleet_pb2.NODE_STATE_DRAINING:
        await watch.next()
    await a.leave()
    await a.disown([5])
    while watch.nodes or watch.shards[5]:
        await watch.next()


async def test_many_changes_are_gathered_into_few_frames(world: RouterWorld) -> None:
    a = await node(world, "a")
    watch = Watch(world)
    await watch.next()
    loop = asyncio.get_running_loop()
    began = loop.time()
    for shard in range(200):
        await a.own([shard])
    while len(watch.shards) < 200:
        await watch.next()
    assert len(watch.frames) - 1 <= 2 + 5 * (loop.time() - began)


async def test_a_watcher_that_does_not_read_gets_the_outcome_later(world: RouterWorld) -> None:
    a, b = await node(world, "a"), await node(world, "b")
    watch, witness = Watch(world), Watch(world)
    await watch.next()
    await witness.next()
    for owner, epoch in ((a, 1), (b, 2), (a, 3)):
        await owner.own(range(20), epoch)
        while [*witness.shards.values()].count(owner.id) < 20:
            await witness.next()
    while [*watch.shards.values()].count("a") < 20 or watch.frames[-1].shards[-1].epoch < 3:
        await watch.next()


async def test_a_watch_ends_with_going_away_when_the_router_drains(
    postgres_url: str, etcd: str, cluster: str
) -> None:
    async with router_world(postgres_url, etcd, cluster) as world:
        watch = Watch(world)
        await watch.next()
        world.stop.ask("the test wants it")
        assert (await failing(watch.end())).reason == "GOING_AWAY"


# --- capacity


@pytest.mark.read_back("GetCapacity")
async def test_a_full_fleet_takes_no_more_accounts(own_world: RouterWorld) -> None:
    await node(own_world, "n1", capacity=2)
    create = await account_maker(own_world)
    first = (await create("1")).account
    await create("2")
    refused = await failing(create("3"))
    assert (refused.code, refused.reason) == (StatusCode.RESOURCE_EXHAUSTED, "NO_CAPACITY")
    assert refused.quota == "fleet_sessions"
    assert refused.retry_after > 0
    assert (await create("1")).account.id == first.id, "a repeat is answered"
    full = await capacity_of(own_world)
    assert (full.active, full.max, full.available, full.usage_percent) == (2, 2, 0, 100.0)


async def test_rivals_for_the_last_places_do_not_all_get_one(own_world: RouterWorld) -> None:
    await node(own_world, "n1", capacity=3)
    create = await account_maker(own_world)

    async def admitted() -> int:
        """A repeat is answered. Who comes while accounts are counted may be refused, and admitted later."""
        names = [str(number) for number in range(10)]
        answers = await asyncio.gather(*[create(name) for name in names], return_exceptions=True)
        refusals = [answer for answer in answers if isinstance(answer, BaseException)]
        assert len(refusals) >= 7, refusals
        return len(answers) - len(refusals)

    async def all_places() -> bool:
        return await admitted() == 3

    await eventually(all_places)


@pytest.mark.slow
async def test_a_paused_account_needs_no_place_until_it_goes_online(own_world: RouterWorld) -> None:
    await node(own_world, "n1", capacity=1)
    create = await account_maker(own_world)
    paused = (await create("paused", desired_state=PAUSED)).account
    running = (await create("running")).account

    def change(account_id: str, state: Any) -> Any:
        request = account_pb2.UpdateAccountRequest(
            account_id=account_id,
            account=account_pb2.Account(desired_state=state),
            update_mask=FieldMask(paths=["desired_state"]),
        )
        return own_world.accounts.UpdateAccount(request, metadata=ADMIN)

    assert (await failing(change(paused.id, ONLINE))).reason == "NO_CAPACITY"
    await change(running.id, ONLINE)  # it is so already
    await change(running.id, PAUSED)

    async def takes_the_place() -> bool:
        try:
            await change(paused.id, ONLINE)
        except grpc.aio.AioRpcError:
            return False
        return True

    await eventually(takes_the_place)


@pytest.mark.slow
async def test_a_deleted_account_comes_back_only_where_there_is_room(own_world: RouterWorld) -> None:
    await node(own_world, "n1", capacity=1)
    create = await account_maker(own_world)
    deleted = (await create("1")).account
    await own_world.accounts.DeleteAccount(
        account_pb2.DeleteAccountRequest(account_id=deleted.id), metadata=ADMIN
    )
    numbers = iter(range(10_000))

    async def another_takes_the_place() -> bool:
        try:
            await create(f"other-{next(numbers)}")
        except grpc.aio.AioRpcError:
            return False
        return True

    await eventually(another_takes_the_place)
    undelete = account_pb2.UndeleteAccountRequest(account_id=deleted.id)
    assert (
        await failing(own_world.accounts.UndeleteAccount(undelete, metadata=ADMIN))
    ).reason == "NO_CAPACITY"


async def test_without_any_node_accounts_may_be_created(own_world: RouterWorld) -> None:
    create = await account_maker(own_world)
    assert (await create("1")).account.id


# --- plans


@pytest.mark.read_back("PlanCapacity")
async def test_a_plan_says_what_is_needed_and_why(world: RouterWorld) -> None:
    await node(world, "n1", capacity=4000)
    request = fleet_pb2.PlanCapacityRequest(accounts=10_000, messages_per_second=100)
    plan = await world.fleet.PlanCapacity(request, metadata=ADMIN)
    assert plan.nodes == 4, "three for the sessions, and one to lose"
    assert 0 < plan.node_cores < 1
    assert plan.node_memory_bytes > 0
    assert plan.connect_time.seconds == 7, "3,334 accounts at 500 a second"
    assert any("4000 sessions" in line for line in plan.assumptions)
    busy = fleet_pb2.PlanCapacityRequest(accounts=1, messages_per_second=2000, spare_nodes=2)
    plan = await world.fleet.PlanCapacity(busy, metadata=ADMIN)
    assert plan.nodes == 5 + 2, "2.9 cores at 70 %, a core each"
    idle = fleet_pb2.PlanCapacityRequest(accounts=1, messages_per_second=0, spare_nodes=0)
    plan = await world.fleet.PlanCapacity(idle, metadata=ADMIN)
    assert (plan.nodes, plan.node_cores) == (1, 0)


async def test_the_largest_plan_can_be_made(world: RouterWorld) -> None:
    request = fleet_pb2.PlanCapacityRequest(accounts=10**9, messages_per_second=1e9, spare_nodes=10**6)
    assert (await world.fleet.PlanCapacity(request, metadata=ADMIN)).nodes > 10**6


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"accounts": 0}, "accounts"),
        ({"accounts": -1}, "accounts"),
        ({"accounts": 2**63 - 1}, "accounts"),
        ({"accounts": 1, "messages_per_second": -1.0}, "messages_per_second"),
        ({"accounts": 1, "messages_per_second": 1e300}, "messages_per_second"),
        ({"accounts": 1, "spare_nodes": -1}, "spare_nodes"),
        ({"accounts": 1, "spare_nodes": 2**31 - 1}, "spare_nodes"),
    ],
)
async def test_a_plan_for_what_cannot_be_is_refused(
    world: RouterWorld, fields: dict[str, Any], field: str
) -> None:
    request = fleet_pb2.PlanCapacityRequest(**fields)
    refused = await failing(world.fleet.PlanCapacity(request, metadata=ADMIN))
    assert (refused.code, refused.field) == (StatusCode.INVALID_ARGUMENT, field)


@pytest.mark.read_back("ClearCaches")
async def test_what_networks_answered_one_tenant_is_cleared(
    postgres_url: str, etcd: str, cluster: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_answers, "TIMEOUT_SECONDS", 10.0)  # a busy machine is no wrong answer
    answers = KeptAnswers(redis_url)
    tenants = [new_uuid(), new_uuid()]
    about = [Kept(tenant, "simulated", "numbers") for tenant in tenants]
    for each in about:
        await answers.keep(each, {"a": b"there", "b": b""})
    async with router_world(postgres_url, etcd, cluster, redis=RedisSettings(url=redis_url)) as world:
        request = fleet_pb2.ClearCachesRequest(tenant_id=ids.encode(Prefix.TENANT, tenants[0]))
        assert (await world.fleet.ClearCaches(request, metadata=ADMIN)).cleared == 2
    assert [len(await answers.known(each, ["a", "b"])) for each in about] == [0, 2]
    await answers.close()


async def test_without_a_redis_there_is_nothing_to_clear(own_world: RouterWorld) -> None:
    cleared = await own_world.fleet.ClearCaches(fleet_pb2.ClearCachesRequest(), metadata=ADMIN)
    assert cleared.cleared == 0
    refused = await failing(
        own_world.fleet.ClearCaches(fleet_pb2.ClearCachesRequest(tenant_id="tnt_?"), metadata=ADMIN)
    )
    assert refused.code == StatusCode.INVALID_ARGUMENT
