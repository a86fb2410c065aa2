"""This node's own key: what the others know of it, and where an operator tells it what it is for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import msgspec

from mesh_core.etcd import Etcd
from mesh_core.ownership.keys import ClusterKeys, NodeInfo, NodeState
from mesh_core.ownership.nodes import NodeSuperseded, announce, reannounce
from mesh_core.ownership.view.mirror import ClusterMirror


@dataclass(frozen=True, slots=True)
class _Announced:
    """The key as last written, or seen after an operator wrote it."""

    lease: int
    node: NodeInfo
    revision: int


class NodeRegistration:
    """Keeps the key under the node's present lease. `wake` is called when `keep` has something to do."""

    def __init__(
        self, etcd: Etcd, keys: ClusterKeys, mirror: ClusterMirror, info: NodeInfo, wake: Callable[[], None]
    ) -> None:
        self.info = info
        self._etcd = etcd
        self._keys = keys
        self._mirror = mirror
        self._wake = wake
        self._announced = _Announced(0, info, 0)

    @property
    def active(self) -> bool:
        """It may own shards."""
        return self.info.state is NodeState.ACTIVE

    @property
    def alone(self) -> bool:
        """No other node is there that may own shards."""
        return not any(
            node.state is NodeState.ACTIVE for node in self._mirror.nodes.values() if node.id != self.info.id
        )

    def set_state(self, state: NodeState) -> None:
        """From the next `keep` on the others know."""
        self.info = msgspec.structs.replace(self.info, state=state)
        self._wake()

    async def announce(self, lease: int) -> None:
        """Write the key in place of any earlier process's of this id. Raises `LeaseLost`."""
        revision = await announce(self._etcd, self._keys, self.info, lease)
        self._announced = _Announced(lease, self.info, revision)

    async def keep(self, lease: int) -> None:
        """Obey an operator's change, and write the key again when lease or state are new, or when it is gone:
        that shows a lost lease sooner than the next beat does.

        Raises `LeaseLost`, and `NodeSuperseded` when another process has this id now.
        """
        mine = self._mirror.nodes.get(self.info.id)
        written = self._mirror.node_revisions.get(self.info.id, 0)
        if mine is not None and written > self._announced.revision:
            if mine.incarnation != self.info.incarnation:
                raise NodeSuperseded(self.info.id)
            self.info = msgspec.structs.replace(self.info, state=mine.state, replaced_by=mine.replaced_by)
            self._announced = replace(self._announced, node=self.info, revision=written)
        elif mine is None and self._mirror.revision > self._announced.revision:
            self._announced = replace(self._announced, lease=0)
        node = self.info
        if lease and (self._announced.lease, self._announced.node) != (lease, node):
            self._announced = _Announced(lease, node, await reannounce(self._etcd, self._keys, node, lease))
