"""The conditions that all benchmarks with steady callers share, and how a report states them."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from typing import Self

from bench.measuring.yardstick import empty_call_us
from bench.mesh.accounts import Customer
from bench.mesh.caller_log import CallerLog
from bench.mesh.operator import MESSAGE_BYTES
from bench.mesh.running import RunningMesh
from bench.mesh.steady import SteadyPlan

CALL_SECONDS = 10.0
ENVIRONMENT = {
    "MESH_SERVER_MAX_MESSAGE_BYTES": str(MESSAGE_BYTES),
    "MESH_SESSION_SEND_PER_MINUTE": "1000000",
    "MESH_SESSION_SEND_PER_HOUR": "10000000",
    "MESH_SESSION_SEND_PER_DAY": "100000000",
    "MESH_TELEMETRY_SAMPLE_RATIO": "0",
    "MESH_SIMULATOR_ACCEPT_AFTER_SECONDS": "0",
}


def plan(mesh: RunningMesh, customer: Customer, per_second: float) -> SteadyPlan:
    """Steady calls to the router, as the customer."""
    return SteadyPlan(mesh.file.address, customer.key, customer.accounts, per_second, CALL_SECONDS)


@dataclass(frozen=True, slots=True)
class Machine:
    """How fast and how busy it was before."""

    empty_call_us: float
    load: float

    @classmethod
    def now(cls) -> Self:
        load = os.getloadavg()[0]
        return cls(asyncio.run(empty_call_us()), load)


def stated(before: Machine, nodes: int, accounts: int, per_second: float, log: CallerLog) -> tuple[str, ...]:
    """Sentences about them."""
    return (
        f"{nodes} session-nodes, {accounts} accounts, {per_second:.0f} messages a second from all of them in "
        f"turn, unary, {CALL_SECONDS:.0f} s deadline, no repeats by gRPC or caller; the callers were at most "
        f"{log.latest * 1000:.0f} ms behind their pace. Send limits raised, no traces recorded.",
        f"An empty unary call cost its server {before.empty_call_us:.0f} us of CPU before. Load average of "
        f"the machine before: {before.load:.1f}, after: {os.getloadavg()[0]:.1f}. Callers and network share "
        "its cores.",
    )
