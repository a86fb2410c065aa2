"""What an account costs that is a linked device of WhatsApp, how quickly all are online, and what becomes of
messages when sidecars and nodes are killed.

The mesh of `mesh up --driver whatsapp_web --fake-network` with two session-nodes; beside it the simulated
network, for accounts of the same nodes that messages are compared with.
"""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass

from bench.measuring.pairs import PAIRS
from bench.measuring.report import Report
from bench.mesh.accounts import (
    Customer,
    make_customer,
    make_linked_customer,
    more_linked_accounts,
    phone_of,
)
from bench.mesh.caller_log import reasons, spread
from bench.mesh.conditions import ENVIRONMENT
from bench.mesh.connections import Connections
from bench.mesh.generator import load_generator
from bench.mesh.load import Plan
from bench.mesh.operator import NotMeasured, Operator
from bench.mesh.running import RunningMesh, running_mesh
from bench.mesh.simulated_network import simulated_network
from bench.mesh.window import Window
from bench.whatsapp_web.cost import CALLERS, Cost, Pairs, measure_cost
from bench.whatsapp_web.kills import Survived, survive
from bench.whatsapp_web.nodes import NODES, Nodes

SETTINGS = {"MESH_LIMITS_ACCOUNT": "", "MESH_LIMITS_TENANT": ""}
"""Accounts are made as fast as it goes."""
_QUIET_SECONDS = 10.0
"""Until memory that was needed for a start is given back."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much to measure; `rate` is the messages a second while processes are killed."""

    accounts: int
    pairs: Pairs
    kills: int
    rate: float


@dataclass(frozen=True, slots=True)
class Grown:
    """MB of nodes and sidecars with half of the accounts and with all, and seconds until all were online."""

    half_mb: float
    all_mb: float
    start_seconds: float


def run(quick: bool) -> Report:
    """Measure. Exits with the reason, and without figures, when a condition never came."""
    size = Size(100, Pairs(6, 2.0, 20), 4, 10.0) if quick else Size(1000, Pairs(PAIRS, 3.0, 100), 20, 40.0)
    load = os.getloadavg()[0]
    try:
        grown, cost, survived = asyncio.run(_measure(size))
    except (NotMeasured, TimeoutError) as problem:
        raise SystemExit(f"whatsapp_web: not measured: {problem or 'messages were not delivered'}") from None
    per_account = (grown.all_mb - grown.half_mb) / (size.accounts - size.accounts // 2)
    figures = {
        "mb_per_account": per_account,
        "cpu_over_simulated": cost.ratio.value,
        "start_seconds": grown.start_seconds,
        "sends_with_own_commit_percent": cost.own_commits_percent,
        "lost": survived.lost,
        "duplicates": survived.duplicates,
        "unreadable": survived.unreadable,
        "takeover_p99_s": survived.takeover_p99,
        "sidecar_back_p99_s": survived.sidecar_back_p99,
    }
    return Report("whatsapp_web", figures, notes=_notes(size, load, grown, cost, survived))


async def _measure(size: Size) -> tuple[Grown, Cost, Survived]:
    with simulated_network() as simulator:
        environment = ENVIRONMENT | SETTINGS | {"MESH_SIMNET_ADDRESS": simulator.address}
        async with running_mesh(len(NODES), environment, "whatsapp_web") as mesh:
            address, key = mesh.file.address, mesh.file.admin_key
            simulated = await make_customer(
                address, key, size.pairs.accounts, name="simulated", first=size.accounts
            )
            half = await make_linked_customer(address, key, size.accounts // 2, name="linked")
            # Before a restart: the processes that are counted are those of the mesh's beginning.
            cost = await measure_cost(mesh, half, simulated, size.pairs)
            nodes = Nodes(mesh)
            half_mb, _ = await _started(mesh, nodes, half)
            everybody = await more_linked_accounts(address, key, half, size.accounts - size.accounts // 2)
            all_mb, seconds = await _started(mesh, nodes, everybody)
            survived = await survive(mesh, nodes, everybody, size.kills, size.rate)
            return Grown(half_mb, all_mb, seconds), cost, survived


async def _started(mesh: RunningMesh, nodes: Nodes, customer: Customer) -> tuple[float, float]:
    """Start the nodes again: MB that they and their sidecars take once every account has written to somebody,
    and seconds until the last was online.
    """
    accounts = len(customer.accounts)
    async with Operator(mesh, customer.accounts) as operator:
        logins = (await operator.stats()).logins
        began = await nodes.start_again()
        await operator.until_logins(logins + accounts)
        await operator.until_settled(NODES)
        seconds = _last_login(await operator.connections(), began, accounts) - began
        callers = Plan(mesh.file.address, customer.key, customer.accounts, CALLERS, f"started-{accounts}")
        async with load_generator(callers) as load:
            sent = 0
            while sent < accounts:
                sent += (await load.round(1.0)).messages
        await operator.until_delivered()
    await asyncio.sleep(_QUIET_SECONDS)
    return nodes.memory_mb(), seconds


def _last_login(connections: Connections, after: float, accounts: int) -> float:
    logins = [connections.first_login(phone_of(number), after) for number in range(accounts)]
    if None in logins:
        raise NotMeasured(f"{logins.count(None)} accounts never logged in")
    return max(filter(None, logins))


def _notes(size: Size, load: float, grown: Grown, cost: Cost, survived: Survived) -> tuple[str, ...]:
    failed = survived.log.failed(Window(0.0, time.monotonic()))
    return (
        f"{len(NODES)} session-nodes, {size.accounts} accounts of whatsapp_web. Nodes and sidecars took "
        f"{grown.half_mb:.0f} MB with {size.accounts // 2}, {grown.all_mb:.0f} MB with all: started "
        "again, and every account had written to somebody.",
        f"CPU of router, nodes with sidecars, Postgres, etcd and Redis, in {size.pairs.number} pairs of "
        f"{size.pairs.seconds:.0f} s with {size.pairs.accounts} accounts of each driver, one contact each: "
        f"{cost.ratio} times that of the simulated network. Of {cost.messages:,} messages {cost.commits:.0f} "
        "waited for a commit of their own.",
        cost.table(),
        f"{size.kills} kills, half of them of sidecars, at {size.rate:.0f} messages a second, each answered: "
        f"{survived.verdict.sent:,} accepted and {survived.verdict.inbound:,} written to accounts; "
        f"{survived.verdict.inbound_unacked} of these not acknowledged. "
        f"{len(failed)} calls failed{': ' + reasons(failed) if failed else ''}. "
        + " ".join(survived.verdict.findings[:5]),
        f"From the kill of a node to the login {spread(survived.node_seconds)}, from the kill of a sidecar "
        f"{spread(survived.sidecar_seconds)}.",
        f"Load average of the machine before: {load:.1f}, after: {os.getloadavg()[0]:.1f}. Callers and "
        "networks share its cores.",
    )
