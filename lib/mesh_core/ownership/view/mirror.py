"""A live copy of what a cluster keeps in etcd about nodes, table and owners. A hint: transactions decide."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Set
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol

import msgspec
import structlog

from mesh_core.etcd import Etcd, Snapshot, boottime, follow
from mesh_core.ids import SHARDS
from mesh_core.ownership.keys import ClusterKeys, NodeInfo, OwnerState, decode_node, unreadable
from mesh_core.ownership.owner_keys import SeenKey
from mesh_core.ownership.planning.planner import Placement
from mesh_core.ownership.planning.table import NO_TABLE, Table, decode_table
from mesh_core.signal import Signal
from mesh_wire.etcd import kv_pb2

logger = structlog.get_logger(__name__)

REMEMBERED_SECONDS = 10.0
"""How long after etcd lost its data the last known owners are believed: they write their keys again within a
few beats, or their sessions end within a TTL.
"""

_NONE: frozenset[int] = frozenset()


class MirrorListener(Protocol):
    """Who acts on what the mirror sees; called when the mirror shows it already."""

    def owner_changed(self, shard: int, seen: SeenKey | None, revision: int) -> None:
        """The shard's owner key was written, or (None) deleted, at `revision`."""

    def store_reset(self) -> None:
        """etcd was emptied or restored: no key that was confirmed counts any more."""

    def plan_changed(self) -> None:
        """Something else than owner keys changed: nodes, loads or the table."""


@dataclass(frozen=True, slots=True)
class Displaced:
    """The node that the table gave a shard to before, the revision of that table, and when it was seen to be
    another one, in nanoseconds since the epoch.
    """

    node: str
    table: int
    seen_at: int


class ClusterMirror:
    """`run` keeps it up to date. While etcd is unavailable it stays as last seen."""

    def __init__(self, etcd: Etcd, keys: ClusterKeys) -> None:
        self.nodes: dict[str, NodeInfo] = {}
        self.node_revisions: dict[str, int] = {}
        self.incarnations: dict[str, str] = {}
        """The last known ones, of nodes that are gone, too."""
        self.owners: dict[int, SeenKey] = {}
        self.dead: set[str] = set()
        self.table = NO_TABLE
        self.table_revision = 0
        self.placed_nodes: frozenset[str] = frozenset()
        """The nodes that the table names."""
        self.loads: dict[str, bytes] = {}
        """By node, as published."""
        self.loads_revision = 0
        self.displaced: dict[int, Displaced] = {}
        """The latest move of each shard that was seen, until somebody takes it out."""
        self.misplaced: set[int] = set()
        """Shards that are not (yet) owned by the node that the table gives them to."""
        self.ready = asyncio.Event()
        """Set once there is anything to look at."""
        self._etcd = etcd
        self._keys = keys
        self._listener: MirrorListener | None = None
        self._by_lease: dict[int, set[int]] = {}
        self.revision = 0
        """Up to which revision of the store this is known."""
        self._before_reset: dict[int, SeenKey] = {}
        self._remember_until = 0.0
        self.changes = Signal()
        """Notified after every change of any of this."""
        self._placed: tuple[Placement, dict[str, frozenset[int]]] = (self.placement, {})

    async def run(self, listener: MirrorListener | None = None) -> None:
        """Follows etcd until cancelled, and reports every change to `listener`."""
        self._listener = listener
        async with aclosing(follow(self._etcd, self._keys.root)) as changes:
            async for change in changes:
                if isinstance(change, Snapshot):
                    self._replace(change)
                    planning = True
                else:
                    for event in change.events:
                        self._apply(event.kv, deleted=event.type == kv_pb2.Event.DELETE)
                    owners = self._keys.owners
                    planning = not all(event.kv.key.startswith(owners) for event in change.events)
                self.revision = change.revision
                self.ready.set()
                if planning and listener is not None:
                    listener.plan_changed()
                self.changes.notify()

    @property
    def placement(self) -> tuple[str | None, ...]:
        """The node that the table gives each shard to."""
        return self.table.placement

    def placed_at(self, node_id: str) -> frozenset[int]:
        """The shards that the table gives to a node."""
        if self._placed[0] is not self.placement:
            self._placed = (self.placement, {})
        _, by_node = self._placed
        if node_id not in by_node:
            by_node[node_id] = frozenset(
                shard for shard, node in enumerate(self.placement) if node == node_id
            )
        return by_node[node_id]

    def under(self, lease: int) -> Set[int]:
        """The shards whose owner keys are under that lease."""
        return self._by_lease.get(lease, _NONE)

    def last_owner(self, shard: int) -> SeenKey | None:
        """The owner key, also one that etcd lost with its data a moment ago: its holder will put it back."""
        seen = self.owners.get(shard)
        if seen is None and self._before_reset and boottime() < self._remember_until:
            return self._before_reset.get(shard)
        return seen

    def _replace(self, snapshot: Snapshot) -> None:
        if snapshot.revision < self.revision:
            logger.warning("etcd was emptied or restored", revision=snapshot.revision, before=self.revision)
            self._before_reset, self._remember_until = dict(self.owners), boottime() + REMEMBERED_SECONDS
            if self._listener is not None:
                self._listener.store_reset()
        gone = [shard for shard in self.owners if self._keys.owner(shard) not in snapshot.entries]
        self.nodes.clear()
        self.owners.clear()
        self._by_lease.clear()
        self.dead.clear()
        self.loads.clear()
        self._apply_table(NO_TABLE)
        self.table_revision = 0
        for kv in snapshot.entries.values():
            self._apply(kv, deleted=False)
        if self._listener is not None:
            for shard in gone:
                self._listener.owner_changed(shard, None, snapshot.revision)

    def _apply(self, kv: kv_pb2.KeyValue, *, deleted: bool) -> None:
        """One that says what no node would write is as good as none: the next key counts."""
        try:
            self._take(kv, deleted=deleted)
        except (ValueError, msgspec.MsgspecError) as error:
            unreadable(kv.key, error)

    def _take(self, kv: kv_pb2.KeyValue, *, deleted: bool) -> None:
        keys = self._keys
        if kv.key.startswith(keys.owners):
            shard = int(kv.key[len(keys.owners) :])
            if not 0 <= shard < SHARDS:
                raise ValueError(f"there is no shard {shard}")
            self._apply_owner(shard, kv, deleted=deleted)
        elif kv.key.startswith(keys.nodes):
            if deleted:
                self.nodes.pop(kv.key[len(keys.nodes) :].decode(), None)
            else:
                info = decode_node(kv.value)
                self.nodes[info.id] = info
                self.node_revisions[info.id] = kv.mod_revision
                self.incarnations[info.id] = info.incarnation
        elif kv.key == keys.assignment:
            before, revision = self.placement, self.table_revision
            self._apply_table(NO_TABLE)
            self.table_revision = 0 if deleted else kv.mod_revision  # also of one that is to be replaced
            if not deleted:
                self._apply_table(decode_table(kv.value))
                self._note_displaced(before, revision)
        elif kv.key.startswith(keys.loads):
            self._apply_loads(kv.key[len(keys.loads) :].decode(), kv, deleted=deleted)
        elif kv.key.startswith(keys.dead):
            incarnation = kv.key[len(keys.dead) :].decode()
            (self.dead.discard if deleted else self.dead.add)(incarnation)

    def _apply_table(self, table: Table) -> None:
        self.table = table
        self.placed_nodes = frozenset(node for node in table.placement if node is not None)
        self.misplaced = {shard for shard in range(SHARDS) if self._is_misplaced(shard)}

    def _note_displaced(self, before: Placement, revision: int) -> None:
        now = time.time_ns()
        for shard, (then, present) in enumerate(zip(before, self.placement, strict=True)):
            if then is not None and then != present:
                self.displaced[shard] = Displaced(then, revision, now)

    def _is_misplaced(self, shard: int) -> bool:
        seen, node = self.owners.get(shard), self.table.placement[shard]
        return seen is None or seen.value.node != node or seen.value.state is not OwnerState.ACTIVE

    def _apply_loads(self, node_id: str, kv: kv_pb2.KeyValue, *, deleted: bool) -> None:
        self.loads_revision = kv.mod_revision
        if deleted:
            self.loads.pop(node_id, None)
        else:
            self.loads[node_id] = kv.value

    def _apply_owner(self, shard: int, kv: kv_pb2.KeyValue, *, deleted: bool) -> None:
        before = self.owners.pop(shard, None)
        if before is not None:
            siblings = self._by_lease[before.lease]
            siblings.discard(shard)
            if not siblings:
                del self._by_lease[before.lease]
        if deleted:
            self._before_reset.pop(shard, None)
            seen = None
        else:
            seen = self.owners[shard] = SeenKey.of(kv)
            self._by_lease.setdefault(seen.lease, set()).add(shard)
        (self.misplaced.add if self._is_misplaced(shard) else self.misplaced.discard)(shard)
        if self._listener is not None:
            self._listener.owner_changed(shard, seen, kv.mod_revision)
