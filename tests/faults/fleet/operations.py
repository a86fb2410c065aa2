"""Operations on nodes, drawn at random, without a look at the mesh: a seed is always the same sequence."""

from __future__ import annotations

import random
from collections import Counter
from enum import Enum

import grpc.aio

from sessionmesh.admin.v1 import fleet_pb2
from tests.faults.fleet.load import TRANSIENT
from tests.faults.fleet.node import Node
from tests.faults.fleet.scene import Scene
from tests.support.eventually import eventually
from tests.support.mesh_api import unique

SPARE = "node-spare"
LEAST_ACTIVE = 2
MOST_MESSAGES_BETWEEN = 4
FROZEN_MESSAGES = 3
"""What others send while a node is frozen: shorter than its deadline, as a rule."""


class State(Enum):
    """What a node is, by the operations alone."""

    ACTIVE = "active"
    DRAINED = "drained"
    AWAY = "away"


class Operations:
    """`next` does one; `restore` leaves the nodes as they were. `done` names what was done."""

    def __init__(self, scene: Scene, seed: int) -> None:
        self.done: list[str] = []
        self._scene = scene
        self._random = random.Random(seed)
        self._times: Counter[str] = Counter()
        self._states = dict.fromkeys(sorted(scene.mesh.nodes), State.ACTIVE) | {SPARE: State.AWAY}
        self._usual = sorted(scene.mesh.nodes)
        scene.mesh.add_spare(SPARE)

    async def next(self) -> None:
        """One operation, and then a while of ordinary sending. Kinds come in turns, each before any again."""
        possible = {(kind, name) for name, state in self._states.items() for kind in self._possible(state)}
        fewest = min(self._times[kind] for kind, _ in possible)
        kind, name = self._random.choice(sorted(one for one in possible if self._times[one[0]] == fewest))
        count = self._random.randint(1, MOST_MESSAGES_BETWEEN)
        self._times[kind] += 1
        self.done.append(f"{kind} {name}")
        await getattr(self, f"_{kind}")(self._scene.mesh.nodes[name])
        await self._scene.load.until_more(count)

    def _possible(self, state: State) -> list[str]:
        if state is State.AWAY:
            return ["join"]
        if state is State.DRAINED:
            return ["undrain"]
        more = sum(state is State.ACTIVE for state in self._states.values()) > LEAST_ACTIVE
        return ["crash", "freeze", "restart", *(["drain", "leave", "lose"] if more else [])]

    async def restore(self) -> None:
        """Every usual node is there and serves, the spare one is not."""
        for name in self._usual:
            node = self._scene.mesh.nodes[name]
            if self._states[name] is State.AWAY:
                await self._join(node)
            elif self._states[name] is State.DRAINED:
                await self._undrain(node)
        spare = self._scene.mesh.nodes.pop(SPARE)
        if spare.running:
            await spare.stop()

    async def _join(self, node: Node) -> None:
        await node.start()
        self._states[node.name] = State.ACTIVE

    async def _leave(self, node: Node) -> None:
        """In order: it hands over first."""
        await node.stop()
        self._states[node.name] = State.AWAY

    async def _lose(self, node: Node) -> None:
        """With its watchdog, so that nobody tells of its end."""
        await node.kill_all()
        self._states[node.name] = State.AWAY

    async def _restart(self, node: Node) -> None:
        await node.stop()
        await node.start()

    async def _crash(self, node: Node) -> None:
        await node.until_replaced(await node.kill_child())

    async def _freeze(self, node: Node) -> None:
        frozen = node.session_node()
        frozen.suspend()
        others = [account for account, owner in (await self._scene.owners()).items() if owner is not node]
        await self._scene.load.until_more(FROZEN_MESSAGES, others)
        if frozen.is_running():
            frozen.resume()

    async def _drain(self, node: Node) -> None:
        request = fleet_pb2.DrainNodeRequest(request_id=unique(), node_id=node.name, force=True)
        await self._order("DrainNode", request)
        self._states[node.name] = State.DRAINED

    async def _undrain(self, node: Node) -> None:
        await self._order("UndrainNode", fleet_pb2.UndrainNodeRequest(node_id=node.name))
        self._states[node.name] = State.ACTIVE

    async def _order(self, name: str, request: object) -> None:
        """As an operator does, who tries again while the node is not there."""
        admin = self._scene.admin

        async def accepted() -> bool:
            try:
                await admin(getattr(admin.fleet, name), request)  # type: ignore[arg-type] # a message
            except grpc.aio.AioRpcError as error:
                if error.code() not in TRANSIENT | {grpc.StatusCode.NOT_FOUND}:
                    raise
                return False
            return True

        await eventually(accepted, what=f"an answer to {name}")
