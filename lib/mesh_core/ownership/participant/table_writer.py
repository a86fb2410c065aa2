"""When to rewrite the assignment table. Every participant may; once one has, the others need not."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable

from mesh_core.etcd import Etcd, boottime
from mesh_core.ownership.keys import ClusterKeys, NodeState
from mesh_core.ownership.participant.fence import FenceUnavailable
from mesh_core.ownership.participant.keeper import Keeper
from mesh_core.ownership.participant.move_traces import MoveTraces
from mesh_core.ownership.planning.table import MOVE_BUDGET, Situation, Table, read_situation, write_table
from mesh_core.ownership.view.mirror import ClusterMirror

ROUND_PAUSE = 0.5
"""Seconds after a change of the table before shards move for balance alone: nodes that come or go together
are one round, and sessions that were moved connect before the next ones do."""


RETURN_SECONDS = 0.75
"""How long a missing node is waited for: one that lives and lost its lease notices that its key is gone, and
registers again.
"""


class TableWriter:
    """`step` is called whenever something may have changed, and again at `due`.

    A node that appears is planned in at once; one that is missing keeps its shards until my own lease was
    unbroken for a TTL, and, unless its watchdog told of its end, for a moment in which it may come back under
    a new lease. Shards move for balance alone only while every shard is where the table wants it:
    moves come in rounds.

    While there is no table the cluster is new, or etcd was emptied under it. In the second case the holders
    of shards put their keys back, each under a new lease, and the first table is made from those: nobody
    makes it before his own lease was unbroken for a TTL. It is the second case when I hold shards myself,
    when there are owner keys, or when `any_held` says so, which asks Postgres.
    """

    def __init__(
        self,
        etcd: Etcd,
        keys: ClusterKeys,
        mirror: ClusterMirror,
        keeper: Keeper,
        moves: MoveTraces,
        node_id: str,
        any_held: Callable[[], Awaitable[bool]],
    ) -> None:
        self.due = math.inf
        """When the table should be written (boottime)."""
        self.refusing = ""
        """Why the cluster should take no more accounts (see `Plan`); empty when it is fine."""
        self.outdated_since = math.inf
        """Since when the table should be another one (boottime); infinity when it is as it should be, or
        unknown because etcd is silent."""
        self._etcd = etcd
        self._keys = keys
        self._mirror = mirror
        self._keeper = keeper
        self._moves = moves
        self._node_id = node_id
        self._any_held = any_held
        self._judged: object = None
        self._held_somewhere = False
        self._missing: dict[str, float] = {}
        """Since when nodes are missing that the table names (boottime)."""
        self._table_revision = -1
        self._pause_until = -math.inf

    def stale(self, now: float) -> bool:
        """Whether the table should have been rewritten two TTLs ago, by any participant, and was not."""
        return now - self.outdated_since > 2 * self._keeper.timings.ttl

    async def step(self, now: float) -> None:
        """Raises `EtcdUnavailable`."""
        if not self._keeper.etcd_fresh(now):
            self._judged, self.due, self.outdated_since = None, math.inf, math.inf
            return
        self._note_revision(now)
        may_drop_missing, budget, paused = self._may_drop(now), self._budget(), now < self._pause_until
        judged = (
            frozenset(
                (node.id, node.capacity, node.state, node.replaced_by) for node in self._mirror.nodes.values()
            ),
            self._mirror.table_revision,
            self._mirror.loads_revision,
            may_drop_missing,
            budget,
            paused,
        )
        if judged != self._judged:
            self._judged = judged
            self._decide(now, 0 if paused else budget, may_drop_missing=may_drop_missing)
            if self.due == math.inf and paused and budget:
                self.due = self._pause_until
        if not may_drop_missing and self._missing and self._keeper.unbroken(now):
            self.due = min(self.due, max(self._missing.values()) + RETURN_SECONDS + self._delay())
        if now >= self.due:
            self._judged, self.due = None, math.inf
            await self._write(0 if paused else budget)

    def _decide(self, now: float, budget: int, *, may_drop_missing: bool) -> None:
        mirror = self._mirror
        holders = {shard: seen.value.node for shard, seen in mirror.owners.items()}
        seen = Situation.of(mirror.nodes, mirror.table, mirror.table_revision, mirror.loads, holders)
        planned = seen.plan(budget=budget, may_drop_missing=may_drop_missing)
        self.refusing = planned.refusing
        if not (seen.differs_from(planned) or seen.weights_outdated()):
            self.due = self.outdated_since = math.inf
            return
        self.outdated_since = min(self.outdated_since, now)
        must_wait = not may_drop_missing and (self._held_somewhere or self._is_held(seen))
        self.due = math.inf if seen.revision == 0 and must_wait else now + self._delay()

    async def _write(self, budget: int) -> None:
        """Plans anew from one agreed snapshot: what was mirrored may be late."""
        began = time.time_ns()
        situation = await read_situation(self._etcd, self._keys)
        may_drop_missing = self._may_drop(boottime())
        if situation.revision == 0 and not may_drop_missing:
            self._held_somewhere = self._is_held(situation) or await self._any_held_by_fence()
            if self._held_somewhere:
                return
        planned = situation.plan(budget=budget, may_drop_missing=may_drop_missing)
        if situation.differs_from(planned) or situation.weights_outdated():
            table = Table(planned.placement, situation.weights)
            written = await write_table(self._etcd, self._keys, table, situation.revision)
            changes = enumerate(zip(situation.placement, planned.placement, strict=True))
            moved = {shard: node for shard, (node, then) in changes if node is not None and node != then}
            if written and moved:
                self._moves.record_plan(situation.revision, moved, began)

    def _may_drop(self, now: float) -> bool:
        mirror = self._mirror
        missing = mirror.placed_nodes - mirror.nodes.keys()
        self._missing = {node: self._missing.get(node, now) for node in missing}
        return self._keeper.unbroken(now) and all(
            now - since >= RETURN_SECONDS or mirror.incarnations.get(node) in mirror.dead
            for node, since in self._missing.items()
        )

    def _is_held(self, situation: Situation) -> bool:
        return situation.held or bool(self._keeper.running())

    async def _any_held_by_fence(self) -> bool:
        try:
            return await self._any_held()
        except FenceUnavailable:
            return True  # nobody could take a shard now, so that waiting costs nothing

    def _note_revision(self, now: float) -> None:
        revision = self._mirror.table_revision
        if revision == self._table_revision:
            return
        if self._table_revision > 0:
            self._pause_until = now + ROUND_PAUSE
        self._table_revision = revision
        self._held_somewhere = False

    def _budget(self) -> int:
        return 0 if self._mirror.misplaced else MOVE_BUDGET

    def _delay(self) -> float:
        """The first node in order goes first; the next one only if that has not helped."""
        active = sorted(node.id for node in self._mirror.nodes.values() if node.state is NodeState.ACTIVE)
        rank = active.index(self._node_id) if self._node_id in active else len(active)
        timings = self._keeper.timings
        return rank * timings.settle + (
            timings.settle if self._mirror.table_revision else timings.first_settle
        )
