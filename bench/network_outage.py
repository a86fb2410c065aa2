"""How accounts come back after the network was away for minutes, and whether any is blamed for it.

The mesh of `mesh up` with three session-nodes and connected accounts of one tenant. The network goes away
twice, for as long each time: first its process is killed, then it closes all connections and refuses every
login.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from dataclasses import dataclass

from bench.measuring.report import Report
from bench.mesh.accounts import make_customer, phone_of
from bench.mesh.conditions import ENVIRONMENT
from bench.mesh.connections import Connections
from bench.mesh.metrics import sessions_quarantined
from bench.mesh.operator import NotMeasured, Operator
from bench.mesh.running import RunningMesh, running_mesh
from mesh_cli.up.stack import SIMULATOR
from sessionmesh.simulator.v1 import simulator_pb2

NODES = tuple(f"node-{number}" for number in range(1, 4))
SETTINGS = {"MESH_LIMITS_ACCOUNT": "", "MESH_LIMITS_TENANT": ""}
"""Accounts are made as fast as it goes."""
QUICK = {"MESH_SESSION_FAILURES_PER_HOUR": "1"}
"""In a short outage accounts fail less often: fewer failures would be a quarantine."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much to measure; `seconds` of each outage."""

    accounts: int
    seconds: float
    environment: dict[str, str]


@dataclass(frozen=True, slots=True)
class Seen:
    """How many seconds the last account took once the network was back from each outage, and how many came
    into quarantine.
    """

    away_back: float
    refused_back: float
    quarantined: float


def run(quick: bool) -> Report:
    """Measure. Exits with the reason, and without figures, when accounts never came back."""
    environment = ENVIRONMENT | SETTINGS
    size = Size(200, 10.0, environment | QUICK) if quick else Size(2000, 180.0, environment)
    load = os.getloadavg()[0]
    try:
        seen = asyncio.run(_measure(size))
    except NotMeasured as problem:
        raise SystemExit(f"network_outage: not measured: {problem}") from None
    return Report(
        "network_outage",
        {
            "all_back_seconds": max(seen.away_back, seen.refused_back),
            "away_back_seconds": seen.away_back,
            "refused_back_seconds": seen.refused_back,
            "quarantined": seen.quarantined,
        },
        notes=(
            f"{len(NODES)} session-nodes, {size.accounts} accounts; the network was away for "
            f"{size.seconds:.0f} s as a killed process, then as long refusing logins. Seconds are from its "
            "return, its start included, to the login of the last account.",
            f"Load average of the machine before: {load:.1f}, after: {os.getloadavg()[0]:.1f}.",
        ),
    )


async def _measure(size: Size) -> Seen:
    async with running_mesh(len(NODES), size.environment) as mesh:
        customer = await make_customer(mesh.file.address, mesh.file.admin_key, size.accounts)
        async with Operator(mesh, customer.accounts) as operator:
            await operator.until_settled(NODES)
            killed, refused = await _killed(mesh, operator, size), await _refused(operator, size)
            connections = await operator.connections()
            return Seen(
                _last_login(connections, killed, size.accounts) - killed,
                _last_login(connections, refused, size.accounts) - refused,
                await sessions_quarantined(mesh),
            )


def _last_login(connections: Connections, after: float, accounts: int) -> float:
    """When the last of the accounts had logged in again."""
    logins = [connections.first_login(phone_of(number), after) for number in range(accounts)]
    if None in logins:
        raise NotMeasured(f"{logins.count(None)} accounts never logged in again")
    return max(filter(None, logins))


async def _killed(mesh: RunningMesh, operator: Operator, size: Size) -> float:
    """When it returned."""
    os.kill(mesh.processes[SIMULATOR], signal.SIGKILL)
    await asyncio.sleep(size.seconds)
    returned = time.monotonic()
    await mesh.start_parts(SIMULATOR)
    await operator.until_connected(NODES)
    return returned


async def _refused(operator: Operator, size: Size) -> float:
    fault = await operator.inject(simulator_pb2.FAULT_KIND_REFUSE_LOGINS)
    await operator.inject(simulator_pb2.FAULT_KIND_DROP_CONNECTION)
    await asyncio.sleep(size.seconds)
    returned = time.monotonic()
    await operator.clear(fault)
    await operator.until_connected(NODES)
    return returned
