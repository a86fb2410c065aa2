"""Checks the fleet once a second: raises and ends its alarms, and sets its metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Set
from time import monotonic

import structlog

from mesh_core.ids import SHARDS
from mesh_core.metrics import gauge, gauges
from mesh_core.ownership.keys import NodeState
from mesh_core.ownership.participant.keeper import Timings
from mesh_core.ownership.view import OwnerView
from mesh_router.fleet.admission import Admission
from mesh_router.fleet.alarms import Alarms, Facts, judge
from mesh_router.fleet.liveness import EtcdLiveness
from mesh_router.fleet.outages import NetworkOutages
from mesh_router.retention import Retention
from sessionmesh.admin.v1 import fleet_pb2

logger = structlog.get_logger(__name__)

EVERY_SECONDS = 1.0
GRACE_SECONDS = 2.0 * Timings().ttl
"""How long a shard may have no owner, or the fleet no node: a dead node's shards have moved by then."""

NODES = gauges(
    "mesh_fleet_nodes",
    "Registered session-nodes by state.",
    answers="Are all nodes there?",
    state=[state.value.lower() for state in NodeState],
)
ACCOUNTS = gauge("mesh_fleet_accounts", "Accounts that want a session.", answers="How many should be online?")
CAPACITY = gauge(
    "mesh_fleet_capacity_sessions",
    "Sessions that the ACTIVE nodes may run.",
    answers="How much room is left?",
)
UNOWNED = gauge(
    "mesh_fleet_unowned_shards",
    "Shards without an owner.",
    answers="Are there accounts that no node runs?",
)
OLDEST_UNOWNED = gauge(
    "mesh_fleet_oldest_unowned_shard_seconds",
    "For how long the longest unowned shard has been without owner.",
    answers="Does a failover take too long?",
)
SILENCE = gauge(
    "mesh_fleet_view_silence_seconds",
    "Since when the router's view was last known to be up to date.",
    answers="Does the router hear etcd?",
)


class FleetMonitor:
    """`run` keeps `alarms` and the metrics up to date."""

    def __init__(
        self,
        view: OwnerView,
        admission: Admission,
        liveness: EtcdLiveness,
        outages: NetworkOutages,
        retention: Retention,
    ) -> None:
        self._retention = retention
        self._outages = outages
        self._view = view
        self._admission = admission
        self._liveness = liveness
        self._alarms = Alarms()
        self._unowned = UnownedShards()
        self._seen = -1
        self._unowned_now: frozenset[int] = frozenset()
        self._without_node_since: float | None = None

    async def run(self) -> None:
        """Checks again and again, until cancelled."""
        while True:
            try:
                self.check(monotonic())
            except Exception:  # a key that no node wrote must not end the router
                logger.exception("the fleet was not checked")
            await asyncio.sleep(EVERY_SECONDS)

    @property
    def alarms(self) -> list[fleet_pb2.Alarm]:
        """Those that are on."""
        return list(self._alarms.on.values())

    def check(self, now: float) -> None:
        """Raise and end alarms, and set the metrics, as of `now` (monotonic seconds)."""
        fresh = self._liveness.fresh
        self._unowned.see(self._without_owner(), now, fresh=fresh)
        if any(node.state is NodeState.ACTIVE for node in self._view.nodes()):
            self._without_node_since = None
        elif self._without_node_since is None or not fresh:
            self._without_node_since = now
        facts = Facts(
            grace=GRACE_SECONDS,
            silence=self._liveness.silence(),
            unowned=self._unowned.longer_than(GRACE_SECONDS),
            oldest_unowned=self._unowned.oldest,
            without_active_node=now - (self._without_node_since or now),
            accounts=self._admission.accounts,
            capacity=self._admission.capacity,
            usage_percent=self._admission.usage_percent,
            waiting=self._outages.waiting,
            outage=self._outages.seconds(now),
            undeleted=self._retention.age,
            undeleted_reason=self._retention.failure,
        )
        self._alarms.update(judge(facts))
        self._show(facts)

    def _without_owner(self) -> frozenset[int]:
        version = self._view.changes.version
        if version != self._seen:  # else nothing has changed since
            self._seen = version
            self._unowned_now = frozenset(range(SHARDS)) - self._view.owners().keys()
        return self._unowned_now

    def _show(self, facts: Facts) -> None:
        states = [node.state for node in self._view.nodes()]
        for state in NodeState:
            NODES.labels(state.value.lower()).set(states.count(state))
        ACCOUNTS.set(facts.accounts)
        CAPACITY.set(facts.capacity)
        UNOWNED.set(self._unowned.count)
        OLDEST_UNOWNED.set(facts.oldest_unowned)
        SILENCE.set(facts.silence)


class UnownedShards:
    """For how long shards have had no owner.

    Its clock stands still while the view is not up to date, since nobody knows the owners then.
    """

    def __init__(self) -> None:
        self._since: dict[int, float] = {}
        self._clock = 0.0
        self._last: float | None = None

    def see(self, unowned: Set[int], now: float, *, fresh: bool) -> None:
        """Note which shards have no owner at `now` (monotonic seconds). `fresh`: the view is up to date."""
        elapsed = 0.0 if self._last is None else now - self._last
        self._last = now
        if not fresh:
            return
        self._clock += elapsed
        self._since = {shard: self._since.get(shard, self._clock) for shard in unowned}

    def longer_than(self, seconds: float) -> int:
        """How many have had no owner for more than `seconds`."""
        return sum(self._clock - since > seconds for since in self._since.values())

    @property
    def count(self) -> int:
        """How many have no owner, as last known."""
        return len(self._since)

    @property
    def oldest(self) -> float:
        """Seconds since the first of them lost its owner; 0 when all shards have one."""
        return self._clock - min(self._since.values(), default=self._clock)
