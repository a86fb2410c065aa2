"""What callers and accounts notice while etcd is down, and then Postgres.

The mesh of `mesh up` with three session-nodes, while callers send at an even rate from all accounts, each
message once. A server is down for as long as the stretches last that its outage is compared with: one before,
one between the two outages.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from dataclasses import dataclass

from bench.measuring.report import Report
from bench.mesh.accounts import make_customer
from bench.mesh.caller_log import CallerLog, SteadyCallers, quantile, reasons, steady_callers
from bench.mesh.conditions import ENVIRONMENT, Machine, plan, stated
from bench.mesh.connections import Connections
from bench.mesh.operator import NotMeasured, Operator
from bench.mesh.running import RunningMesh, running_mesh
from bench.mesh.window import Window, since, stretch
from mesh_cli.embedded import EmbeddedServer
from sessionmesh.simulator.v1 import simulator_pb2

NODES = tuple(f"node-{number}" for number in range(1, 4))
SLICES = 6
"""Parts of a stretch that tell how much its 99th percentile varies."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much to measure; `seconds` of each outage, and of each stretch without one."""

    accounts: int
    per_second: float
    seconds: float
    warm_up: float


@dataclass(frozen=True, slots=True)
class Outage:
    """`down` while nothing answered, `whole` until all shares were even and all accounts connected again."""

    down: Window
    whole: Window


@dataclass(frozen=True, slots=True)
class Seen:
    """When what happened, and what everybody saw of it."""

    before: Window
    etcd: Outage
    between: Window
    postgres: Outage
    log: CallerLog
    connections: Connections
    verdict: simulator_pb2.GetVerdictResponse
    undelivered: int


def run(quick: bool) -> Report:
    """Measure. Exits with the reason, and without figures, when a condition never came."""
    size = Size(300, 40.0, 15.0, 3.0) if quick else Size(2000, 100.0, 60.0, 15.0)
    before = Machine.now()
    try:
        seen = asyncio.run(_measure(size))
        figures = _figures(seen)
    except NotMeasured as problem:
        raise SystemExit(f"outage: not measured: {problem}") from None
    notes = (
        *_notes(seen),
        *stated(before, len(NODES), size.accounts, size.per_second, seen.log),
    )
    return Report("outage", figures, notes=notes)


async def _measure(size: Size) -> Seen:
    async with running_mesh(len(NODES), ENVIRONMENT) as mesh:
        etcd, postgres = (_server(mesh, name) for name in ("etcd", "postgres"))
        customer = await make_customer(mesh.file.address, mesh.file.admin_key, size.accounts)
        async with (
            Operator(mesh, customer.accounts) as operator,
            steady_callers(plan(mesh, customer, size.per_second)) as callers,
        ):
            await operator.until_settled(NODES)
            await callers.begin()
            await stretch(size.warm_up)
            before = await stretch(size.seconds)
            etcd_outage = await _outage(etcd, operator, size, by=signal.SIGKILL)
            between = await stretch(size.seconds)
            postgres_outage = await _outage(postgres, operator, size, by=postgres.stop_signal)
            return Seen(before, etcd_outage, between, postgres_outage, *await _judged(operator, callers))


async def _judged(
    operator: Operator, callers: SteadyCallers
) -> tuple[CallerLog, Connections, simulator_pb2.GetVerdictResponse, int]:
    log, calls = await callers.end()
    undelivered = await operator.until_delivered()
    verdict = await operator.verdict(calls)
    return log, await operator.connections(), verdict, undelivered


async def _outage(server: EmbeddedServer, operator: Operator, size: Size, *, by: signal.Signals) -> Outage:
    """End the server with a signal, and start it on its data and at its address when the time is over."""
    began = time.monotonic()
    os.kill(server.pid, by)
    await server.stop()
    await stretch(began + size.seconds - time.monotonic())
    down = since(began)
    await server.start()
    await operator.until_settled(NODES)
    return Outage(down, since(began))


def _server(mesh: RunningMesh, name: str) -> EmbeddedServer:
    try:
        return mesh.stack.server(name)
    except KeyError:
        raise NotMeasured(f"{name} is not ours to stop: the environment gives its address") from None


def _figures(seen: Seen) -> dict[str, float]:
    calm = seen.log.latencies(seen.before, seen.between)
    down = seen.log.latencies(seen.etcd.down)
    if not calm or not down:
        raise NotMeasured("there are no latencies to compare: no call was answered")
    return {
        "etcd_down_sessions_dropped": seen.connections.ended(seen.etcd.whole),
        "etcd_down_failed_calls": len(seen.log.failed(seen.etcd.whole)),
        "etcd_down_p99_ratio": quantile(down, 0.99) / quantile(calm, 0.99),
        "postgres_down_sessions_dropped": seen.connections.ended(seen.postgres.whole),
        "postgres_down_lost": seen.verdict.lost,
    }


def _notes(seen: Seen) -> tuple[str, ...]:
    log, postgres = seen.log, seen.postgres
    failed = log.failed(postgres.whole)
    etcd_failed = log.failed(seen.etcd.whole)
    return (
        f"Calls before: {_latency(log, seen.before)}; while etcd was down: {_latency(log, seen.etcd.down)}; "
        f"after it was back: {_latency(log, seen.between)}.",
        f"etcd was down for {seen.etcd.down.seconds:.1f} s, and all was settled "
        f"{seen.etcd.whole.seconds - seen.etcd.down.seconds:.1f} s after its start; "
        f"{seen.connections.logins(seen.etcd.whole)} logins, {len(etcd_failed)} of "
        f"{log.made(seen.etcd.whole):,} calls failed. {reasons(etcd_failed)}",
        f"Postgres was down for {postgres.down.seconds:.1f} s, and all was settled "
        f"{postgres.whole.seconds - postgres.down.seconds:.1f} s after its start; "
        f"{seen.connections.logins(postgres.whole)} logins, {len(failed)} of {log.made(postgres.whole):,} "
        f"calls failed, as they must: {reasons(failed)}",
        f"Network: {seen.verdict.sent:,} messages accepted, {seen.verdict.delivered:,} delivered, "
        f"{seen.verdict.lost} lost, {seen.verdict.duplicates} duplicates, {seen.verdict.overlaps} overlaps; "
        f"{seen.undelivered} stored messages were not delivered in the end. "
        + " ".join(seen.verdict.findings[:5]),
    )


def _latency(log: CallerLog, window: Window) -> str:
    """Median and 99th percentile, and how much the latter varies."""
    latencies = log.latencies(window)
    if not latencies:
        return "unanswered"
    parts = [quantile(part, 0.99) for part in map(log.latencies, window.slices(SLICES)) if part]
    return (
        f"{quantile(latencies, 0.5) * 1000:.0f} ms (p50), {quantile(latencies, 0.99) * 1000:.0f} ms (p99, in "
        f"sixths {min(parts) * 1000:.0f} to {max(parts) * 1000:.0f} ms)"
    )
