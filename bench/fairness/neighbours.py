"""The neighbours' process. Its first line of input is a `Neighbours` as JSON, each line after it an order."""

from __future__ import annotations

import asyncio
import contextlib

import msgspec
import uvloop

import mesh_core  # noqa: F401 - chooses gRPC's poller, as every part of the mesh does
from bench.fairness.attack import Attack, Neighbour
from bench.fairness.endpoints import BlackHoles, EndpointChurn, EndpointTests, ManyEndpoints
from bench.fairness.strangers import AbandonedPairings, GreedyAds, RapidResets, UnknownKeys
from bench.measuring.workers import serve

ATTACKS: dict[str, type[Attack]] = {
    "black_holes": BlackHoles,
    "many_endpoints": ManyEndpoints,
    "endpoint_churn": EndpointChurn,
    "endpoint_tests": EndpointTests,
    "abandoned_pairings": AbandonedPairings,
    "greedy_ads": GreedyAds,
    "rapid_resets": RapidResets,
    "unknown_keys": UnknownKeys,
}


class Neighbours(msgspec.Struct, frozen=True):
    """One for each attack."""

    by_attack: dict[str, Neighbour]


class Prepare(msgspec.Struct, frozen=True, tag=True):
    """Make what the attack needs. Answered with null."""

    attack: str


class Start(msgspec.Struct, frozen=True, tag=True):
    """Attack from now on. Answered with null."""

    attack: str


class Stop(msgspec.Struct, frozen=True, tag=True):
    """Answered, once it has ended, with how often what became of it, in all runs."""

    attack: str


class Attacker:
    """Runs one attack at a time."""

    def __init__(self, neighbours: Neighbours) -> None:
        self._neighbours = neighbours.by_attack
        self._attacks: dict[str, Attack] = {}
        self._running: asyncio.Task[None] | None = None

    async def obey(self, order: Prepare | Start | Stop) -> dict[str, int] | None:
        """One order."""
        match order:
            case Prepare(name):
                self._attacks[name] = ATTACKS[name](self._neighbours[name])
                await self._attacks[name].prepare()
            case Start(name):
                self._running = asyncio.create_task(self._attacks[name].run(), name=name)
            case Stop(name):
                assert self._running is not None
                self._running.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await self._running
                await self._attacks[name].rest()
                return dict(self._attacks[name].outcomes)
        return None


if __name__ == "__main__":
    uvloop.run(serve(Neighbours, Prepare | Start | Stop, lambda plan: Attacker(plan).obey))
