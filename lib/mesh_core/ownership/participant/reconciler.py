"""Brings what a node holds in line with what it should hold: rounds of claims and handoffs.

Everything here runs on the event loop. The keeper's thread and the mirror report to it (`KeeperListener`,
`MirrorListener`); each report is acted on at once, and what takes time is left to the next round.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping, Set
from contextlib import suppress

import structlog

from mesh_core.errors import MeshError
from mesh_core.etcd import Etcd, EtcdRefused, EtcdUnavailable, LeaseLost, boottime
from mesh_core.ownership import metrics
from mesh_core.ownership.keys import ClusterKeys
from mesh_core.ownership.nodes import NodeSuperseded
from mesh_core.ownership.owner_keys import OwnerKeyWriter, SeenKey
from mesh_core.ownership.participant.alarms import Alarms
from mesh_core.ownership.participant.claims import Claims
from mesh_core.ownership.participant.fence import Fence, IncarnationExpired
from mesh_core.ownership.participant.handoff import Handoff, ShardHandler
from mesh_core.ownership.participant.keeper import Dropped, Keeper, Phase, Tenure
from mesh_core.ownership.participant.keeper_thread import KeeperThread
from mesh_core.ownership.participant.move_traces import MoveTraces
from mesh_core.ownership.participant.registration import NodeRegistration
from mesh_core.ownership.participant.table_writer import TableWriter
from mesh_core.ownership.planning.loads import LoadReporter
from mesh_core.ownership.view.mirror import ClusterMirror
from mesh_core.signal import Signal
from mesh_core.tasks import Supervisor

logger = structlog.get_logger(__name__)


class Reconciler:
    """Implements `KeeperListener` and `MirrorListener`.

    `work` is notified whenever there may be something to do for a round.
    """

    def __init__(
        self,
        *,
        etcd: Etcd,
        keys: ClusterKeys,
        keeper: Keeper,
        keeper_thread: KeeperThread,
        fence: Fence,
        mirror: ClusterMirror,
        registration: NodeRegistration,
        handler: ShardHandler,
        work: Signal,
        supervisor: Supervisor,
    ) -> None:
        node = registration.info
        self.lease_granted, self.postgres_answered = asyncio.Event(), asyncio.Event()
        """Set once the node has its first lease, and once Postgres has answered its first beat."""
        self._etcd = etcd
        self._keeper = keeper
        self._thread = keeper_thread
        self._mirror = mirror
        self._node = registration
        self.handler = handler
        self._work = work
        self._supervisor = supervisor
        self._tasks: set[asyncio.Task[None]] = set()
        self._ending: MeshError | None = None
        self._starting: set[int] = set()
        """Shards whose `acquired` has not returned."""
        owner_keys = OwnerKeyWriter(etcd, keys)
        self._moves = MoveTraces(keys, mirror, node.id)
        self._handoff = Handoff(
            node_id=node.id,
            moves=self._moves,
            keeper=keeper,
            mirror=mirror,
            fence=fence,
            owner_keys=owner_keys,
            handler=handler,
            supervisor=supervisor,
            drop=self._drop,
            wake=work.notify,
        )
        self._claims = Claims(
            node=node,
            keys=keys,
            keeper=keeper,
            mirror=mirror,
            owner_keys=owner_keys,
            fence=fence,
            handoff=self._handoff,
            drop=self._drop,
        )
        self._planner = TableWriter(etcd, keys, mirror, keeper, self._moves, node.id, fence.any_held)
        self._loads = LoadReporter(etcd, keys, node.id, handler.loads)
        self._alarms = Alarms(keeper, self._planner)

    @property
    def idle(self) -> bool:
        """Whether nothing is held, and nothing is being handed off."""
        return not self._keeper.tenures and not self._handoff.busy

    async def stop(self) -> None:
        """Ends the handoffs and loads that are under way."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._handoff.stop()

    def fence_refused(self, shards: Collection[int]) -> None:
        """The fence refused a write of these shards: whatever we believe, they are not ours. Stops them."""
        metrics.REFUSED_WRITES.inc()
        with self._keeper.lock:
            known = self._keeper.tenures
            tenures = [tenure for shard in shards if (tenure := known.get(shard)) and tenure.held]
            self._handoff.give_back(tenures)
        if tenures:
            logger.error("writes refused by the fence", shards=len(tenures))
            self._lose([tenure.shard for tenure in tenures])

    # --- KeeperListener

    def dropped(self, dropped: Dropped) -> None:
        if dropped.lost:
            logger.error("cut off from etcd and Postgres past the deadline", shards=len(dropped.lost))
            self._lose(dropped.lost)
            self._work.notify()
        self._forgotten(dropped.forgotten)

    def lease_changed(self, forgotten: list[Tenure]) -> None:
        self._forgotten(forgotten)
        if self._keeper.lease:
            self.lease_granted.set()
        self._work.notify()

    def beat_answered(self, wanted: Mapping[int, int]) -> None:
        """Others wait for `wanted`. One whose key is still this node's is kept: the node that waited for it
        has given up its claim.
        """
        self.postgres_answered.set()
        keeper = self._keeper
        with keeper.lock:
            now = boottime()
            asked = [tenure for shard in wanted if (tenure := keeper.tenures.get(shard)) is not None]
            self._hand_off([tenure for tenure in asked if not keeper.counts_etcd(tenure, now)])
            gone = {shard: epoch for shard, epoch in wanted.items() if shard not in keeper.tenures}
        self._handoff.release_fence(gone)

    def beat_refused(self, error: IncarnationExpired) -> None:
        self._end(error)

    # --- MirrorListener

    def owner_changed(self, shard: int, seen: SeenKey | None, revision: int) -> None:
        self._claims.key_changed(shard, seen, revision)
        mirror, lease = self._mirror, self._keeper.lease
        mine = shard in self._keeper.tenures or (seen is not None and seen.lease == lease)
        # Other nodes' shards come and go by the thousand: a round for each would hold up what matters.
        if mine or shard in mirror.placed_at(self._node.info.id) or not mirror.misplaced:
            self._work.notify()

    def store_reset(self) -> None:
        self._lease_lost()

    def plan_changed(self) -> None:
        self._work.notify()

    # --- rounds

    async def run(self) -> None:
        """Brings what this node has in line with what it should have, at every change and every beat."""
        while True:
            seen = self._work.version
            self._drop()
            try:
                await self._round()
            except LeaseLost as error:
                if error.lease == self._keeper.lease:
                    self._lease_lost()
            except EtcdUnavailable as error:
                logger.debug("ownership round interrupted", reason=error.message)
            except EtcdRefused as error:  # no space, no permission: what runs goes on, as while etcd is away
                logger.warning("etcd refuses this node", reason=error.message)
            except NodeSuperseded as error:
                self._end(error)
            self._alarms.check(boottime())
            if self._ending is not None and not self._keeper.tenures:
                await self._give_up(self._ending)
            due = min(self._planner.due, self._claims.due)
            await self._next_work(seen, min(self._keeper.timings.beat, max(0.0, due - boottime())))

    async def _round(self) -> None:
        if self._ending is None:
            await self._node.keep(self._keeper.lease)
            await self._planner.step(boottime())
            await self._loads.step(boottime(), self._keeper.lease)
        self._hand_off_unwanted()
        if self._keeper.lease == 0:
            return
        wanted = self._wanted()
        await self._claims.settle_orphans(wanted)
        await self._claims.recreate()
        await self._claims.claim(wanted)
        await self._claims.take()
        started = await self._claims.activate()
        if started:
            self._thread.tell_watchdog()
            self._starting.update(tenure.shard for tenure in started)
            metrics.TAKEN.inc(len(started))
            task = self._supervisor.start("acquired", self._acquire(started))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _acquire(self, tenures: list[Tenure]) -> None:
        traces, began = self._moves.taken(tenures), time.time_ns()
        await self.handler.acquired({tenure.shard: tenure.epoch for tenure in tenures}, traces)
        self._moves.record_taken(tenures, traces, began, self.handler.accounts)
        self._starting.difference_update(tenure.shard for tenure in tenures)
        self._work.notify()

    def _wanted(self) -> Set[int]:
        """Shards to claim: the table gives them to me, and nothing of an earlier tenure is still going on."""
        if self._ending is not None or self._keeper.refused or not self._node.active:
            return frozenset()
        return self._mirror.placed_at(self._node.info.id) - self._starting - self._handoff.busy

    def _hand_off_unwanted(self) -> None:
        keeper, now = self._keeper, boottime()
        if self._ending is not None or keeper.refused:
            keep: Set[int] = frozenset()
        elif self._mirror.table_revision == 0 or not (keeper.etcd_fresh(now) and keeper.pg_fresh(now)):
            return  # handing over needs both: whoever follows could not take them
        else:
            keep = frozenset() if self._is_last_to_leave() else self._mirror.placed_at(self._node.info.id)
        with keeper.lock:
            unwanted = [tenure for tenure in keeper.tenures.values() if tenure.shard not in keep]
            self._hand_off(unwanted)
            self._handoff.give_back([tenure for tenure in unwanted if tenure.phase < Phase.RUNNING])

    def _hand_off(self, tenures: Collection[Tenure]) -> None:
        self._handoff.begin(
            [t for t in tenures if t.phase is Phase.RUNNING and t.shard not in self._starting]
        )

    def _is_last_to_leave(self) -> bool:
        """Whether this node drains and no other one is there to take its shards."""
        return not self._node.active and self._node.alone

    async def _next_work(self, seen: int, timeout: float) -> None:
        """Returns when there was work after version `seen`, or after `timeout` seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._work.wait(seen)

    # --- what is lost

    def _drop(self) -> None:
        """Applies passed deadlines. To be called first after any wait, before an answer is looked at."""
        self.dropped(self._thread.drop())

    def _lose(self, shards: list[int]) -> None:
        metrics.LOST.inc(len(shards))
        self.handler.lost(shards)

    def _lease_lost(self) -> None:
        """A write under the lease was refused, or etcd was emptied or restored."""
        logger.warning("lease lost", lease=self._keeper.lease)
        self._drop()
        self._forgotten(self._keeper.lease_lost())
        self._thread.renew_soon()

    def _forgotten(self, tenures: list[Tenure]) -> None:
        self._handoff.release_fence({tenure.shard: tenure.epoch for tenure in tenures if tenure.epoch})

    # --- the end

    def _end(self, error: MeshError) -> None:
        if self._ending is None:
            logger.error("handing everything off to end", reason=error.message)
            self._ending = error
            self._work.notify()

    async def _give_up(self, error: MeshError) -> None:
        with suppress(EtcdUnavailable):  # the lease runs out by itself, too
            await self._etcd.revoke(self._keeper.lease)
        raise error
