"""Stretches of quiet and of attack, one after the other."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass

import asyncpg

from bench.fairness import neighbours
from bench.measuring.processes import pss_kb
from bench.measuring.workers import Worker
from bench.mesh.operator import NotMeasured
from bench.mesh.running import RunningMesh
from bench.mesh.window import Window, stretch
from sessionmesh.v1 import webhook_pb2

NOTHING = "nothing"
"""The turns without an attack."""
FEW_WAITING = 100
"""Deliveries that may wait when it is quiet: the bystander always has some under way."""
DRAINED_SECONDS = 120.0
_SAMPLE_SECONDS = 0.25
_WARM_UP_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Size:
    """How much to measure: pairs for each attack, `seconds` of each stretch, `ramp` of an attack before its
    stretch, sends and reads `per_second` each, and how much of each neighbour there is: 1 for all of it.
    """

    pairs: int
    seconds: float
    ramp: float
    accounts: int
    per_second: float
    scale: float


@dataclass(frozen=True, slots=True)
class Turn:
    """A pair of stretches."""

    quiet: Window
    attacked: Window


class Turns:
    """Those that were taken, by attack, with the router's peak of memory (PSS) while attacked, and what
    became of the neighbour's doing.
    """

    def __init__(self, mesh: RunningMesh, size: Size, attacking: Worker) -> None:
        self._mesh = mesh
        self._size = size
        self._attacking = attacking
        self.by_attack: dict[str, list[Turn]] = {}
        self.router_mb: defaultdict[str, float] = defaultdict(float)
        self.outcomes: dict[str, dict[str, int]] = {}

    async def warm_up(self) -> None:
        """Let all that is made at first use be made."""
        await asyncio.sleep(_WARM_UP_SECONDS if self._size.pairs > 1 else 1.0)

    async def take(self, attack: str) -> None:
        """All turns of an attack."""
        if attack != NOTHING:
            await self._attacking.ask(neighbours.Prepare(attack), type(None))
        taken = self.by_attack[attack] = []
        for _ in range(self._size.pairs):
            await self._until_drained()
            quiet = await stretch(self._size.seconds)
            async with self._router_watched(attack):
                taken.append(Turn(quiet, await self._attacked(attack)))
        await self._until_drained()

    async def _attacked(self, attack: str) -> Window:
        if attack == NOTHING:
            return await stretch(self._size.seconds)
        await self._attacking.ask(neighbours.Start(attack), type(None))
        await asyncio.sleep(self._size.ramp)
        window = await stretch(self._size.seconds)
        self.outcomes[attack] = await self._attacking.ask(neighbours.Stop(attack), dict[str, int])
        return window

    async def _until_drained(self) -> None:
        """Until the neighbour's deliveries are made, so that the next stretch is quiet."""
        database: asyncpg.Connection = await asyncpg.connect(self._mesh.database_url)
        try:
            until, waiting = time.monotonic() + DRAINED_SECONDS, 0
            while time.monotonic() < until:
                waiting = await database.fetchval(_WAITING, webhook_pb2.DELIVERY_STATE_PENDING)
                if waiting <= FEW_WAITING:
                    return
                await asyncio.sleep(0.5)
        finally:
            await database.close()
        raise NotMeasured(f"{waiting} deliveries wait {DRAINED_SECONDS:.0f} s after an attack")

    @contextlib.asynccontextmanager
    async def _router_watched(self, attack: str) -> AsyncIterator[None]:
        async def watch() -> None:
            while True:
                now = await asyncio.to_thread(pss_kb, self._mesh.processes["router"])
                self.router_mb[attack] = max(self.router_mb[attack], now / 1024)
                await asyncio.sleep(_SAMPLE_SECONDS)

        watching = asyncio.create_task(watch(), name="watch the router")
        try:
            yield
        finally:
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching


_WAITING = "SELECT count(*) FROM webhook_delivery WHERE state = $1"
