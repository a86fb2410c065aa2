"""What a text message costs, from the caller's unary call through the router to its receipt and last event.

The mesh of `mesh up` with three session-nodes; 32 callers on 300 accounts, each sending as soon as it was
answered, so the machine is saturated. A round ends when every message is DELIVERED and its event stored.
"""

from __future__ import annotations

import asyncio
import os
import statistics
from dataclasses import dataclass

import asyncpg

from bench.measuring.report import Report
from bench.measuring.yardstick import empty_call_us
from bench.mesh.accounts import make_customer
from bench.mesh.generator import LoadGenerator, load_generator
from bench.mesh.judge import complaints, until_settled
from bench.mesh.load import Plan, Round
from bench.mesh.metrics import JournalCounts, journal_counts
from bench.mesh.running import RunningMesh, running_mesh

NODES, ACCOUNTS, CALLERS = 3, 300, 32
TRACED_RATIO = 0.05
# Receipts come 50 ms after their message, and the journal holds what nobody waits for for up to 100 ms.
_TAIL_SECONDS = 0.3
_COUNTED = ("router", *(f"node-{number}" for number in range(1, NODES + 1)), "Postgres", "etcd", "Redis")
_APART = ("webhook", "media", "simulator", "load")
_SPACE = """SELECT pg_database_size(current_database()) AS bytes,
  pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0') AS log"""
_LIMITS = {
    "MESH_SESSION_SEND_PER_MINUTE": "1000000",
    "MESH_SESSION_SEND_PER_HOUR": "10000000",
    "MESH_SESSION_SEND_PER_DAY": "100000000",
}


@dataclass(frozen=True, slots=True)
class Size:
    """How much to measure."""

    rounds: int
    seconds: float
    warm_up: float


@dataclass(frozen=True, slots=True)
class Measured:
    """One round: what the callers saw, CPU milliseconds per message by process, and the journals' batches."""

    round: Round
    seconds: float
    cpu_ms: dict[str, float]
    journal: JournalCounts
    database_bytes: float
    """More than before, per message: tables with their indexes."""
    log_bytes: float
    """Of Postgres' log, per message."""

    @property
    def rate(self) -> float:
        """Messages a second, from the first call to the last message's last event."""
        return self.round.messages / self.seconds

    @property
    def counted_ms(self) -> float:
        """CPU milliseconds per message of the mesh and its backing servers."""
        return sum(self.cpu_ms.get(name, 0.0) for name in _COUNTED)


def run(quick: bool) -> Report:
    """Measure; `cpu_ms_per_message` is of router, session-nodes, Postgres, etcd and Redis together.

    Exits with the reasons, and without figures, when a message was lost, sent twice or not delivered.
    """
    size = Size(3, 4, 2) if quick else Size(7, 8, 4)
    load_before = os.getloadavg()[0]
    empty = [asyncio.run(empty_call_us())]
    rounds = asyncio.run(_measure(size, 0.0))
    empty.append(asyncio.run(empty_call_us()))
    blocks = [_table(rounds)]
    if not quick:
        traced = asyncio.run(_measure(Size(3, size.seconds, size.warm_up), TRACED_RATIO))
        blocks.append(
            f"With {TRACED_RATIO:.0%} of the traces recorded: {_cost(traced):.3f} ms, "
            f"{_rate(traced):,.0f} messages/s."
        )
    limits = " ".join(f"{name}={value}" for name, value in _LIMITS.items())
    notes = (
        f"{NODES} session-nodes, {ACCOUNTS} accounts, {CALLERS} callers in a closed loop; no traces recorded "
        f"(sample ratio 0); median of {len(rounds)} rounds of {size.seconds:.0f} s.",
        f"Send limits raised: {limits}.",
        f"An empty unary call cost its server {empty[0]:.0f} us of CPU before and {empty[1]:.0f} us after: a "
        f"message costs {_cost(rounds) * 1000 / statistics.mean(empty):.1f} of them.",
        f"Load average of the machine before: {load_before:.1f}. The load generator and the simulated "
        "network share its cores.",
        f"Sane: {sum(one.round.messages for one in rounds):,} messages measured, all DELIVERED once, three "
        "events each, outbox empty, the network's ledger clean.",
    )
    figures = {
        "cpu_ms_per_message": _cost(rounds),
        "messages_per_second": _rate(rounds),
        "database_bytes_per_message": statistics.median(one.database_bytes for one in rounds),
        "log_bytes_per_message": statistics.median(one.log_bytes for one in rounds),
    }
    return Report("message", figures, notes=(*blocks, *notes))


async def _measure(size: Size, sample_ratio: float) -> list[Measured]:
    environment = {
        **_LIMITS,
        "MESH_TELEMETRY_SAMPLE_RATIO": str(sample_ratio),
        "MESH_SIMULATOR_ACCEPT_AFTER_SECONDS": "0",
    }
    async with running_mesh(NODES, environment) as mesh:
        customer = await make_customer(mesh.file.address, mesh.file.admin_key, ACCOUNTS)
        database: asyncpg.Connection = await asyncpg.connect(mesh.database_url)
        plan = Plan(mesh.file.address, customer.key, customer.accounts, CALLERS)
        async with load_generator(plan) as load:
            messages = (await load.round(size.warm_up)).messages
            await until_settled(database, messages)
            rounds = []
            for _ in range(size.rounds):
                measured = await _round(mesh, database, load, size.seconds, messages)
                messages += measured.round.messages
                rounds.append(measured)
        wrong = await complaints(mesh, database, messages)
        await database.close()
    if wrong:
        raise SystemExit("\n".join(["message: the run is not sane", *wrong]))
    return rounds


async def _round(
    mesh: RunningMesh, database: asyncpg.Connection, load: LoadGenerator, seconds: float, before: int
) -> Measured:
    journal = await journal_counts(mesh)
    [space] = await database.fetch(_SPACE)
    cpu = mesh.cpu_seconds()
    done = await load.round(seconds)
    await asyncio.sleep(_TAIL_SECONDS)
    used = {name: now - cpu[name] for name, now in mesh.cpu_seconds().items()} | {"load": done.cpu_seconds}
    await until_settled(database, before + done.messages)
    [space_after] = await database.fetch(_SPACE)
    last = await database.fetchval("SELECT extract(epoch FROM max(commit_time)) FROM event")
    return Measured(
        done,
        float(last) - done.began,
        {name: value * 1000 / done.messages for name, value in used.items()},
        await journal_counts(mesh) - journal,
        (space_after["bytes"] - space["bytes"]) / done.messages,
        float(space_after["log"] - space["log"]) / done.messages,
    )


def _table(rounds: list[Measured]) -> str:
    lines = [f"{'process':12}  {'CPU ms per message':>18}"]
    for name in (*_COUNTED, *_APART):
        apart = "  (apart)" if name in _APART else ""
        lines.append(
            f"{name:12}  {statistics.median(one.cpu_ms.get(name, 0.0) for one in rounds):>18.3f}{apart}"
        )
    batches = statistics.median(one.round.messages / one.journal.batches for one in rounds)
    units = statistics.median(one.journal.units / one.journal.batches for one in rounds)
    p50 = statistics.median(one.round.p50_ms for one in rounds)
    p99 = statistics.median(one.round.p99_ms for one in rounds)
    spread = [one.counted_ms for one in rounds]
    lines += [
        "",
        f"accepted in {p50:.1f} ms (p50), {p99:.1f} ms (p99); {batches:.1f} messages and "
        f"{units:.1f} units per journal batch; "
        f"rounds {min(spread):.3f} to {max(spread):.3f} ms CPU per message",
    ]
    return "\n".join(lines)


def _cost(rounds: list[Measured]) -> float:
    return statistics.median(one.counted_ms for one in rounds)


def _rate(rounds: list[Measured]) -> float:
    return statistics.median(one.rate for one in rounds)
