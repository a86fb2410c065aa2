"""Looks at the fleet once a second: judges alarms, shows metrics."""

from __future__ import annotations

import asyncio
from time import monotonic

from mesh_core.ids import SHARDS
from mesh_core.ownership.keys import NodeState
from mesh_core.ownership.timings import Timings
from mesh_core.ownership.view import OwnerView
from mesh_router.fleet import metrics
from mesh_router.fleet.alarms import Alarms, Facts, judge
from mesh_router.fleet.occupancy import Occupancy
from mesh_router.fleet.pulse import Pulse
from mesh_router.fleet.unowned import UnownedShards
from sessionmesh.v1 import fleet_pb2

EVERY_SECONDS = 1.0
GRACE_SECONDS = 2.0 * Timings().ttl
"""How long a shard may lack an owner, or the fleet a node: a dead node's shards have moved by then."""


class FleetMonitor:
    """`run` keeps `alarms` and the metrics true."""

    def __init__(self, view: OwnerView, occupancy: Occupancy, pulse: Pulse) -> None:
        self._view = view
        self._occupancy = occupancy
        self._pulse = pulse
        self._alarms = Alarms()
        self._unowned = UnownedShards()
        self._seen: asyncio.Event | None = None
        self._unowned_now: frozenset[int] = frozenset()
        self._without_node_since: float | None = None

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            self.look(monotonic())
            await asyncio.sleep(EVERY_SECONDS)

    @property
    def alarms(self) -> list[fleet_pb2.Alarm]:
        """Those that are on."""
        return list(self._alarms.on.values())

    def look(self, now: float) -> None:
        """Judge the fleet at `now` (monotonic seconds)."""
        fresh = self._pulse.fresh
        self._unowned.see(self._without_owner(), now, fresh=fresh)
        if any(node.state is NodeState.ACTIVE for node in self._view.nodes()):
            self._without_node_since = None
        elif self._without_node_since is None or not fresh:
            self._without_node_since = now
        facts = Facts(
            grace=GRACE_SECONDS,
            silence=self._pulse.silence(),
            unowned=self._unowned.longer_than(GRACE_SECONDS),
            oldest_unowned=self._unowned.oldest,
            without_active_node=now - (self._without_node_since or now),
            accounts=self._occupancy.accounts,
            most=self._occupancy.most,
            usage_percent=self._occupancy.usage_percent,
        )
        self._alarms.update(judge(facts))
        self._show(facts)

    def _without_owner(self) -> frozenset[int]:
        changed = self._view.changed
        if changed is not self._seen:  # else nothing has changed since
            self._seen = changed
            self._unowned_now = frozenset(range(SHARDS)) - self._view.owners().keys()
        return self._unowned_now

    def _show(self, facts: Facts) -> None:
        states = [node.state for node in self._view.nodes()]
        for state in NodeState:
            metrics.NODES.labels(state.value.lower()).set(states.count(state))
        metrics.ACCOUNTS.set(facts.accounts)
        metrics.CAPACITY.set(facts.most)
        metrics.UNOWNED.set(self._unowned.count)
        metrics.OLDEST_UNOWNED.set(facts.oldest_unowned)
        metrics.SILENCE.set(facts.silence)
