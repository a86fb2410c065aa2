"""Session-nodes that are nothing but keys in etcd: they own what a test says, and obey nobody."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from mesh_core.etcd import Etcd, delete, put
from mesh_core.etcd.ops import MAX_OPERATIONS
from mesh_core.ownership.keys import (
    ClusterKeys,
    NodeInfo,
    NodeState,
    OwnerKey,
    OwnerState,
    decode_node,
    encode,
)
from mesh_core.process.service import service_version
from mesh_wire.etcd.rpc_pb2 import RequestOp


def batched(operations: list[RequestOp]) -> Iterator[list[RequestOp]]:
    """In parts that etcd takes."""
    for start in range(0, len(operations), MAX_OPERATIONS):
        yield operations[start : start + MAX_OPERATIONS]


@dataclass(slots=True)
class FakeNode:
    """One node's keys."""

    etcd: Etcd
    cluster: str
    id: str
    capacity: int = 100
    start: int = 1

    @property
    def incarnation(self) -> str:
        return f"{self.id}-{self.start}"

    @property
    def address(self) -> str:
        return f"{self.id}:1"

    async def register(self, state: NodeState = NodeState.ACTIVE) -> None:
        """As a process that just started."""
        info = NodeInfo(
            id=self.id,
            incarnation=self.incarnation,
            address=self.address,
            capacity=self.capacity,
            state=state,
            version=service_version(),
            start_time=1_700_000_000.0,
        )
        await self.etcd.put(self._keys.node(self.id), encode(info))

    async def leave(self) -> None:
        await self.etcd.delete(self._keys.node(self.id))

    async def own(self, shards: Iterable[int], epoch: int = 1) -> None:
        key = OwnerKey(
            incarnation=self.incarnation,
            node=self.id,
            address=self.address,
            state=OwnerState.ACTIVE,
            epoch=epoch,
        )
        await self._write([put(self._keys.owner(shard), encode(key)) for shard in shards])

    async def disown(self, shards: Iterable[int]) -> None:
        await self._write([delete(self._keys.owner(shard)) for shard in shards])

    async def info(self) -> NodeInfo:
        """The node's key as it is."""
        found = await self.etcd.get(self._keys.node(self.id))
        assert found is not None
        return decode_node(found.value)

    async def _write(self, operations: list[RequestOp]) -> None:
        for batch in batched(operations):
            await self.etcd.txn([], batch)

    @property
    def _keys(self) -> ClusterKeys:
        return ClusterKeys(self.cluster)
