"""The networks of this node's accounts: while one fails for most, a few accounts try it for all."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

import structlog
from asyncpg.pgproto.pgproto import UUID

from mesh_core.turns import Turns
from mesh_session_node.account.connector import Connector
from mesh_session_node.account.session import Session
from mesh_session_node.account.state import LIVE, Cause
from mesh_session_node.context import metrics
from mesh_session_node.node.network_health import WINDOW, NetworkHealth, Tally
from sessionmesh.v1 import session_pb2 as pb

logger = structlog.get_logger(__name__)

PROBES, PROBE_SECONDS = 3, 2.0
"""Accounts that try at once, and the least time between two tries."""
LONGEST_PROBE = 30.0
"""Seconds after which an account that began to try is not waited for."""


class WatchedNetwork:
    """Implements `Network`: what became of each account's attempts, and who waits for the network."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.health = NetworkHealth()
        self._held: Turns[Connector] = Turns()
        self._probes: dict[str, float] = {}
        """The accounts that try for all, and since when."""
        self._next_probe = 0.0
        self._to_hold: list[Session] = []
        metrics.NETWORK_FAILING.labels(name).set(0)
        metrics.NETWORK_HELD.labels(name).set(0)

    @property
    def failing(self) -> bool:
        return self.health.failing

    @property
    def held(self) -> int:
        """How many accounts wait for the network to work again."""
        return len(self._held)

    def logged_in(self, connector: Connector) -> None:
        self._probes.pop(connector.id, None)
        self.health.succeeded(connector.id, connector.tenant, time.monotonic())

    def failed(self, connector: Connector, cause: Cause) -> bool:
        self._probes.pop(connector.id, None)
        return self.health.failed(connector.id, connector.tenant, cause, time.monotonic())

    def hold(self, connector: Connector) -> None:
        self._held.add(connector.tenant, connector)

    def let_go(self, connector: Connector) -> None:
        self._held.discard(connector.tenant, connector)

    def leave(self, connector: Connector) -> None:
        self.let_go(connector)
        self._probes.pop(connector.id, None)
        self.health.forget(connector.id)

    def judge(self, sessions: Iterable[Session], now: float) -> None:
        """Look at the network, whose sessions these are: it may fail, it may work again, and while it fails a
        few of those that wait try.
        """
        live = [session for session in sessions if session.state in LIVE]
        if self.health.judge(_tallies(live), now):
            if self.failing:
                self._began(live, now)
            else:
                self._probes.clear()
                for session in live:
                    session.connector.failures.forget_excused()
                logger.info("the network works again", network=self.name, waiting=self.held)
        if self.failing:
            self._probe(now)
        metrics.NETWORK_FAILING.labels(self.name).set(self.failing)

    def move_on(self) -> None:
        """So many of those that are to wait begin to, or so many of those that waited go on: each changes its
        state, and thousands at once would hold up everything else.
        """
        for _ in range(min(len(self._to_hold), _AT_ONCE)):
            session = self._to_hold.pop()
            if self.failing and _waits(session):
                session.connector.hold()
        for _ in range(_AT_ONCE):
            if self.failing or (connector := self._held.take()) is None:
                break
            connector.resume()
        metrics.NETWORK_HELD.labels(self.name).set(self.held)

    def _began(self, live: Iterable[Session], now: float) -> None:
        self._next_probe = now
        self._to_hold = [session for session in live if _waits(session)]
        for session in live:
            session.connector.failures.excuse(now - WINDOW)
        cause = metrics.CAUSE_NAMES[self.health.cause]
        logger.warning(
            "the network fails for most sessions", network=self.name, cause=cause, waiting=len(self._to_hold)
        )

    def _probe(self, now: float) -> None:
        for account, since in [*self._probes.items()]:
            if now - since >= LONGEST_PROBE:
                del self._probes[account]
        if now < self._next_probe:
            return
        self._next_probe = now + PROBE_SECONDS
        while len(self._probes) < PROBES:
            connector = self._held.take(ready=lambda held: held.may_try_at <= now)
            if connector is None:
                return
            self._probes[connector.id] = now
            connector.probe()


class Networks:
    """The networks by their drivers' names; `run` must run. `sessions` are the node's, by account id."""

    def __init__(self, sessions: Mapping[str, Session]) -> None:
        self._sessions = sessions
        self._networks: dict[str, WatchedNetwork] = {}

    def of(self, driver: str) -> WatchedNetwork:
        """The network of a driver."""
        if driver not in self._networks:
            self._networks[driver] = WatchedNetwork(driver)
        return self._networks[driver]

    async def run(self) -> None:
        """Looks at each network twice a second, until cancelled."""
        while True:
            for _ in range(_MOVES_PER_LOOK):
                await asyncio.sleep(_LOOK_SECONDS / _MOVES_PER_LOOK)
                self.move_on()
            self.judge()

    def move_on(self) -> None:
        """A few more begin to wait, or go on."""
        self._each(WatchedNetwork.move_on)

    def judge(self) -> None:
        """One look at each that is in question."""
        self._each(self._judge)

    def _judge(self, network: WatchedNetwork) -> None:
        if network.health.in_question:
            mine = [session for session in self._sessions.values() if session.account.driver == network.name]
            network.judge(mine, time.monotonic())

    def _each(self, do: Callable[[WatchedNetwork], None]) -> None:
        for network in self._networks.values():
            try:
                do(network)
            except Exception:  # one network's: the others are looked after
                logger.exception("a network was not looked after", network=network.name)


def _waits(session: Session) -> bool:
    """Whether it waits after a failure, and not in quarantine."""
    resting = session.cause == pb.SESSION_CAUSE_QUARANTINED
    return session.state == pb.SESSION_STATE_BACKOFF and not resting


def _tallies(live: Iterable[Session]) -> dict[UUID, Tally]:
    wanted: Counter[UUID] = Counter()
    waiting: Counter[UUID] = Counter()
    for session in live:
        waits = _waits(session)
        wanted[session.connector.tenant] += waits or session.state != pb.SESSION_STATE_BACKOFF
        waiting[session.connector.tenant] += waits
    return {tenant: Tally(wanted[tenant], waiting[tenant]) for tenant in wanted}


_LOOK_SECONDS, _MOVES_PER_LOOK = 0.5, 5
_AT_ONCE = 100  # sessions in one turn of the loop
