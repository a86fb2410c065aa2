"""Writing owner keys, many at a time, each by a comparison of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from mesh_core.etcd import Etcd, EtcdUnavailable, absent, delete, get, nested, put, unchanged
from mesh_core.ownership.keys import ClusterKeys, OwnerKey, decode_owner, encode
from mesh_wire.etcd import kv_pb2
from mesh_wire.etcd import rpc_pb2 as wire

BATCH = 64
"""Keys in one transaction: its operations and those of one nested transaction must not exceed etcd's 128."""


@dataclass(frozen=True, slots=True)
class Write:
    """Put `value` (None: delete the key) if the key's mod_revision is `expected` (0: if there is no key)."""

    shard: int
    expected: int
    value: OwnerKey | None


@dataclass(frozen=True, slots=True)
class SeenKey:
    """An owner key as etcd has it."""

    value: OwnerKey
    revision: int
    lease: int

    @classmethod
    def of(cls, kv: kv_pb2.KeyValue) -> SeenKey:
        return cls(decode_owner(kv.value), kv.mod_revision, kv.lease)


@dataclass(frozen=True, slots=True)
class Written:
    """The key's new mod_revision, or 0 when the comparison failed; then `present` is what is there."""

    revision: int
    present: SeenKey | None


class OwnerKeyWriter:
    """The owner keys of one cluster, written under leases of one node."""

    def __init__(self, etcd: Etcd, keys: ClusterKeys) -> None:
        self._etcd = etcd
        self._keys = keys

    async def write(
        self, writes: Sequence[Write], lease: int, guard: Sequence[wire.Compare] = ()
    ) -> dict[int, Written]:
        """Writes each key by a comparison of its own; returns the outcomes by shard.

        Omits shards whose write had an unknown outcome (etcd did not answer), or failed `guard`. Raises
        `LeaseLost`.
        """
        chunks = [writes[start : start + BATCH] for start in range(0, len(writes), BATCH)]
        answers = await asyncio.gather(*[self._chunk(chunk, lease, guard) for chunk in chunks])
        return {shard: written for answer in answers for shard, written in answer.items()}

    async def _chunk(
        self, writes: Sequence[Write], lease: int, guard: Sequence[wire.Compare]
    ) -> dict[int, Written]:
        try:
            answer = await self._etcd.txn(
                guard, [self._operation(write, lease) for write in writes], lease=lease
            )
        except EtcdUnavailable:
            return {}
        if not answer.succeeded:
            return {}
        return {
            write.shard: _written(one.response_txn, answer.header.revision)
            for write, one in zip(writes, answer.responses, strict=True)
        }

    def _operation(self, write: Write, lease: int) -> wire.RequestOp:
        key = self._keys.owner(write.shard)
        condition = unchanged(key, write.expected) if write.expected else absent(key)
        change = delete(key) if write.value is None else put(key, encode(write.value), lease)
        return nested([condition], [change], [get(key)])


def _written(answer: wire.TxnResponse, revision: int) -> Written:
    if answer.succeeded:
        return Written(revision, None)
    found = answer.responses[0].response_range.kvs
    return Written(0, SeenKey.of(found[0]) if found else None)
