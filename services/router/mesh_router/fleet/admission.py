"""Admission of accounts: how full the fleet is, and the refusal of what it has no room for."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from time import monotonic

import structlog

from mesh_core.database import UNAVAILABLE, Database
from mesh_core.errors import ResourceExhausted
from mesh_core.ownership.keys import NodeState
from mesh_core.ownership.view import OwnerView
from mesh_router.fleet.counts import wanted_by_shard
from mesh_router.fleet.resources import percent

logger = structlog.get_logger(__name__)

WARN_PERCENT = 80.0
ALARM_PERCENT = 95.0
RETRY_SECONDS = 10.0
EVERY_SECONDS = 1.0
COUNT_SHARE = 0.05
"""Counting takes at most this share of the time, so millions of accounts are counted less often."""


class Admission:
    """Compares the accounts that want a session with the sessions that the ACTIVE nodes may run.

    Postgres is asked for their number about once a second (`refresh`); accounts that this router admits
    meanwhile are added, so a single router never admits too many. What other routers admitted within the last
    second is not known: so many accounts can be admitted too many. An account that is committed during a
    refresh may be counted twice until the next one.
    """

    def __init__(self, database: Database, view: OwnerView) -> None:
        self.by_shard: Mapping[int, int] = {}
        """Accounts that want a session, as last counted."""
        self._database = database
        self._view = view
        self._counted = 0
        self._reserved = 0
        self._admitted = 0
        self._count_seconds = 0.0

    async def run(self) -> None:
        """Counts again and again, until cancelled. The last count holds while the database is unavailable."""
        unavailable = False
        while True:
            await asyncio.sleep(max(EVERY_SECONDS, self._count_seconds / COUNT_SHARE))
            try:
                await self.refresh()
            except UNAVAILABLE as error:
                if not unavailable:
                    logger.warning("accounts are not counted: the database is unavailable", error=repr(error))
                unavailable = True
            except Exception:  # a row that no release wrote must not end the router
                logger.exception("accounts are not counted")
            else:
                unavailable = False

    async def refresh(self) -> None:
        """Counts the accounts. Raises what asyncpg raises."""
        began, admitted = monotonic(), self._admitted
        self.by_shard = await wanted_by_shard(self._database)
        self._count_seconds = monotonic() - began
        self._counted = sum(self.by_shard.values())
        self._admitted -= admitted

    @property
    def accounts(self) -> int:
        """Accounts that want a session, those that are just being admitted included."""
        return self._counted + self._admitted + self._reserved

    @property
    def capacity(self) -> int:
        """Sessions that the ACTIVE nodes may run."""
        return sum(node.capacity for node in self._view.nodes() if node.state is NodeState.ACTIVE)

    @property
    def usage_percent(self) -> float:
        return percent(self.accounts, self.capacity)

    @contextmanager
    def reservation(self) -> Iterator[Reservation]:
        """The reservation of one call, which is undone when the block raises."""
        reservation = Reservation(self)
        try:
            yield reservation
        except BaseException:  # a cancelled call admits nothing either
            self._reserved -= reservation.sessions
            raise
        self._reserved -= reservation.sessions
        self._admitted += reservation.sessions

    def reserve(self) -> None:
        """Reserve a session. Raises `ResourceExhausted` NO_CAPACITY when the fleet is full.

        While no node is registered at all, such as with an empty etcd, nothing is refused: accounts are only
        rows until there is a node.
        """
        if self._view.nodes() and self.accounts >= self.capacity:
            raise ResourceExhausted(
                f"the fleet runs {self.capacity} sessions at most, and {self.accounts} accounts want one",
                "NO_CAPACITY",
                quota="fleet_sessions",
                retry_after=RETRY_SECONDS,
            )
        self._reserved += 1


class Reservation:
    """The sessions that one call reserves for accounts."""

    def __init__(self, admission: Admission) -> None:
        self.sessions = 0
        self._admission = admission

    def reserve(self) -> None:
        """Reserve a session for one account. Raises `ResourceExhausted` when the fleet is full."""
        self._admission.reserve()
        self.sessions += 1
