"""The roads to an account's owner: what each costs, and what callers notice when owners change.

Straight to the node (what the others are compared with), a stock gRPC client on xDS, through the router, and
nginx in the router's place.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from bench.mesh.conditions import Machine
from bench.mesh.operator import NotMeasured
from bench.report import Report
from bench.routing import node_joins, owner_killed, rates, whole_life
from bench.routing.rates import NotSane
from bench.routing.world import RoutingWorld, routing_world
from bench.yardstick import empty_call_us

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Size:
    """How much to measure."""

    rates: rates.Size
    owner_killed: owner_killed.Size
    streams: int
    whole_life: whole_life.Size


_QUICK = Size(
    rates.Size(seconds=0.08, accounts=200),
    owner_killed.Size(accounts=300, per_second=20, asked=50, every=0.25, calm=2),
    streams=1000,
    whole_life=whole_life.Size(accounts=64, seconds=0.15),
)
_FULL = Size(
    rates.Size(seconds=1.0, accounts=1000),
    owner_killed.Size(accounts=2000, per_second=40, asked=150, every=0.2, calm=10),
    streams=5000,
    whole_life=whole_life.Size(accounts=300, seconds=1.5),
)


def run(quick: bool) -> Report:
    """Measure. Exits with the reason, and without figures, when an answer was wrong or a condition never "
    "came."""
    size = _QUICK if quick else _FULL
    before = Machine.now()
    try:
        roads = asyncio.run(_in_a_world(lambda world: rates.measure(world, size.rates)))
        between = asyncio.run(empty_call_us())
        life = asyncio.run(whole_life.measure(size.whole_life))
        joins = asyncio.run(_in_a_world(lambda world: node_joins.measure(world, size.streams)))
        killed = asyncio.run(owner_killed.measure(size.owner_killed))
    except (NotMeasured, NotSane) as problem:
        raise SystemExit(f"routing: not measured: {problem}") from None
    after = Machine.now()
    figures = roads.figures() | killed.figures() | joins.figures() | life.figures()
    notes = (
        *roads.notes(),
        *life.notes(),
        *killed.notes(),
        *joins.notes(),
        f"An empty unary call cost its server {before.empty_call_us:.0f} us of CPU before, {between:.0f} "
        "us after the "
        f"roads' turns and {after.empty_call_us:.0f} us at the end. Load average of the machine before: "
        f"{before.load:.1f}, at the end: {after.load:.1f}. Clients share its cores.",
    )
    return Report("routing", figures, notes=notes)


async def _in_a_world(measure: Callable[[RoutingWorld], Awaitable[Result]]) -> Result:
    async with routing_world() as world:
        return await measure(world)
