"""Calls of FleetService, and nodes that a router has seen."""

from __future__ import annotations

import asyncio
from typing import Any

from mesh_core.ownership.keys import NodeState
from sessionmesh.admin.v1 import fleet_pb2
from tests.support.eventually import eventually
from tests.support.fake_nodes import FakeNode
from tests.support.router_world import ADMIN, RouterWorld


async def node(world: RouterWorld, name: str, capacity: int = 100, state: Any = NodeState.ACTIVE) -> FakeNode:
    """A node that the router sees."""
    made = FakeNode(world.etcd, world.cluster, name, capacity)
    await made.register(state)

    async def seen() -> bool:
        nodes = (await world.fleet.ListNodes(fleet_pb2.ListNodesRequest(), metadata=ADMIN)).nodes
        return any(one.id == name and one.capacity == capacity for one in nodes)

    await eventually(seen)
    return made


async def capacity_of(world: RouterWorld) -> fleet_pb2.GetCapacityResponse:
    answer: fleet_pb2.GetCapacityResponse = await world.fleet.GetCapacity(
        fleet_pb2.GetCapacityRequest(), metadata=ADMIN
    )
    return answer


class Watch:
    """A WatchFleet call, and what its frames add up to."""

    def __init__(self, world: RouterWorld) -> None:
        self.call = world.fleet.WatchFleet(fleet_pb2.WatchFleetRequest(), metadata=ADMIN)
        self.frames: list[fleet_pb2.WatchFleetResponse] = []
        self.nodes: dict[str, fleet_pb2.Node] = {}
        self.shards: dict[int, str] = {}

    async def next(self) -> fleet_pb2.WatchFleetResponse:
        async with asyncio.timeout(20):
            frame = await self.call.read()
        assert isinstance(frame, fleet_pb2.WatchFleetResponse)
        self.frames.append(frame)
        self.nodes.update({one.id: one for one in frame.nodes})
        self.shards.update({one.shard: one.node_id for one in frame.shards})
        for gone in frame.removed_node_ids:
            del self.nodes[gone]
        return frame

    async def end(self) -> None:
        """Reads until the call fails."""
        while True:
            await self.next()
