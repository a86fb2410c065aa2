"""Drains through real routers, etcd and Postgres; the nodes are keys that a test writes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from grpc import StatusCode

from mesh_core.ids import new_uuid
from mesh_core.ownership.keys import NodeState
from mesh_router.fleet import drains
from sessionmesh.admin.v1 import fleet_pb2
from sessionmesh.v1 import job_pb2
from tests.support.eventually import eventually
from tests.support.fake_nodes import FakeNode
from tests.support.router_world import (
    ADMIN,
    RouterWorld,
    account_maker,
    bearer,
    failing,
    router_world,
    tenant_key,
)
from tests.support.servers import patient_etcd_at

pytestmark = pytest.mark.asyncio(loop_scope="module")

SHARDS = range(4)


@pytest_asyncio.fixture(loop_scope="module")
async def world(router: RouterWorld) -> AsyncIterator[RouterWorld]:
    """The router of the module, which has no jobs."""
    async with router.scene() as scene:
        yield scene
        # It would go on with the drains of a test that has ended.
        await scene.database.pool.execute("DELETE FROM job")
        await scene.database.pool.execute("DELETE FROM request")


@pytest_asyncio.fixture(loop_scope="module")
async def old(world: RouterWorld) -> FakeNode:
    """An ACTIVE node that owns four shards, as the router sees."""
    node = FakeNode(world.etcd, world.cluster, "old")
    await node.register()
    await node.own(SHARDS)
    await eventually(lambda: owns(world, "old", len(SHARDS)))
    return node


@pytest_asyncio.fixture(loop_scope="module")
async def other(world: RouterWorld) -> FakeNode:
    """An ACTIVE node that owns nothing."""
    node = FakeNode(world.etcd, world.cluster, "other")
    await node.register()
    await eventually(lambda: owns(world, "other", 0))
    return node


async def owns(world: RouterWorld, node_id: str, shards: int) -> bool:
    nodes = (await world.fleet.ListNodes(fleet_pb2.ListNodesRequest(), metadata=ADMIN)).nodes
    return any(node.id == node_id and node.shards == shards for node in nodes)


async def drain(
    world: RouterWorld, node_id: str, replacement: str = "", request_id: str = "drain", force: bool = False
) -> job_pb2.Job:
    request = fleet_pb2.DrainNodeRequest(
        request_id=request_id, node_id=node_id, replacement_node_id=replacement, force=force
    )
    job: job_pb2.Job = (await world.fleet.DrainNode(request, metadata=ADMIN)).job
    return job


async def undrain(world: RouterWorld, node_id: str) -> fleet_pb2.Node:
    request = fleet_pb2.UndrainNodeRequest(node_id=node_id)
    node: fleet_pb2.Node = (await world.fleet.UndrainNode(request, metadata=ADMIN)).node
    return node


async def get(world: RouterWorld, job: job_pb2.Job) -> job_pb2.Job:
    found: job_pb2.Job = (await world.jobs.GetJob(job_pb2.GetJobRequest(job_id=job.id), metadata=ADMIN)).job
    return found


async def until(world: RouterWorld, job: job_pb2.Job, state: job_pb2.JobState.ValueType) -> job_pb2.Job:
    async def reached() -> job_pb2.Job | None:
        found = await get(world, job)
        return found if found.state == state else None

    return await eventually(reached, what=job_pb2.JobState.Name(state))


@pytest.mark.read_back("DrainNode", "GetJob")
async def test_a_drained_node_gets_the_order_and_the_job_counts_shards(
    world: RouterWorld, old: FakeNode, other: FakeNode
) -> None:
    job = await drain(world, "old")
    assert (job.kind, job.state, job.subject) == (
        job_pb2.JOB_KIND_DRAIN_NODE,
        job_pb2.JOB_STATE_RUNNING,
        "old",
    )
    assert (job.total, job.done, job.tenant_id) == (4, 0, "")
    assert ((await old.info()).state, (await old.info()).replaced_by) == (NodeState.DRAINING, "")
    await other.own([0, 1, 2], epoch=2)

    async def three_done() -> bool:
        return (await get(world, job)).done == 3

    await eventually(three_done)


async def test_the_job_succeeds_when_the_node_owns_nothing(
    world: RouterWorld, old: FakeNode, other: FakeNode
) -> None:
    job = await drain(world, "old")
    await other.own(SHARDS, epoch=2)
    ended = await until(world, job, job_pb2.JOB_STATE_SUCCEEDED)
    assert (ended.total, ended.done, ended.HasField("end_time")) == (4, 4, True)
    assert (await old.info()).state is NodeState.DRAINING


@pytest.mark.read_back("WatchJob")
async def test_a_watch_shows_the_progress_and_ends_with_the_job(
    world: RouterWorld, old: FakeNode, other: FakeNode
) -> None:
    job = await drain(world, "old")
    done = []
    async for frame in world.jobs.WatchJob(job_pb2.WatchJobRequest(job_id=job.id), metadata=ADMIN):
        done.append(frame.job.done)
        if frame.job.done < 4:
            await other.own([frame.job.done], epoch=2)
    assert done == sorted(done)
    assert (done[0], done[-1]) == (0, 4)
    assert frame.job.state == job_pb2.JOB_STATE_SUCCEEDED


async def test_a_replacement_becomes_active_and_is_named_in_the_order(
    world: RouterWorld, old: FakeNode
) -> None:
    spare = FakeNode(world.etcd, world.cluster, "spare")
    await spare.register(NodeState.STANDBY)
    await drain(world, "old", "spare")
    assert (await old.info()).replaced_by == "spare"
    assert (await spare.info()).state is NodeState.ACTIVE


async def test_the_same_request_returns_the_same_job(
    world: RouterWorld, old: FakeNode, other: FakeNode
) -> None:
    job = await drain(world, "old")
    assert (await drain(world, "old")).id == job.id
    assert (await drain(world, "old", request_id="again")).id == job.id, "it drains already"
    refused = await failing(drain(world, "other"))
    assert (refused.code, refused.reason) == (StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")
    await other.own(SHARDS, epoch=2)
    await until(world, job, job_pb2.JOB_STATE_SUCCEEDED)
    await old.leave()
    assert (await drain(world, "old")).state == job_pb2.JOB_STATE_SUCCEEDED


async def test_a_drain_to_somebody_else_is_refused_while_one_runs(
    world: RouterWorld, old: FakeNode, other: FakeNode
) -> None:
    job = await drain(world, "old")
    refused = await failing(drain(world, "old", "other", "second"))
    assert (refused.reason, refused.resource) == ("RESOURCE_EXISTS", f"job {job.id}")


@pytest.mark.parametrize(
    ("node_id", "replacement", "code", "reason"),
    [
        ("", "", StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"),
        ("old", "old", StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"),
        ("nobody", "", StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND"),
        ("old", "nobody", StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND"),
        ("old", "", StatusCode.FAILED_PRECONDITION, "LAST_NODE"),
        ("old", "joining", StatusCode.FAILED_PRECONDITION, "NODE_STATE"),
    ],
)
async def test_an_order_that_makes_no_sense_is_refused_and_leaves_nothing(
    world: RouterWorld, old: FakeNode, node_id: str, replacement: str, code: StatusCode, reason: str
) -> None:
    await FakeNode(world.etcd, world.cluster, "joining").register(NodeState.JOINING)
    refused = await failing(drain(world, node_id, replacement))
    assert (refused.code, refused.reason) == (code, reason)
    assert (await old.info()).state is NodeState.ACTIVE
    assert not (await world.jobs.ListJobs(job_pb2.ListJobsRequest(), metadata=ADMIN)).jobs


async def test_two_nodes_cannot_both_drain_when_each_is_the_others_heir(
    world: RouterWorld, old: FakeNode, other: FakeNode
) -> None:
    await drain(world, "old")
    assert (await failing(drain(world, "other", request_id="second"))).reason == "LAST_NODE"


@pytest.mark.parametrize("how", ["undrain", "cancel"])
@pytest.mark.read_back("CancelJob")
async def test_a_drain_that_is_called_off_lets_the_node_serve_again(
    world: RouterWorld, old: FakeNode, other: FakeNode, how: str
) -> None:
    job = await drain(world, "old", "other")
    if how == "undrain":
        assert (await undrain(world, "old")).state == fleet_pb2.NODE_STATE_ACTIVE
    else:
        cancel = job_pb2.CancelJobRequest(job_id=job.id)
        answer = await world.jobs.CancelJob(cancel, metadata=ADMIN)
        assert answer.job.state == job_pb2.JOB_STATE_CANCELLED
        assert await world.jobs.CancelJob(cancel, metadata=ADMIN) == answer, "a repeat"
    assert ((await old.info()).state, (await old.info()).replaced_by) == (NodeState.ACTIVE, "")
    assert (await get(world, job)).state == job_pb2.JOB_STATE_CANCELLED


async def test_a_job_that_has_ended_cannot_be_cancelled(
    world: RouterWorld, old: FakeNode, other: FakeNode
) -> None:
    job = await drain(world, "old")
    await other.own(SHARDS, epoch=2)
    await until(world, job, job_pb2.JOB_STATE_SUCCEEDED)
    refused = await failing(world.jobs.CancelJob(job_pb2.CancelJobRequest(job_id=job.id), metadata=ADMIN))
    assert (refused.code, refused.reason) == (StatusCode.FAILED_PRECONDITION, "JOB_ENDED")


@pytest.mark.read_back("UndrainNode")
async def test_undrain_makes_a_drained_or_spare_node_serve(world: RouterWorld, old: FakeNode) -> None:
    await old.register(NodeState.STANDBY)
    await undrain(world, "old")
    assert (await old.info()).state is NodeState.ACTIVE
    assert (await failing(undrain(world, "nobody"))).code == StatusCode.NOT_FOUND


async def test_a_node_that_starts_anew_while_it_drains_is_told_again(
    world: RouterWorld, old: FakeNode, other: FakeNode
) -> None:
    job = await drain(world, "old")
    old.start += 1
    await old.register()

    async def told() -> bool:
        info = await old.info()
        return (info.incarnation, info.state) == ("old-2", NodeState.DRAINING)

    await eventually(told)
    assert (await get(world, job)).state == job_pb2.JOB_STATE_RUNNING


async def test_a_node_that_leaves_for_good_is_drained(
    world: RouterWorld, old: FakeNode, other: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drains, "RETURN_SECONDS", 0.5)
    job = await drain(world, "old")
    await old.leave()
    await old.disown(SHARDS)
    await until(world, job, job_pb2.JOB_STATE_SUCCEEDED)


async def test_a_drain_fails_when_nobody_is_left_to_take_over(
    world: RouterWorld, old: FakeNode, other: FakeNode
) -> None:
    job = await drain(world, "old")
    await other.leave()
    old.start += 1
    await old.register()
    failed = await until(world, job, job_pb2.JOB_STATE_FAILED)
    assert failed.error.code == StatusCode.FAILED_PRECONDITION.value[0]
    assert (await old.info()).state is NodeState.ACTIVE


@pytest.mark.slow
async def test_another_router_finishes_what_one_began(postgres_url: str, etcd: str, cluster: str) -> None:
    client = patient_etcd_at(etcd)
    old, other = FakeNode(client, cluster, "old"), FakeNode(client, cluster, "other")
    async with router_world(postgres_url, etcd, cluster) as first:
        for node in (old, other):
            await node.register()
        await old.own(SHARDS)
        await eventually(lambda: owns(first, "old", len(SHARDS)))
        job = await drain(first, "old")
    async with router_world(postgres_url, etcd, cluster) as second:
        assert (await get(second, job)).state == job_pb2.JOB_STATE_RUNNING
        await other.own(SHARDS, epoch=2)
        await until(second, job, job_pb2.JOB_STATE_SUCCEEDED)
    await client.close()


async def test_a_wish_that_only_postgres_knows_is_carried_out(
    world: RouterWorld, old: FakeNode, other: FakeNode
) -> None:
    """As left by a router that died between storing the job and telling the node."""
    await world.database.pool.execute(
        "INSERT INTO job (id, kind, subject) VALUES ($1, $2, 'old')",
        new_uuid(),
        job_pb2.JOB_KIND_DRAIN_NODE,
    )

    async def told() -> bool:
        return (await old.info()).state is NodeState.DRAINING

    await eventually(told)
    await world.database.pool.execute("UPDATE job SET cancel_time = now()")

    async def called_off() -> bool:
        return (await old.info()).state is NodeState.ACTIVE

    await eventually(called_off)


async def test_a_drain_that_leaves_too_little_capacity_needs_force(
    postgres_url: str, etcd: str, cluster: str
) -> None:
    """Of the whole fleet: with a router of its own, since the router counts all accounts."""
    async with router_world(postgres_url, etcd, cluster) as world:
        old, other = FakeNode(world.etcd, cluster, "old"), FakeNode(world.etcd, cluster, "other", capacity=2)
        for node in (old, other):
            await node.register()
        await old.own(SHARDS)
        await eventually(lambda: owns(world, "old", len(SHARDS)))
        await eventually(lambda: owns(world, "other", 0))
        create = await account_maker(world)
        for number in range(3):
            await create(f"account-{number}")

        async def refused() -> bool:
            return str((await failing(drain(world, "old"))).reason) == "NO_CAPACITY"

        await eventually(refused)
        assert (await failing(drain(world, "old", "other"))).reason == "NO_CAPACITY"
        assert (await drain(world, "old", force=True)).state == job_pb2.JOB_STATE_RUNNING


@pytest.mark.read_back("ListJobs")
async def test_jobs_are_listed_newest_first_by_kind_and_state(
    world: RouterWorld, old: FakeNode, other: FakeNode
) -> None:
    first = await drain(world, "old")
    await undrain(world, "old")
    second = await drain(world, "old", request_id="second")

    async def ids(**filters: Any) -> list[str]:
        found = await world.jobs.ListJobs(job_pb2.ListJobsRequest(**filters), metadata=ADMIN)
        return [job.id for job in found.jobs]

    assert await ids() == [second.id, first.id]
    assert await ids(states=[job_pb2.JOB_STATE_CANCELLED]) == [first.id]
    assert await ids(kind=job_pb2.JOB_KIND_PRUNE_MEDIA) == []
    page = await world.jobs.ListJobs(job_pb2.ListJobsRequest(page_size=1), metadata=ADMIN)
    assert await ids(page_size=1, page_token=page.next_page_token) == [first.id]
    refused = await failing(
        world.jobs.ListJobs(job_pb2.ListJobsRequest(states=[job_pb2.JOB_STATE_UNSPECIFIED]), metadata=ADMIN)
    )
    assert refused.field == "states[0]"


async def test_an_operators_job_does_not_exist_for_tenants(
    world: RouterWorld, old: FakeNode, other: FakeNode
) -> None:
    job = await drain(world, "old")
    as_tenant = bearer(await tenant_key(world))
    for call in (
        world.jobs.GetJob(job_pb2.GetJobRequest(job_id=job.id), metadata=as_tenant),
        world.jobs.CancelJob(job_pb2.CancelJobRequest(job_id=job.id), metadata=as_tenant),
    ):
        assert (await failing(call)).code == StatusCode.NOT_FOUND
    assert not (await world.jobs.ListJobs(job_pb2.ListJobsRequest(), metadata=as_tenant)).jobs
    refused = await failing(
        world.fleet.DrainNode(fleet_pb2.DrainNodeRequest(request_id="x", node_id="old"), metadata=as_tenant)
    )
    assert refused.reason == "SCOPE_MISSING"
