"""What telemetry costs: the CPU of a whole mesh with 1 % of its traces recorded, and one call that is not.

Two meshes of `mesh up` with two session-nodes each stand on the machine, one without traces, one that records
1 % and exports them. They are loaded one after the other, in an order that changes from pair to pair, and
compared by the CPU that each took for a message, from the call through the router to its last event. After
some pairs two others take their place: what is peculiar to one of them is not taken for what traces cost.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import statistics
from collections.abc import AsyncIterator
from dataclasses import dataclass

import asyncpg

from bench.measuring.pairs import PAIRS, Median, compared
from bench.measuring.report import Report
from bench.mesh.accounts import make_customer
from bench.mesh.generator import LoadGenerator, load_generator
from bench.mesh.judge import complaints, until_settled
from bench.mesh.load import Plan
from bench.mesh.running import RunningMesh, running_mesh
from bench.telemetry.one_call import cost_us

NODES, ACCOUNTS, CALLERS, RATIO = 2, 100, 32, 0.01
_TAIL_SECONDS = 0.3  # receipts, what the journal holds of them, and the spans' export
_APART = ("simulator", "load")
_LIMITS = {
    "MESH_SESSION_SEND_PER_MINUTE": "1000000",
    "MESH_SESSION_SEND_PER_HOUR": "10000000",
    "MESH_SESSION_SEND_PER_DAY": "100000000",
    "MESH_SIMULATOR_ACCEPT_AFTER_SECONDS": "0",
}
_OFF = {"OTEL_TRACES_EXPORTER": "none"}
_ON = {"MESH_TELEMETRY_SAMPLE_RATIO": str(RATIO)}


@dataclass(frozen=True, slots=True)
class Size:
    """How much to measure: so many pairs with each two meshes."""

    meshes: int
    pairs: int
    seconds: float
    warm_up: float
    calls: int


@dataclass(slots=True)
class World:
    """A mesh with its load, and how many messages it has had."""

    mesh: RunningMesh
    database: asyncpg.Connection
    load: LoadGenerator
    messages: int = 0

    async def cost_ms(self, seconds: float) -> float:
        """CPU milliseconds that the mesh and its servers take for a message, in a round of so long."""
        before = self.mesh.cpu_seconds()
        done = await self.load.round(seconds)
        await asyncio.sleep(_TAIL_SECONDS)
        self.messages += done.messages
        await until_settled(self.database, self.messages)
        used = {name: now - before[name] for name, now in self.mesh.cpu_seconds().items()}
        return sum(value for name, value in used.items() if name not in _APART) * 1000 / done.messages


def run(quick: bool) -> Report:
    """Measure; `cpu_ratio_1_percent` is the upper end of the ratio's 95 % interval.

    Exits with the reasons, and without figures, when a message was lost, sent twice or not delivered.
    """
    size = Size(1, 6, 1.5, 2, 5_000) if quick else Size(4, PAIRS, 2, 4, 20_000)
    load_before = os.getloadavg()[0]
    hop = asyncio.run(cost_us(PAIRS, size.calls))
    off, on = asyncio.run(_measure(size))
    ratio = compared(on, off)
    figures = {"cpu_ratio_1_percent": ratio.high, "us_per_hop_unsampled": hop.value}
    return Report("telemetry", figures, notes=_notes(size, load_before, ratio, hop, off, on))


async def _measure(size: Size) -> tuple[list[float], list[float]]:
    off: list[float] = []
    on: list[float] = []
    for number in range(size.meshes):
        kinds = ((_OFF, off), (_ON, on))[:: 1 if number % 2 else -1]
        async with _world(kinds[0][0]) as first, _world(kinds[1][0]) as second:
            worlds = ((first, kinds[0][1]), (second, kinds[1][1]))
            for world, _ in worlds:
                await world.cost_ms(size.warm_up)
            for pair in range(size.pairs):
                for world, found in worlds[:: 1 if pair % 2 else -1]:
                    found.append(await world.cost_ms(size.seconds))
            wrong = [
                problem
                for world, _ in worlds
                for problem in await complaints(world.mesh, world.database, world.messages)
            ]
        if wrong:
            raise SystemExit("\n".join(["telemetry: the run is not sane", *wrong]))
    return off, on


@contextlib.asynccontextmanager
async def _world(telemetry: dict[str, str]) -> AsyncIterator[World]:
    async with running_mesh(NODES, _LIMITS | telemetry) as mesh:
        customer = await make_customer(mesh.file.address, mesh.file.admin_key, ACCOUNTS)
        database: asyncpg.Connection = await asyncpg.connect(mesh.database_url)
        plan = Plan(mesh.file.address, customer.key, customer.accounts, CALLERS)
        async with load_generator(plan) as load:
            yield World(mesh, database, load)
        await database.close()


def _notes(
    size: Size, load_before: float, ratio: Median, hop: Median, off: list[float], on: list[float]
) -> tuple[str, ...]:
    return (
        f"CPU of a message with {RATIO:.0%} of the traces recorded, of one without: {ratio}, the median of "
        f"{len(on)} interleaved pairs of {size.seconds:g} s with its 95 % interval "
        f"({statistics.median(on):.3f} and {statistics.median(off):.3f} ms).",
        f"Tracing adds {hop} us to a call that is not recorded, on each hop.",
        f"{NODES} session-nodes, {ACCOUNTS} accounts and {CALLERS} callers in a closed loop for each mesh; "
        "router, session-nodes, webhook, media and backing servers are counted.",
        f"Load average of the machine before: {load_before:.1f}.",
    )
