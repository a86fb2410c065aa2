"""Who owns what, for those who send calls there."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from mesh_core.errors import NotOwner
from mesh_core.etcd import Etcd
from mesh_core.ownership.keys import ClusterKeys, NodeInfo, OwnerState
from mesh_core.ownership.view.mirror import ClusterMirror
from mesh_core.signal import Signal
from mesh_core.tasks import Supervisor


@dataclass(frozen=True, slots=True)
class Owner:
    """Where calls for a shard go; while `state` is CLAIMED, the node that still runs it."""

    node_id: str
    address: str
    epoch: int
    state: OwnerState


class OwnerLookup:
    """What a mirror says of owners and nodes. While etcd is unavailable it answers what was seen last."""

    def __init__(self, mirror: ClusterMirror) -> None:
        self._mirror = mirror

    def owner(self, shard: int) -> Owner | None:
        """The node that runs the shard; None while it changes hands or has no owner."""
        seen = self._mirror.last_owner(shard)
        if seen is None:
            return None
        key = seen.value
        if key.state is OwnerState.ACTIVE:
            return Owner(key.node, key.address, key.epoch, key.state)
        if key.from_node:
            return Owner(key.from_node, key.from_address, key.epoch, key.state)
        return None

    def owners(self) -> dict[int, Owner]:
        """All shards that somebody runs."""
        return {shard: owner for shard in self._mirror.owners if (owner := self.owner(shard)) is not None}

    def nodes(self) -> list[NodeInfo]:
        """The registered session-nodes, by id."""
        return sorted(self._mirror.nodes.values(), key=lambda node: node.id)

    @property
    def placement(self) -> tuple[str | None, ...]:
        """The node that the assignment table gives each shard to."""
        return self._mirror.placement

    @property
    def table_revision(self) -> int:
        """The revision of the assignment table; 0 while there is none."""
        return self._mirror.table_revision

    async def unready(self) -> str:
        """Why calls cannot be routed; "" when they can. What was seen last is good enough."""
        return "" if self.table_revision else "no session-node has joined this cluster: there is no table"

    @property
    def changes(self) -> Signal:
        """Notified after every change of anything seen here."""
        return self._mirror.changes

    async def wait_for(self, shard: int, deadline: float) -> Owner:
        """The owner, once there is one. Raises `NotOwner` at `deadline` (on the event loop's clock)."""
        try:
            async with asyncio.timeout_at(deadline):
                return await self._mirror.changes.wait_until(lambda: self.owner(shard))
        except TimeoutError:
            raise NotOwner() from None


class OwnerView(OwnerLookup):
    """The same, live: for a process that has no other use for the mirror."""

    def __init__(self, *, etcd: Etcd, cluster: str, supervisor: Supervisor) -> None:
        super().__init__(ClusterMirror(etcd, ClusterKeys(cluster)))
        self._supervisor = supervisor
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Returns when the first snapshot has been read."""
        self._task = self._supervisor.start("owner-view", self._mirror.run())
        await self._mirror.ready.wait()

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
