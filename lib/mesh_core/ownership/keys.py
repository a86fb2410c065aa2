"""What ownership keeps in etcd: names and values of its keys."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from typing import TypeVar

import msgspec
import structlog

from mesh_core.metrics import counter
from mesh_wire.etcd import kv_pb2

logger = structlog.get_logger(__name__)

UNREADABLE = counter(
    "mesh_ownership_unreadable_keys_total",
    "Keys in etcd that said what no node would write.",
    answers="Does somebody else write into this cluster's keys?",
)
T = TypeVar("T")


class NodeState(Enum):
    """Only ACTIVE nodes are given shards; a DRAINING one loses those it has."""

    JOINING = "JOINING"
    ACTIVE = "ACTIVE"
    DRAINING = "DRAINING"
    STANDBY = "STANDBY"


class OwnerState(Enum):
    """CLAIMED: nobody else may claim the shard, but it does not run there yet."""

    CLAIMED = "CLAIMED"
    ACTIVE = "ACTIVE"


class NodeInfo(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A session-node: `/<cluster>/nodes/<id>`, under the node's lease. `capacity` is in sessions."""

    id: str
    incarnation: str
    address: str
    capacity: int
    state: NodeState
    replaced_by: str = ""
    """While DRAINING: the node that gets all its shards, so that each moves once."""
    version: str = ""
    """Of the software that runs there."""
    start_time: float = 0.0
    """Unix time at which the process began, for people."""
    metrics: str = ""
    """host:port of its metrics page, which early releases do not tell."""


class OwnerKey(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who owns a shard: `/<cluster>/owners/<shard>`, under the owner's lease.

    While CLAIMED, `from_node` and `from_address` tell who still runs the shard, once that is known.
    """

    incarnation: str
    node: str
    address: str
    state: OwnerState
    epoch: int = 0
    from_node: str = ""
    from_address: str = ""


class ClusterKeys:
    """The names of a cluster's keys."""

    def __init__(self, cluster: str) -> None:
        self.root = f"/{cluster}/".encode()
        self.nodes = self.root + b"nodes/"
        self.owners = self.root + b"owners/"
        self.dead = self.root + b"dead/"
        self.loads = self.root + b"loads/"
        self.assignment = self.root + b"assignment"

    def node(self, node_id: str) -> bytes:
        return self.nodes + node_id.encode()

    def load(self, node_id: str) -> bytes:
        return self.loads + node_id.encode()

    def owner(self, shard: int) -> bytes:
        return self.owners + b"%d" % shard


def readable(kvs: Iterable[kv_pb2.KeyValue], decode: Callable[[bytes], T]) -> Iterator[tuple[bytes, T]]:
    """Keys and what they say, without those that say what no node would write: they are as good as none."""
    for kv in kvs:
        try:
            yield kv.key, decode(kv.value)
        except (ValueError, msgspec.MsgspecError) as error:
            unreadable(kv.key, error)


def unreadable(key: bytes, error: Exception) -> None:
    """Tell of a key that is left out."""
    UNREADABLE.inc()
    logger.error("a key of the cluster cannot be read, ignored", key=repr(key), error=repr(error))


def encode(value: NodeInfo | OwnerKey) -> bytes:
    return _encoder.encode(value)


def decode_node(value: bytes) -> NodeInfo:
    return _node_decoder.decode(value)


def decode_owner(value: bytes) -> OwnerKey:
    return _owner_decoder.decode(value)


_encoder = msgspec.json.Encoder()
_node_decoder = msgspec.json.Decoder(NodeInfo)
_owner_decoder = msgspec.json.Decoder(OwnerKey)
