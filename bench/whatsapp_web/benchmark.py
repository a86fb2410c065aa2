"""What an account costs that is a linked device of WhatsApp, how quickly all are online, and what becomes of
messages when sidecars and nodes are killed.

The mesh of `mesh up --driver whatsapp_web --fake-network` with two session-nodes; beside it the simulated
network, for accounts of the same nodes that messages are compared with.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Collection
from contextlib import nullcontext
from dataclasses import dataclass

from bench.measuring.pairs import PAIRS
from bench.measuring.report import Measured, Report
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

PARTS = ("cost", "memory", "kills")
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
class Started:
    """MB of nodes and sidecars once so many accounts are online, and the seconds until they were."""

    accounts: int
    mb: float
    seconds: float


def run(quick: bool, parts: Collection[str] = PARTS) -> Report:
    """Measure. Exits with the reason, and without figures, when a condition never came."""
    size = Size(100, Pairs(6, 2.0, 20), 4, 10.0) if quick else Size(1000, Pairs(PAIRS, 3.0, 100), 20, 40.0)
    load = os.getloadavg()[0]
    try:
        measured = asyncio.run(_measure(size, parts))
    except (NotMeasured, TimeoutError) as problem:
        raise SystemExit(f"whatsapp_web: not measured: {problem or 'messages were not delivered'}") from None
    about = (
        f"{len(NODES)} session-nodes, {size.accounts} accounts of whatsapp_web. Load average of the machine "
        f"before: {load:.1f}, after: {os.getloadavg()[0]:.1f}. Callers and networks share its cores."
    )
    return Report("whatsapp_web", dict(measured.figures), notes=(*measured.notes, about))


async def _measure(size: Size, parts: Collection[str]) -> Measured:
    measured = Measured()
    with simulated_network() if "cost" in parts else nullcontext() as simulator:
        environment = ENVIRONMENT | SETTINGS
        if simulator is not None:
            environment |= {"MESH_SIMNET_ADDRESS": simulator.address}
        async with running_mesh(len(NODES), environment, "whatsapp_web") as mesh:
            address, key = mesh.file.address, mesh.file.admin_key
            nodes = Nodes(mesh)
            half = await make_linked_customer(address, key, size.accounts // 2, name="linked")
            if "cost" in parts:
                simulated = await make_customer(
                    address, key, size.pairs.accounts, name="simulated", first=size.accounts
                )
                # Before a restart: the processes that are counted are those of the mesh's beginning.
                measured = measured.with_more(
                    _told(size, await measure_cost(mesh, half, simulated, size.pairs))
                )
            if {"memory", "kills"}.isdisjoint(parts):
                return measured
            before = await _started(mesh, nodes, half) if "memory" in parts else None
            everybody = await more_linked_accounts(address, key, half, size.accounts - size.accounts // 2)
            if before is not None:
                measured = measured.with_more(_grown(before, await _started(mesh, nodes, everybody)))
            if "kills" in parts:
                survived = await survive(mesh, nodes, everybody, size.kills, size.rate)
                measured = measured.with_more(_survived(size, survived))
    return measured


async def _started(mesh: RunningMesh, nodes: Nodes, customer: Customer) -> Started:
    """Start the nodes again: memory is what they and their sidecars take once every account has written to
    somebody.
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
    return Started(accounts, nodes.memory_mb(), seconds)


def _last_login(connections: Connections, after: float, accounts: int) -> float:
    logins = [connections.first_login(phone_of(number), after) for number in range(accounts)]
    if None in logins:
        raise NotMeasured(f"{logins.count(None)} accounts never logged in")
    return max(filter(None, logins))


def _told(size: Size, cost: Cost) -> Measured:
    figures = {
        "cpu_over_simulated": cost.ratio.value,
        "sends_with_own_commit_percent": cost.own_commits_percent,
    }
    note = (
        f"CPU of router, nodes with sidecars, Postgres, etcd and Redis, in {size.pairs.number} pairs of "
        f"{size.pairs.seconds:.0f} s with {size.pairs.accounts} accounts of each driver, one contact each: "
        f"{cost.ratio} times that of the simulated network. Of {cost.messages:,} messages {cost.commits:.0f} "
        "waited for a commit of their own."
    )
    return Measured(figures, (note, cost.table()))


def _grown(half: Started, everybody: Started) -> Measured:
    figures = {
        "mb_per_account": (everybody.mb - half.mb) / (everybody.accounts - half.accounts),
        "start_seconds": everybody.seconds,
    }
    note = (
        f"Nodes and sidecars took {half.mb:.0f} MB with {half.accounts} accounts, {everybody.mb:.0f} MB with "
        "all: started again, and every account had written to somebody."
    )
    return Measured(figures, (note,))


def _survived(size: Size, survived: Survived) -> Measured:
    failed = survived.log.failed(Window(0.0, time.monotonic()))
    figures = {
        "lost": survived.lost,
        "duplicates": survived.duplicates,
        "unreadable": survived.unreadable,
        "takeover_p99_s": survived.takeover_p99,
        "sidecar_back_p99_s": survived.sidecar_back_p99,
    }
    notes = (
        f"{size.kills} kills, half of them of sidecars, at {size.rate:.0f} messages a second, each answered: "
        f"{survived.verdict.sent:,} accepted and {survived.verdict.inbound:,} written to accounts; "
        f"{survived.verdict.inbound_unacked} of these not acknowledged. "
        f"{len(failed)} calls failed{': ' + reasons(failed) if failed else ''}. "
        + " ".join(survived.verdict.findings[:5]),
        f"From the kill of a node to the login {spread(survived.node_seconds)}, from the kill of a sidecar "
        f"{spread(survived.sidecar_seconds)}.",
    )
    return Measured(figures, notes)
