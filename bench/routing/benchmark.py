"""The transports to an account's owner: what each costs, and what callers notice when owners change.

Straight to the node (what the others are compared with), a stock gRPC client on xDS, through the router, and
nginx in the router's place.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from bench.measuring.report import Report
from bench.mesh.conditions import Machine
from bench.mesh.operator import NotMeasured
from bench.routing import node_joins, owner_killed, rates, whole_life
from bench.routing.rates import NotSane
from bench.routing.world import routing_world


@dataclass(frozen=True, slots=True)
class Size:
    """How much to measure."""

    rates: rates.Size
    streams: int
    whole_life: whole_life.Size
    owner_killed: owner_killed.Size


_QUICK = Size(
    rates.Size(seconds=0.05, accounts=200),
    streams=1000,
    whole_life=whole_life.Size(accounts=64, seconds=0.1),
    owner_killed=owner_killed.Size(accounts=150, per_second=20, asked=30, every=0.2, calm=2, after=8),
)
_FULL = Size(
    rates.Size(seconds=1.0, accounts=1000),
    streams=5000,
    whole_life=whole_life.Size(accounts=300, seconds=1.5),
    owner_killed=owner_killed.Size(accounts=2000, per_second=40, asked=50, every=0.2, calm=10, after=30),
)


def run(quick: bool) -> Report:
    """Measure. Exits with the reason, and without figures, when an answer was wrong or a condition never
    came."""
    size = _QUICK if quick else _FULL
    before = Machine.now()
    try:
        transports, joins = asyncio.run(_small_world(size))
        life = asyncio.run(whole_life.measure(size.whole_life))
        killed = asyncio.run(owner_killed.measure(size.owner_killed))
    except (NotMeasured, NotSane) as problem:
        raise SystemExit(f"routing: not measured: {problem}") from None
    after = Machine.now()
    figures = transports.figures() | killed.figures() | joins.figures() | life.figures()
    notes = (
        *transports.notes(),
        *life.notes(),
        *killed.notes(),
        *joins.notes(),
        f"An empty unary call cost its server {before.empty_call_us:.0f} us of CPU before and "
        f"{after.empty_call_us:.0f} us at the end; the load average was {before.load:.1f} before and "
        f"{after.load:.1f} at the end. Clients share the machine's cores. No traces recorded.",
    )
    return Report("routing", figures, notes=notes)


async def _small_world(size: Size) -> tuple[rates.Rates, node_joins.Joins]:
    """What needs a router, but no mesh behind it."""
    async with routing_world() as world:
        return await rates.measure(world, size.rates), await node_joins.measure(world, size.streams)
