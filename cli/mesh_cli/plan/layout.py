"""Which processes each way of deploying has, and what memory each is given there: as its files have it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

MIB, GIB = 2**20, 2**30
POOL = 10
"""The default of MESH_DATABASE_POOL_SIZE."""
DIRECT = 5
"""Connections of a part beside its pool, at most: its journal, its listeners, a job that runs."""
OPERATORS = 20
"""Connections for backups, migrations, monitoring and who looks."""
OUTBOX_BYTES = 256 * MIB
"""MESH_SESSION_NODE_OUTBOX_BYTES in deploy/settings: what may wait in a node's memory."""


@dataclass(frozen=True, slots=True)
class Process:
    """How many of a kind there are, and the bytes of memory that each may take."""

    replicas: int
    memory: int


def _of(replicas: int, memory: int) -> Process:
    return Process(replicas, memory)


ONE_MACHINE: Mapping[str, Process] = MappingProxyType(
    {
        "router": _of(2, 512 * MIB),
        "media": _of(1, 1536 * MIB),
        "webhook": _of(1, 512 * MIB),
        "etcd": _of(1, 512 * MIB),
        "postgres": _of(1, 2 * GIB),
        "redis": _of(1, 256 * MIB),
        "s3": _of(1, 1 * GIB),
        "collector": _of(1, 2 * GIB),
        "jaeger": _of(1, 512 * MIB),
        "prometheus": _of(1, 1 * GIB),
        "alertmanager": _of(1, 128 * MIB),
        "grafana": _of(1, 256 * MIB),
        "node-exporter": _of(1, 64 * MIB),
    }
)
"""Compose, without its session-nodes."""
PARTS: Mapping[str, Process] = MappingProxyType(
    {"router": _of(3, 1 * GIB), "media": _of(3, 4 * GIB), "webhook": _of(2, 1 * GIB)}
)
"""Swarm and Kubernetes, beside session-nodes."""
SERVER_MACHINES: tuple[int, ...] = ((16 + 2) * GIB, (8 + 2 + 2) * GIB, (2 + 4 + 6 + 2 + 2 + 2) * GIB)
"""Swarm: memory on the machines of Postgres, whose cache has the rest of it, of S3 and Redis, and of who
watches; an etcd on each of them.
"""


def node_limit(measured: int) -> int:
    """The memory that a session-node is given: half more than was measured, its outboxes, and 128 MiB, in
    steps of 256 MiB.
    """
    needed = measured * 3 // 2 + OUTBOX_BYTES + 128 * MIB
    return -(-needed // (256 * MIB)) * 256 * MIB


def connections(session_nodes: int, parts: Mapping[str, Process], pool: int = POOL) -> int:
    """Connections that Postgres must take, one media and one webhook more while they are replaced."""
    processes = session_nodes + sum(parts[name].replicas for name in ("router", "media", "webhook")) + 2
    return processes * (pool + DIRECT) + OPERATORS
