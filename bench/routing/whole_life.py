"""What the router adds to the whole life of a message: SendMessage through it, and straight to the node.

The mesh of `mesh up` with one session-node, so that straight to the node needs no knowledge of owners. 32
callers in a closed loop; the transports take turns, and each turn lasts until every message is DELIVERED.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Mapping
from dataclasses import dataclass

import asyncpg

from bench.measuring.pairs import PAIRS, Median, compared
from bench.mesh.accounts import make_customer
from bench.mesh.conditions import ENVIRONMENT
from bench.mesh.generator import LoadGenerator, load_generator
from bench.mesh.judge import complaints, until_settled
from bench.mesh.load import Plan
from bench.mesh.running import RunningMesh, running_mesh
from bench.routing.rates import NotSane

CALLERS = 32
NODE = "node-1"
COUNTED = {"router": ("router", NODE, "Postgres"), "direct": (NODE, "Postgres")}
# Receipts come 50 ms after their message, and the journal holds what nobody waits for for up to 100 ms.
_TAIL_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Size:
    """How much to measure: accounts, and seconds of calls in each turn."""

    accounts: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Turn:
    """CPU microseconds per message, by process; and messages a second while there were callers."""

    cpu_us: Mapping[str, float]
    rate: float


@dataclass(frozen=True, slots=True)
class WholeLife:
    """The turns by transport."""

    turns: Mapping[str, list[Turn]]

    @property
    def ratio(self) -> Median:
        """CPU of router, node and Postgres through the router, over that of node and Postgres without it."""
        return compared(self._cost("router"), self._cost("direct"))

    def figures(self) -> dict[str, float]:
        """By name."""
        return {"send_cpu_router_over_direct_32": self.ratio.value}

    def notes(self) -> tuple[str, ...]:
        """Sentences."""
        parts = []
        for transport, turns in self.turns.items():
            used = ", ".join(
                f"{name} {statistics.median(turn.cpu_us[name] for turn in turns):.0f}"
                for name in COUNTED[transport]
            )
            rate = statistics.median(turn.rate for turn in turns)
            parts.append(f"{used} us of CPU by {transport} ({rate:,.0f} messages/s)")
        return (
            f"SendMessage, whole life with one session-node, {CALLERS} callers, {len(self.turns['router'])} "
            f"pairs: {'; '.join(parts)}; ratio {self.ratio}.",
        )

    def _cost(self, transport: str) -> list[float]:
        return [sum(turn.cpu_us[name] for name in COUNTED[transport]) for turn in self.turns[transport]]


async def measure(size: Size) -> WholeLife:
    """Raises `NotSane` when a message was lost, sent twice or not delivered."""
    async with running_mesh(1, ENVIRONMENT) as mesh:
        customer = await make_customer(mesh.file.address, mesh.file.admin_key, size.accounts)
        database: asyncpg.Connection = await asyncpg.connect(mesh.database_url)
        targets = {"router": mesh.file.address, "direct": mesh.file.parts[NODE].address}
        plans = {
            transport: Plan(target, customer.key, customer.accounts, CALLERS, transport)
            for transport, target in targets.items()
        }
        turns: dict[str, list[Turn]] = {transport: [] for transport in plans}
        messages = 0
        async with load_generator(plans["router"]) as router, load_generator(plans["direct"]) as direct:
            loads = {"router": router, "direct": direct}
            for load in loads.values():
                messages += (await load.round(size.seconds)).messages
            await until_settled(database, messages)
            for pair in range(PAIRS):
                for transport in sorted(loads, reverse=pair % 2 == 0):
                    messages, turn = await _turn(mesh, database, loads[transport], size.seconds, messages)
                    turns[transport].append(turn)
        wrong = await complaints(mesh, database, messages)
        await database.close()
    if wrong:
        raise NotSane(f"messages through the router and past it: {'; '.join(wrong)}")
    return WholeLife(turns)


async def _turn(
    mesh: RunningMesh, database: asyncpg.Connection, load: LoadGenerator, seconds: float, before: int
) -> tuple[int, Turn]:
    """How many messages there are after it, and what it was."""
    cpu = mesh.cpu_seconds()
    done = await load.round(seconds)
    await asyncio.sleep(_TAIL_SECONDS)
    used = {name: (now - cpu[name]) / done.messages * 1e6 for name, now in mesh.cpu_seconds().items()}
    await until_settled(database, before + done.messages)  # asking Postgres costs it CPU, too
    return before + done.messages, Turn(used, done.messages / done.seconds)
