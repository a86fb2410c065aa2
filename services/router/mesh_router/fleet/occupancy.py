"""How full the fleet is, and the refusal of accounts that it has no room for."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from time import monotonic

import structlog

from mesh_core.database import Database
from mesh_core.errors import ResourceExhausted
from mesh_core.ownership.keys import NodeState
from mesh_core.ownership.view import OwnerView
from mesh_router.fleet import queries
from mesh_router.fleet.messages import percent
from mesh_router.postgres import AWAY

logger = structlog.get_logger(__name__)

WARN_PERCENT = 80.0
ALARM_PERCENT = 95.0
RETRY_SECONDS = 10.0
EVERY_SECONDS = 1.0
COUNT_SHARE = 0.05
"""Counting takes at most this share of the time: of millions of accounts it is done less often."""


class Occupancy:
    """Accounts that want a session, against the sessions that the ACTIVE nodes may run.

    The accounts are counted about once a second (`refresh`); what this router lets in meanwhile is added, so
    that alone it never lets in one too many. Of what other routers let in within the last second it does not
    know: at most so many accounts too many can come. One that is committed while a refresh runs may count
    twice until the next one.
    """

    def __init__(self, database: Database, view: OwnerView) -> None:
        self.by_shard: Mapping[int, int] = {}
        """Accounts that want a session, as last counted."""
        self._database = database
        self._view = view
        self._counted = 0
        self._entering = 0
        self._entered = 0
        self._took = 0.0

    async def run(self) -> None:
        """Counts again and again until it is cancelled; while Postgres is away the last count holds."""
        away = False
        while True:
            await asyncio.sleep(max(EVERY_SECONDS, self._took / COUNT_SHARE))
            try:
                await self.refresh()
            except AWAY as error:
                if not away:
                    logger.warning("accounts are not counted anew", error=repr(error))
                away = True
            else:
                away = False

    async def refresh(self) -> None:
        """Counts. Raises what asyncpg raises."""
        began, entered = monotonic(), self._entered
        self.by_shard = await queries.wanted(self._database)
        self._took = monotonic() - began
        self._counted = sum(self.by_shard.values())
        self._entered -= entered

    @property
    def accounts(self) -> int:
        """Accounts that want a session, with those that are about to."""
        return self._counted + self._entered + self._entering

    @property
    def most(self) -> int:
        """Sessions that the fleet may run."""
        return sum(node.capacity for node in self._view.nodes() if node.state is NodeState.ACTIVE)

    @property
    def usage_percent(self) -> float:
        return percent(self.accounts, self.most)

    @contextmanager
    def entrance(self) -> Iterator[Entrance]:
        """For one call: what it takes stays taken only if it ends well."""
        entrance = Entrance(self)
        try:
            yield entrance
        except BaseException:  # a cancelled call takes nothing either
            self._entering -= entrance.taken
            raise
        self._entering -= entrance.taken
        self._entered += entrance.taken

    def enter(self) -> None:
        """Raises `ResourceExhausted` NO_CAPACITY when the fleet is full.

        While no node is known at all, such as when etcd has just begun, nothing is refused: accounts are
        only rows until a node comes.
        """
        if self._view.nodes() and self.accounts >= self.most:
            raise ResourceExhausted(
                f"the fleet runs {self.most} sessions at most, and {self.accounts} accounts want one",
                "NO_CAPACITY",
                quota="fleet_sessions",
                retry_after=RETRY_SECONDS,
            )
        self._entering += 1


class Entrance:
    """What one call lets in."""

    def __init__(self, occupancy: Occupancy) -> None:
        self.taken = 0
        self._occupancy = occupancy

    def take(self) -> None:
        """Room for one account that wants a session; raises `ResourceExhausted` when there is none."""
        self._occupancy.enter()
        self.taken += 1
