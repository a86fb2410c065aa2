"""How long accounts are offline, and how many calls fail, when a node crashes, its machine is lost, it is
drained, and when all nodes are replaced one after the other.

The mesh of `mesh up` with four session-nodes, while callers send at an even rate from all accounts, each
message once: a call that fails is not repeated.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from dataclasses import dataclass

from bench.measuring.report import Report
from bench.mesh.accounts import make_customer, phone_of
from bench.mesh.caller_log import CallerLog, SteadyCallers, quantile, reasons, spread, steady_callers
from bench.mesh.conditions import ENVIRONMENT, Machine, plan, stated
from bench.mesh.connections import Connections
from bench.mesh.operator import NotMeasured, Operator
from bench.mesh.running import RunningMesh, running_mesh
from bench.mesh.steady import Call
from bench.mesh.window import Window, since, stretch
from mesh_core.ids import SHARDS
from sessionmesh.simulator.v1 import simulator_pb2

NODES = tuple(f"node-{number}" for number in range(1, 5))
CRASHED, LOST, DRAINED = NODES[0], NODES[1], NODES[2]
PROBE_SECONDS = 30.0
LEAST_AFFECTED = 20
"""Accounts, below which there is no 99th percentile to speak of."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much to measure; `calm` is the stretch before the drain that its latencies are compared with."""

    accounts: int
    per_second: float
    calm: float


@dataclass(frozen=True, slots=True)
class Killing:
    """What was killed under `affected` accounts at the window's beginning; a probe of each tells its gap."""

    affected: list[str]
    probes: list[Call]
    window: Window

    @property
    def gaps(self) -> list[float]:
        """Seconds from the kill to the answer, or to the failure, of each account's probe."""
        return [probe.ended - self.window.began for probe in self.probes]


@dataclass(frozen=True, slots=True)
class Timeline:
    """When what happened. The windows reach until all shares were even and all accounts connected again."""

    crash: Killing
    machine: Killing
    calm: Window
    drain: Window
    drain_job: Window
    undrain: Window
    rolling: Window
    rolling_moves: int


@dataclass(frozen=True, slots=True)
class Seen:
    """What everybody saw of it."""

    accounts: list[str]
    log: CallerLog
    connections: Connections
    verdict: simulator_pb2.GetVerdictResponse
    undelivered: int


def run(quick: bool) -> Report:
    """Measure. Exits with the reason, and without figures, when a condition never came."""
    size = Size(300, 40.0, 5.0) if quick else Size(2000, 100.0, 20.0)
    before = Machine.now()
    try:
        timeline, seen = asyncio.run(_measure(size))
        figures = _figures(timeline, seen)
    except NotMeasured as problem:
        raise SystemExit(f"failover: not measured: {problem}") from None
    notes = (
        *_notes(timeline, seen),
        *stated(before, len(NODES), size.accounts, size.per_second, seen.log),
    )
    return Report("failover", figures, notes=notes)


async def _measure(size: Size) -> tuple[Timeline, Seen]:
    async with running_mesh(len(NODES), ENVIRONMENT) as mesh:
        customer = await make_customer(mesh.file.address, mesh.file.admin_key, size.accounts)
        async with (
            Operator(mesh, customer.accounts) as operator,
            steady_callers(plan(mesh, customer, size.per_second)) as callers,
        ):
            await operator.until_settled(NODES)
            await callers.begin()
            await stretch(size.calm)
            timeline = await _go_through(mesh, operator, callers, size)
            log, calls = await callers.end()
            undelivered = await operator.until_delivered()
            verdict = await operator.verdict(calls)
            connections = await operator.connections()
            return timeline, Seen(customer.accounts, log, connections, verdict, undelivered)


async def _go_through(mesh: RunningMesh, operator: Operator, callers: SteadyCallers, size: Size) -> Timeline:
    crash = await _kill(operator, callers, CRASHED, mesh.file.parts[CRASHED].pid)
    machine = await _kill(operator, callers, LOST, mesh.file.parts[LOST].watchdog_pid, mesh)
    calm = await stretch(size.calm)
    began = time.monotonic()
    await operator.drain(DRAINED)
    drain_job = since(began)
    await operator.until_settled([node for node in NODES if node != DRAINED])
    drain = since(began)
    began = time.monotonic()
    await operator.undrain(DRAINED)
    await operator.until_settled(NODES)
    undrain = since(began)
    rolling, moves = await _roll(mesh, operator)
    return Timeline(crash, machine, calm, drain, drain_job, undrain, rolling, moves)


async def _kill(
    operator: Operator, callers: SteadyCallers, node: str, pid: int, start_again: RunningMesh | None = None
) -> Killing:
    """SIGKILL the process; a node whose watchdog went too must be started again."""
    affected = await operator.accounts_of(node)
    if len(affected) < LEAST_AFFECTED:
        raise NotMeasured(f"{node} has {len(affected)} accounts only")
    began = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    probes = await callers.probe(affected, PROBE_SECONDS)
    if start_again is not None:
        await start_again.start_parts(node)
    await operator.until_settled(NODES)
    return Killing(affected, probes, since(began))


async def _roll(mesh: RunningMesh, operator: Operator) -> tuple[Window, int]:
    """Replace every node by a new one; how often any shard was taken in all that."""
    before, began = await operator.epochs(), time.monotonic()
    nodes = list(NODES)
    for place, old in enumerate(NODES):
        new = f"{old}-next"
        await mesh.stack.add_node(new, {**ENVIRONMENT, "MESH_NODE_STANDBY": "true"})
        await operator.until_registered(new)
        await operator.drain(old, new)
        await mesh.stack.stop_part(old)
        nodes[place] = new
        await operator.until_settled(nodes)
    return since(began), await operator.epochs() - before


def _figures(timeline: Timeline, seen: Seen) -> dict[str, float]:
    return {
        "crash_gap_p99_s": quantile(timeline.crash.gaps, 0.99),
        "machine_gap_p99_s": quantile(timeline.machine.gaps, 0.99),
        "drain_failed_calls": len(seen.log.failed(timeline.drain)),
        "drain_gap_p99_s": quantile(_gaps(seen, timeline.drain), 0.99),
        "rolling_failed_calls": len(seen.log.failed(timeline.rolling)),
        "rolling_moves_per_shard": timeline.rolling_moves / SHARDS,
        "rolling_gap_p99_s": quantile(_gaps(seen, timeline.rolling), 0.99),
        "lost": seen.verdict.lost,
        "duplicates": seen.verdict.duplicates,
        "overlaps": seen.verdict.overlaps,
    }


def _notes(timeline: Timeline, seen: Seen) -> tuple[str, ...]:
    log = seen.log
    drained, undrained, rolled = (
        _gaps(seen, window) for window in (timeline.drain, timeline.undrain, timeline.rolling)
    )
    return (
        _of_killing("Crash (SIGKILL of the session-node)", timeline.crash, seen),
        _of_killing("Machine lost (SIGKILL of its watchdog)", timeline.machine, seen),
        f"Drain of one node: {len(drained)} connections moved in {timeline.drain_job.seconds:.1f} s, away "
        f"{spread(drained)}. Calls {_latency(log, timeline.calm)} before and "
        f"{_latency(log, timeline.drain_job)} during it.{_failures(log, timeline.drain)}",
        f"Undrain: {len(undrained)} connections moved, away {spread(undrained)}; calls "
        f"{_latency(log, timeline.undrain)}.{_failures(log, timeline.undrain)}",
        f"All {len(NODES)} nodes replaced in {timeline.rolling.seconds:.1f} s: {len(rolled)} connections "
        f"moved, away {spread(rolled)}; calls {_latency(log, timeline.rolling)}."
        f"{_failures(log, timeline.rolling)}",
        f"Network: {seen.verdict.sent:,} messages accepted, {seen.verdict.delivered:,} delivered; "
        f"{seen.undelivered} stored messages were not delivered in the end. "
        + " ".join(seen.verdict.findings[:5]),
    )


def _of_killing(what: str, killing: Killing, seen: Seen) -> str:
    """Where the time went."""
    began = killing.window.began
    phone_numbers = {account: phone_of(number) for number, account in enumerate(seen.accounts)}
    logins = sorted(
        login
        for account in killing.affected
        if (login := seen.connections.first_login(phone_numbers[account], began)) is not None
    )
    at = (
        f"logins from the new owners {logins[0] - began:.2f} s (first), "
        f"{logins[len(logins) // 2] - began:.2f} s (median), {logins[-1] - began:.2f} s (last) after it"
        if logins
        else "no account logged in again"
    )
    failed = [probe for probe in killing.probes if probe.error]
    return (
        f"{what}: {len(killing.affected)} accounts, gap {spread(killing.gaps)}; {at}."
        + (f" {len(failed)} probes failed, and count as they ended: {reasons(failed)}." if failed else "")
        + _failures(seen.log, killing.window)
    )


def _gaps(seen: Seen, window: Window) -> list[float]:
    gaps = [gap.seconds for gap in seen.connections.gaps(window)]
    if len(gaps) < LEAST_AFFECTED:
        raise NotMeasured(f"{len(gaps)} accounts moved only")
    return gaps


def _failures(log: CallerLog, window: Window) -> str:
    failed = log.failed(window)
    return f" {len(failed)} of {log.made(window):,} steady calls failed: {reasons(failed)}." if failed else ""


def _latency(log: CallerLog, window: Window) -> str:
    latencies = log.latencies(window)
    if not latencies:
        return "unanswered"
    return (
        f"{quantile(latencies, 0.5) * 1000:.0f} ms (p50), {quantile(latencies, 0.99) * 1000:.0f} ms (p99), "
        f"{max(latencies) * 1000:.0f} ms (longest)"
    )
