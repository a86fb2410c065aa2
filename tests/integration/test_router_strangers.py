"""Greedy clients of the control plane, who need no key: the router stays small, and serves the others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc.aio
import pytest

from mesh_router.xds.resources import CLUSTER_TYPE, ENDPOINT_TYPE
from mesh_router.xds.snapshot import TYPES
from mesh_wire.xds import core_pb2
from mesh_wire.xds.discovery_pb2 import DiscoveryRequest
from tests.support.ads import AdsStream, names
from tests.support.router_process import ProcessWorld, process_world, pss

pytestmark = pytest.mark.slow

MIB = 1024 * 1024
STREAMS = 300
NAMES = 4_000
HELD = 60 * MIB
"""Most that the router may hold for them: 300 streams at 30 kB, and 96 KiB of names each."""


@pytest.fixture
async def world(postgres_url: str, etcd: str, cluster: str, tmp_path: Path) -> AsyncIterator[ProcessWorld]:
    async with process_world(postgres_url, etcd, cluster, tmp_path) as running:
        await running.start()
        yield running


def asking(type_url: str, stream: int, count: int) -> DiscoveryRequest:
    """For names that are nobody else's, and that do not exist."""
    return DiscoveryRequest(
        type_url=type_url,
        node=core_pb2.Node(id=f"greedy-{stream}"),
        resource_names=[f"node:{stream}-{number}-{'x' * 40}" for number in range(count)],
    )


async def greedy(channel: grpc.aio.Channel, stream: int, count: int) -> AdsStream:
    """A stream that has asked for so many names of each type, as far as the router let it."""
    ads = AdsStream(channel)
    try:
        for type_url in TYPES:
            await ads.send(asking(type_url, stream, count))
        await ads.call.read()
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
        pass  # refused
    return ads


@pytest.mark.parametrize("count", [NAMES, 140])
async def test_names_that_do_not_exist_cost_little_and_nothing_once_their_streams_are_closed(
    world: ProcessWorld, count: int
) -> None:
    router = world.routers[0].pid
    async with AdsStream(world.channel) as bystander:
        await bystander.get(CLUSTER_TYPE, "router")
        before = pss(router)
        channels = [world.open(world.address) for _ in range(10)]
        streams = []
        for begun in range(0, STREAMS, 20):
            some = range(begun, begun + 20)
            streams += await asyncio.gather(*(greedy(channels[one % 10], one, count) for one in some))
        assert pss(router) - before < HELD
        assert set(await bystander.get(ENDPOINT_TYPE, "router")) == {"router"}
        for stream in streams:
            stream.call.cancel()
    async with AdsStream(world.channel) as another:
        await another.subscribe(CLUSTER_TYPE, "router")
        assert names(await another.receive()) == ["router"]
    assert pss(router) - before < HELD
