"""What a message costs over a linked device and over the simulated network: the same nodes, in turns."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import asyncpg

from bench.measuring.pairs import Median, compared
from bench.measuring.processes import cpu_seconds
from bench.mesh.accounts import Customer
from bench.mesh.generator import LoadGenerator, load_generator
from bench.mesh.judge import until_settled
from bench.mesh.load import Plan
from bench.mesh.metrics import sidecar_writes
from bench.mesh.running import RunningMesh
from bench.whatsapp_web.nodes import NODES, sidecar_of

CALLERS = 32
_COUNTED = ("router", *NODES, "Postgres", "etcd", "Redis")
SIDECARS = "sidecars"
_POLL_SECONDS = 0.1
_TAIL_SECONDS = 0.5
"""Receipts come 50 ms after their message, and the journal holds what nobody waits for for up to 100 ms."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """How many, of how many `seconds` each, over how many accounts of each driver, with a contact each."""

    number: int
    seconds: float
    accounts: int


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU milliseconds per message by process, round by round; and, of the linked devices' messages, how many
    there were and how often a sidecar waited for a commit of its own meanwhile.
    """

    linked: Sequence[Mapping[str, float]]
    simulated: Sequence[Mapping[str, float]]
    messages: int
    commits: float

    @property
    def ratio(self) -> Median:
        """Linked over simulated."""
        linked, simulated = (
            [sum(cost.values()) for cost in costs] for costs in (self.linked, self.simulated)
        )
        return compared(linked, simulated)

    def table(self) -> str:
        """The medians by process."""
        lines = [f"{'CPU ms per message':20}  {'linked':>8}  {'simulated':>9}"]
        for name in (*_COUNTED, SIDECARS):
            linked, simulated = (
                statistics.median(cost.get(name, 0.0) for cost in costs)
                for costs in (self.linked, self.simulated)
            )
            lines.append(f"{name:20}  {linked:>8.3f}  {simulated:>9.3f}")
        return "\n".join(lines)

    @property
    def own_commits_percent(self) -> float:
        return self.commits * 100 / self.messages


async def measure_cost(mesh: RunningMesh, linked: Customer, simulated: Customer, pairs: Pairs) -> Cost:
    """Raises `TimeoutError` when a message was not delivered."""
    database: asyncpg.Connection = await asyncpg.connect(mesh.database_url)
    try:
        rounds = _Rounds(mesh, database)
        async with (
            load_generator(_plan(mesh, linked, pairs, "linked")) as one,
            load_generator(_plan(mesh, simulated, pairs, "simulated")) as other,
        ):
            for load in (one, other):
                await rounds.until_met(load, pairs)
            costs: tuple[list[dict[str, float]], list[dict[str, float]]] = ([], [])
            messages, commits = 0, 0.0
            for number in range(pairs.number):
                for turn in (0, 1) if number % 2 else (1, 0):
                    before = await sidecar_writes(mesh)
                    sent, cost = await rounds.take((one, other)[turn], pairs.seconds)
                    costs[turn].append(cost)
                    if turn == 0:
                        messages += sent
                        commits += await sidecar_writes(mesh) - before
        return Cost(*costs, messages, commits)
    finally:
        await database.close()


class _Rounds:
    """Each until the last event of its last message."""

    def __init__(self, mesh: RunningMesh, database: asyncpg.Connection) -> None:
        self._mesh = mesh
        self._database = database

    async def until_met(self, load: LoadGenerator, pairs: Pairs) -> None:
        """Until every account has written to its contact: the first message costs more."""
        sent = 0
        while sent < pairs.accounts:
            sent += (await load.round(1.0)).messages
        await self._settle()

    async def take(self, load: LoadGenerator, seconds: float) -> tuple[int, dict[str, float]]:
        """How many messages, and CPU milliseconds for each by process."""
        cpu = self._used()
        done = await load.round(seconds)
        await self._settle()
        used = self._used()
        return done.messages, {name: (used[name] - cpu[name]) * 1000 / done.messages for name in used}

    async def _settle(self) -> None:
        async with asyncio.timeout(60):
            while await self._database.fetchval("SELECT count(*) FROM outbox"):  # noqa: ASYNC110
                await asyncio.sleep(_POLL_SECONDS)
        await asyncio.sleep(_TAIL_SECONDS)
        await until_settled(self._database, await self._database.fetchval(_OUTBOUND))

    def _used(self) -> dict[str, float]:
        """CPU seconds until now; the sidecars' apart from their nodes'."""
        used = self._mesh.cpu_seconds()
        counted = {name: used[name] for name in _COUNTED if name in used}
        counted[SIDECARS] = 0.0
        for name in NODES:
            sidecar = cpu_seconds(sidecar_of(self._mesh.processes[name]))
            counted[name] -= sidecar
            counted[SIDECARS] += sidecar
        return counted


def _plan(mesh: RunningMesh, customer: Customer, pairs: Pairs, prefix: str) -> Plan:
    accounts = customer.accounts[: pairs.accounts]
    return Plan(mesh.file.address, customer.key, accounts, CALLERS, prefix, recipients=len(accounts))


_OUTBOUND = "SELECT count(*) FROM event WHERE type = 'message.queued'"
