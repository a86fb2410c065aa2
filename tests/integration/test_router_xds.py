"""The xDS control plane of a real router, spoken to step by step."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from grpc import StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from prometheus_client import REGISTRY

from mesh_core.ownership.keys import ClusterKeys, NodeInfo, NodeState, encode
from mesh_router.xds.client import MAX_NAMES
from mesh_router.xds.control_plane import SERVICE
from mesh_router.xds.resources import CLUSTER_TYPE, ENDPOINT_TYPE, LISTENER_TYPE, ROUTE_TYPE
from mesh_wire.lookup.rls_pb2 import RouteLookupRequest, RouteLookupResponse
from mesh_wire.lookup.rls_pb2_grpc import RouteLookupServiceStub
from mesh_wire.xds import admin_pb2, core_pb2, csds_pb2, csds_pb2_grpc
from mesh_wire.xds.discovery_pb2 import DiscoveryRequest
from tests.support.ads import AdsStream, endpoints, names
from tests.support.eventually import eventually
from tests.support.relay import relay_to
from tests.support.router_process import process_world
from tests.support.router_world import (
    ADMIN,
    RouterWorld,
    bearer,
    failing,
    new_account,
    router_world,
    tenant_key,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

KIB = 1024
EVERYTHING = {
    LISTENER_TYPE: ("sessionmesh", "sessionmesh-plain"),
    ROUTE_TYPE: ("sessionmesh", "sessionmesh-plain"),
    CLUSTER_TYPE: ("router", "media", "webhook", "simulator", "node:a"),
    ENDPOINT_TYPE: ("router", "media", "webhook", "simulator", "node:a"),
}


@pytest_asyncio.fixture(loop_scope="module")
async def ads(world: RouterWorld) -> AsyncIterator[AdsStream]:
    async with AdsStream(world.channel) as stream:
        yield stream


async def look_up(world: RouterWorld, account: str, **keys: str) -> RouteLookupResponse:
    request = RouteLookupRequest(target_type="grpc", key_map={"account": account, **keys})
    found: RouteLookupResponse = await world.stub(RouteLookupServiceStub).RouteLookup(request, timeout=20)
    return found


async def until_told(world: RouterWorld, account: str, *targets: str) -> RouteLookupResponse:
    """Wait until the router answers lookups of the account so."""

    async def told() -> RouteLookupResponse | None:
        found = await look_up(world, account)
        return found if tuple(found.targets) == targets else None

    return await eventually(told, what=f"the answer {targets}")


async def test_the_routers_are_found_at_their_own_address(world: RouterWorld, ads: AdsStream) -> None:
    found = await ads.get(ENDPOINT_TYPE, "router")
    assert endpoints(found["router"]) == [[world.address]]


@pytest.mark.parametrize(
    "order",
    [
        (LISTENER_TYPE, ROUTE_TYPE, CLUSTER_TYPE, ENDPOINT_TYPE),
        (ENDPOINT_TYPE, CLUSTER_TYPE, ROUTE_TYPE, LISTENER_TYPE),
        (CLUSTER_TYPE, LISTENER_TYPE, ENDPOINT_TYPE, ROUTE_TYPE),
    ],
)
async def test_subscriptions_come_in_any_order(ads: AdsStream, order: tuple[str, ...]) -> None:
    for type_url in order:
        name = "router" if type_url in (CLUSTER_TYPE, ENDPOINT_TYPE) else "sessionmesh"
        assert list(await ads.get(type_url, name)) == [name]


async def test_a_node_that_comes_and_goes_is_told_to_those_who_asked_for_it(
    world: RouterWorld, ads: AdsStream
) -> None:
    assert list(await ads.get(CLUSTER_TYPE, "router", "node:a")) == ["router"]
    node = await world.node("a")
    response = await ads.receive()
    assert len(response.resources) == 2
    await ads.acknowledge(response)
    found = await ads.get(ENDPOINT_TYPE, "node:a")
    assert endpoints(found["node:a"]) == [[node.server.address]]
    await node.unregister()
    response = await ads.receive()
    assert (response.type_url, len(response.resources)) == (CLUSTER_TYPE, 1)


async def test_only_what_changed_is_told_and_only_to_those_whom_it_concerns(world: RouterWorld) -> None:
    async with AdsStream(world.channel) as one, AdsStream(world.channel) as other:
        await one.get(ENDPOINT_TYPE, "router", "media")
        await other.get(ENDPOINT_TYPE, "router", "webhook")
        await world.instance("media", {})
        assert names(await one.receive()) == ["media"]
        await world.instance("webhook", {})
        # The other one was not told of media: this is what comes first.
        assert names(await other.receive()) == ["webhook"]


async def test_a_refused_response_is_counted_and_comes_again_only_when_it_changes(
    world: RouterWorld, ads: AdsStream
) -> None:
    before = REGISTRY.get_sample_value("mesh_xds_nacks_total", {"type": "ClusterLoadAssignment"}) or 0
    await ads.subscribe(ENDPOINT_TYPE, "router", "media")
    await ads.refuse(await ads.receive(), "a test says so")
    await world.instance("media", {})
    response = await ads.receive()
    assert names(response) == ["media"]
    await ads.acknowledge(response)
    assert REGISTRY.get_sample_value("mesh_xds_nacks_total", {"type": "ClusterLoadAssignment"}) == before + 1


@pytest.mark.slow
async def test_two_routers_give_identical_answers(
    postgres_url: str, etcd: str, cluster: str, tmp_path: Path
) -> None:
    async with process_world(postgres_url, etcd, cluster, tmp_path) as world:
        routers = [await world.start() for _ in range(2)]
        await world.node("a")
        channels = [world.open(await router.serving()) for router in routers]

        async def answer(channel: Any) -> list[Any]:
            answers = []
            async with AdsStream(channel) as stream:
                for type_url, names in EVERYTHING.items():
                    await stream.subscribe(type_url, *names)
                    response = await stream.receive()
                    response.nonce = ""
                    answers.append(response)
            return answers

        async def equal() -> bool:
            one, other = [await answer(channel) for channel in channels]
            complete = [len(response.resources) for response in one] == [2, 2, 5, 5]
            return complete and one == other

        await eventually(equal, what="the same answers")


async def test_what_was_seen_last_is_told_while_etcd_is_away(
    postgres_url: str, etcd: str, cluster: str
) -> None:
    account = new_account()
    async with relay_to(etcd) as relay, router_world(postgres_url, relay.url, cluster) as world:
        node = await world.node("a")
        await node.own(account, epoch=3)
        await until_told(world, account, "node:a", "router")
        await relay.cut()
        async with AdsStream(world.channel) as ads:
            assert set(await ads.get(CLUSTER_TYPE, "router", "node:a")) == {"router", "node:a"}
            found = await ads.get(ENDPOINT_TYPE, "node:a")
            assert endpoints(found["node:a"]) == [[node.server.address]]
        assert (await look_up(world, account)).header_data == "epoch=3"
        await relay.open()  # for the world's own end


async def test_lookups_name_the_owner_without_a_key(world: RouterWorld) -> None:
    account = new_account()
    assert list((await look_up(world, account)).targets) == ["router"]
    node = await world.node("a")
    await node.own(account, epoch=5)
    assert (await until_told(world, account, "node:a", "router")).header_data == "epoch=5"
    assert list((await look_up(world, account, attempts="1")).targets) == ["router"]


async def test_an_owner_that_left_is_not_named(world: RouterWorld) -> None:
    account = new_account()
    node = await world.node("a")
    await node.own(account)
    await until_told(world, account, "node:a", "router")
    await node.unregister()
    await until_told(world, account, "router")


async def test_a_node_that_registers_with_a_name_is_found_by_its_addresses(
    world: RouterWorld, ads: AdsStream
) -> None:
    info = NodeInfo(id="a", incarnation="a-1", address="localhost:7601", capacity=1, state=NodeState.ACTIVE)
    await world.etcd.put(ClusterKeys(world.cluster).node("a"), encode(info))
    found = await ads.get(ENDPOINT_TYPE, "node:a")
    assert "127.0.0.1:7601" in endpoints(found["node:a"])[0]


BAD = {
    "of an unknown type": (DiscoveryRequest(type_url="x", node=core_pb2.Node()), "INVALID_FIELD"),
    "without a node": (DiscoveryRequest(type_url=CLUSTER_TYPE), "INVALID_FIELD"),
    "with too many names": (
        DiscoveryRequest(
            type_url=CLUSTER_TYPE,
            node=core_pb2.Node(),
            resource_names=[str(n) for n in range(MAX_NAMES + 1)],
        ),
        "INVALID_FIELD",
    ),
    "that is too large": (
        DiscoveryRequest(type_url=CLUSTER_TYPE, resource_names=["x" * 2 * KIB * KIB]),
        "MESSAGE_TOO_LARGE",
    ),
}


@pytest.mark.parametrize("kind", BAD)
async def test_a_bad_request_ends_its_own_stream_with_a_reason(
    world: RouterWorld, ads: AdsStream, kind: str
) -> None:
    await ads.get(ENDPOINT_TYPE, "media")
    request, reason = BAD[kind]
    async with AdsStream(world.channel) as bad:
        await bad.send(request)
        assert (await failing(bad.call.read())).reason == reason
    await world.instance("media", {})
    assert names(await ads.receive()) == ["media"]


async def test_a_client_that_asks_for_too_many_names_can_say_all_of_it_and_is_told_so(
    world: RouterWorld,
) -> None:
    async with AdsStream(world.channel) as greedy:
        for number in range(12):
            wanted = [f"node:{number}-{one}-{'x' * 200}" for one in range(1_000)]
            await greedy.send(
                DiscoveryRequest(type_url=CLUSTER_TYPE, node=core_pb2.Node(), resource_names=wanted)
            )
        failed = await failing(greedy.call.read())
    assert (failed.code, failed.reason) == (StatusCode.RESOURCE_EXHAUSTED, "QUOTA_EXCEEDED")


async def test_bytes_that_are_no_request_end_their_own_stream_with_a_reason(world: RouterWorld) -> None:
    method: Any = world.channel.stream_stream(f"/{SERVICE}/StreamAggregatedResources")
    call = method()
    await call.write(b"\xff\xff\xff")
    failed = await failing(call.read())
    assert (failed.code, failed.reason) == (StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")


@pytest.mark.slow
async def test_clients_that_leave_while_they_are_told_of_changes_harm_nobody(
    world: RouterWorld, ads: AdsStream
) -> None:
    await ads.get(CLUSTER_TYPE, "node:a")
    for _ in range(20):
        leaving = [AdsStream(world.channel) for _ in range(10)]
        for stream in leaving:
            await stream.get(CLUSTER_TYPE, "node:a")
        node = await world.node("a")
        for stream in leaving:
            stream.call.cancel()
        assert names(await ads.receive()) == ["node:a"]
        await node.unregister()
        assert names(await ads.receive()) == []


async def test_a_draining_router_sends_its_clients_away(postgres_url: str, etcd: str, cluster: str) -> None:
    async with router_world(postgres_url, etcd, cluster) as world, AdsStream(world.channel) as ads:
        await ads.get(CLUSTER_TYPE, "router")
        world.stop.ask("a test says so")
        async with asyncio.timeout(20):
            failed = await failing(ads.call.read())
    assert (failed.code, failed.reason) == (StatusCode.UNAVAILABLE, "GOING_AWAY")


async def status(world: RouterWorld, node_id: str) -> dict[str, Any]:
    """What the control plane says of each resource that a client asked for."""
    request = csds_pb2.ClientStatusRequest()
    request.node_matchers.add().node_id.exact = node_id
    stub = world.stub(csds_pb2_grpc.ClientStatusDiscoveryServiceStub)
    found = await stub.FetchClientStatus(request, metadata=ADMIN, timeout=20)
    (config,) = found.config
    assert config.node.id == node_id
    return {resource.name: resource for resource in config.generic_xds_configs}


async def test_operators_see_what_each_client_has(world: RouterWorld) -> None:
    async with AdsStream(world.channel, "client-7") as ads, AdsStream(world.channel, "client-8") as other:
        await other.get(CLUSTER_TYPE, "router")
        await ads.subscribe(ENDPOINT_TYPE, "router", "node:gone")
        response = await ads.receive()
        waiting = (await status(world, "client-7"))["router"]
        assert (waiting.client_status, waiting.config_status) == (admin_pb2.REQUESTED, csds_pb2.STALE)
        await ads.acknowledge(response)

        async def is_now(name: str, expected: Any) -> Any:
            found = (await status(world, "client-7"))[name]
            return found if found.client_status == expected else None

        acked = await eventually(lambda: is_now("router", admin_pb2.ACKED))
        assert acked.version_info == response.version_info
        missing = (await status(world, "client-7"))["node:gone"]
        assert (missing.client_status, missing.config_status) == (
            admin_pb2.DOES_NOT_EXIST,
            csds_pb2.NOT_SENT,
        )
        await ads.subscribe(ENDPOINT_TYPE, "router", "media")
        await ads.refuse(await ads.receive(), "a test says so")
        refused = await eventually(lambda: is_now("media", admin_pb2.NACKED))
        assert refused.error_state.details == "a test says so"
        assert refused.version_info == response.version_info


async def test_the_stream_of_client_status_answers_each_request(world: RouterWorld) -> None:
    request = csds_pb2.ClientStatusRequest()
    request.node_matchers.add().node_id.exact = "client-9"
    async with AdsStream(world.channel, "client-9") as ads:
        await ads.get(CLUSTER_TYPE, "router")
        call = world.stub(csds_pb2_grpc.ClientStatusDiscoveryServiceStub).StreamClientStatus(metadata=ADMIN)
        for one in (request, request, csds_pb2.ClientStatusRequest()):
            await call.write(one)
            response = await call.read()
            assert "client-9" in {config.node.id for config in response.config}
            assert len(response.config) == 1 or one is not request
        call.cancel()


async def test_client_status_is_for_operators_alone(world: RouterWorld) -> None:
    stub = world.stub(csds_pb2_grpc.ClientStatusDiscoveryServiceStub)
    request = csds_pb2.ClientStatusRequest()
    assert (await failing(stub.FetchClientStatus(request))).reason == "CREDENTIALS_MISSING"
    tenants = bearer(await tenant_key(world))
    refused = await failing(stub.FetchClientStatus(request, metadata=tenants))
    assert refused.reason == "SCOPE_MISSING"


async def test_the_control_plane_is_healthy_and_described(world: RouterWorld) -> None:
    health = world.stub(health_pb2_grpc.HealthStub)
    check: Any = health_pb2.HealthCheckRequest
    assert (await health.Check(check(service=SERVICE))).status == 1
    call = world.stub(reflection_pb2_grpc.ServerReflectionStub).ServerReflectionInfo()
    await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
    listed = {service.name for service in (await call.read()).list_services_response.service}
    assert {
        SERVICE,
        "grpc.lookup.v1.RouteLookupService",
        "envoy.service.status.v3.ClientStatusDiscoveryService",
    } <= listed
    call.cancel()
