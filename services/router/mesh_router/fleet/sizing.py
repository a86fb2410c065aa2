"""PlanCapacity: what a number of accounts would need, by figures that were measured (docs/benchmarks.md)."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from google.protobuf.duration_pb2 import Duration

from sessionmesh.admin.v1 import fleet_pb2

NODE_CPU_PER_MESSAGE = 1.45e-3
"""Seconds: the three session-nodes of benchmark `message` together, per message from send to last receipt."""
BUSY_SHARE = 0.7
"""How busy a node is planned to be: what is left is for reconnects, receipts and a node's failure."""
CONNECTS_PER_SECOND = 500
"""The default of MESH_SESSION_CONNECTS_PER_SECOND."""
NODE_MEMORY = 57 << 20
ACCOUNT_MEMORY = 9 << 10
"""Bytes, of PSS: of a node without accounts, and for each that is online and idle."""
SPARE_NODES = 1


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to plan for; `sessions_per_node` is what one node may run."""

    accounts: int
    messages_per_second: float
    spare_nodes: int
    sessions_per_node: int


def plan(wanted: Wanted, origins: list[str]) -> fleet_pb2.PlanCapacityResponse:
    """Nodes by sessions and by CPU, whichever needs more; `origins` say where the inputs come from."""
    cpu = wanted.messages_per_second * NODE_CPU_PER_MESSAGE
    by_sessions = ceil(wanted.accounts / wanted.sessions_per_node)
    by_cpu = ceil(cpu / BUSY_SHARE)
    working = max(by_sessions, by_cpu, 1)
    # The rest must do when the spare ones are lost, so a node is sized for its share without them.
    accounts = ceil(wanted.accounts / working)
    cores = cpu / working / BUSY_SHARE
    decided = "messages" if by_cpu > by_sessions else "sessions"
    return fleet_pb2.PlanCapacityResponse(
        nodes=working + wanted.spare_nodes,
        node_memory_bytes=NODE_MEMORY + accounts * ACCOUNT_MEMORY,
        node_cores=round(cores, 2),
        connect_time=Duration(seconds=ceil(accounts / CONNECTS_PER_SECOND)),
        assumptions=[
            *origins,
            f"{working} nodes by {decided}, and {wanted.spare_nodes} that may be lost: while they are, a "
            f"node has {accounts} accounts. Its memory, cores and connect time are given for that.",
            f"A message costs session-nodes {NODE_CPU_PER_MESSAGE * 1000:.2f} ms of CPU from send to last "
            "receipt: docs/benchmarks.md, two shared cores of an AMD EPYC, whose speed drifts by half.",
            f"A node uses one core at most and is planned to be {BUSY_SHARE:.0%} busy: a choice, not a "
            "measurement. What idle sessions cost is not in it.",
            f"Memory: {NODE_MEMORY >> 20} MiB for a node, {ACCOUNT_MEMORY >> 10} KiB for an account online "
            "and idle on the simulated network (docs/benchmarks.md). Outboxes and media come on top.",
            f"Each node dials {CONNECTS_PER_SECOND} connections a second, MESH_SESSION_CONNECTS_PER_SECOND, "
            "and the network takes them; taking the shards over is not in it.",
            "Router, Postgres, etcd, Redis, media and webhook come on top: see docs/benchmarks.md.",
        ],
    )
