"""Taking shards over: owner key, fence, owner key again; and keeping the keys right."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Set
from itertools import count

import msgspec
import structlog

from mesh_core.etcd import boottime, unchanged
from mesh_core.ownership import metrics
from mesh_core.ownership.keys import ClusterKeys, NodeInfo, OwnerKey, OwnerState
from mesh_core.ownership.owner_keys import OwnerKeyWriter, SeenKey, Write, Written
from mesh_core.ownership.participant.fence import (
    Fence,
    FenceUnavailable,
    IncarnationExpired,
    Take,
    TakeOutcome,
)
from mesh_core.ownership.participant.handoff import Handoff
from mesh_core.ownership.participant.keeper import Keeper, Phase, Tenure
from mesh_core.ownership.view.mirror import ClusterMirror

logger = structlog.get_logger(__name__)

EXPIRED_NODE_RETRY_SECONDS = 0.25
"""Seconds until Postgres is asked again for shards of a node that has no key in etcd any more: its beat
expires soon after its lease did.
"""


class Claims:
    """The steps of a round, called one after the other by one task.

    `drop` applies passed deadlines; it comes first after every wait, before the answer is looked at. All
    steps may raise `LeaseLost`.
    """

    def __init__(
        self,
        *,
        node: NodeInfo,
        keys: ClusterKeys,
        keeper: Keeper,
        mirror: ClusterMirror,
        owner_keys: OwnerKeyWriter,
        fence: Fence,
        handoff: Handoff,
        drop: Callable[[], None],
    ) -> None:
        self._claimed = OwnerKey(
            incarnation=node.incarnation, node=node.id, address=node.address, state=OwnerState.CLAIMED
        )
        self._keys = keys
        self._keeper = keeper
        self._mirror = mirror
        self._owner_keys = owner_keys
        self._fence = fence
        self._handoff = handoff
        self._drop = drop
        self._numbers = count(1)

    async def claim(self, shards: Set[int]) -> None:
        """Claims those of `shards` that have no owner key, if the table is still the one last seen."""
        keeper = self._keeper
        with keeper.lock:
            lease = keeper.lease
            free = (shards & self._mirror.misplaced) - self._mirror.owners.keys() - keeper.tenures.keys()
        if not free or not keeper.etcd_fresh(boottime()):
            return
        table_is_seen = unchanged(self._keys.assignment, self._mirror.table_revision)
        writes = [Write(shard, 0, self._claimed) for shard in free]
        self._begin(await self._owner_keys.write(writes, lease, [table_is_seen]), lease)

    async def settle_orphans(self, wanted: Set[int]) -> None:
        """Settles keys under this node's lease that it has no tenure for: claims whose answer was lost.

        Those in `wanted` are adopted by writing them again: a delete that is still on its way then fails its
        comparison. The others are deleted.
        """
        keeper, owners = self._keeper, self._mirror.owners
        with keeper.lock:
            lease = keeper.lease
            unknown = self._mirror.under(lease) - keeper.tenures.keys() - self._handoff.busy
        writes = [
            Write(shard, seen.revision, self._claimed if shard in wanted else None)
            for shard in unknown
            if lease != 0 and self._is_mine(seen := owners[shard])
        ]
        if writes:
            written = await self._owner_keys.write(writes, lease)
            adopted = {write.shard for write in writes if write.value is not None}
            self._begin({shard: one for shard, one in written.items() if shard in adopted}, lease)

    async def recreate(self) -> None:
        """Writes the keys of shards that run here under the new lease, after the former one was lost."""
        keeper = self._keeper
        with keeper.lock:
            lease = keeper.lease
            bare = {
                tenure.shard: tenure
                for tenure in keeper.tenures.values()
                if tenure.phase is Phase.RUNNING and tenure.lease != lease
            }
        if not bare or not keeper.etcd_fresh(boottime()):
            return
        expected = {}
        for shard in bare:
            seen = self._mirror.owners.get(shard)
            expected[shard] = seen.revision if seen is not None and self._is_mine(seen) else 0
        for _ in range(2):  # where the mirror was late, once more with what etcd has
            writes = [
                Write(shard, revision, self._active(bare[shard])) for shard, revision in expected.items()
            ]
            written = await self._owner_keys.write(writes, lease)
            self._drop()
            expected = self._confirm(bare, written, lease)
            if not expected:
                return

    def _confirm(self, bare: dict[int, Tenure], written: dict[int, Written], lease: int) -> dict[int, int]:
        """Notes the new keys of tenures that were held all the while. Returns, by shard, the revisions to
        expect in another attempt at the keys that could not be written.
        """
        keeper, again = self._keeper, {}
        with keeper.lock:
            for shard, one in written.items():
                tenure = bare[shard]
                held = keeper.tenures.get(shard) is tenure and tenure.held and keeper.lease == lease
                if one.revision and held:
                    tenure.revision, tenure.lease = one.revision, lease
                elif one.present is None or self._is_mine(one.present):
                    again[shard] = one.present.revision if one.present else 0
        return again

    @property
    def due(self) -> float:
        """When `take` must ask Postgres again (boottime); infinity when no claim waits for it."""
        with self._keeper.lock:
            claimed = [t.retry_at for t in self._keeper.tenures.values() if t.phase is Phase.CLAIMED]
        return min(claimed, default=math.inf)

    async def take(self) -> None:
        """Asks Postgres for every claimed shard: every `Timings.beat` while another node holds it."""
        keeper, now = self._keeper, boottime()
        with keeper.lock:
            claimed = [tenure for tenure in keeper.tenures.values() if tenure.phase is Phase.CLAIMED]
            due = {tenure.shard: tenure for tenure in claimed if tenure.retry_at <= now}
            for tenure in due.values():
                tenure.retry_at = now + keeper.timings.beat
        if not due or keeper.refused:
            return
        try:
            takes = await self._fence.take({t.shard: t.claim for t in due.values()}, self._mirror.dead)
        except FenceUnavailable as error:
            logger.warning("shards not taken yet", shards=len(due), reason=error.message)
            return
        except IncarnationExpired:
            keeper.beat_refused()
            return
        self._drop()
        await self._tell_holders(self._apply_takes(due, takes))

    def _apply_takes(self, due: dict[int, Tenure], takes: list[Take]) -> list[Take]:
        """Applies the answers; returns those with a holder that the shard's owner key does not name yet."""
        keeper, waits, useless = self._keeper, [], {}
        with keeper.lock:
            for take in takes:
                tenure = due[take.shard]
                if keeper.tenures.get(take.shard) is not tenure or tenure.phase is not Phase.CLAIMED:
                    if take.outcome is TakeOutcome.TAKEN:  # the key was lost meanwhile
                        useless[take.shard] = take.epoch
                elif take.outcome is TakeOutcome.TAKEN:
                    tenure.phase, tenure.epoch, tenure.taken_at = Phase.TAKEN, take.epoch, time.time_ns()
                elif take.outcome is TakeOutcome.STALE:
                    del keeper.tenures[
                        take.shard
                    ]  # its key is an orphan now: `settle_orphans` adopts it under a new number
                else:
                    now = boottime()
                    tenure.waiting_since = tenure.waiting_since or now
                    if take.node not in self._mirror.nodes:
                        tenure.retry_at = now + EXPIRED_NODE_RETRY_SECONDS
                    if take.holder != tenure.holder:
                        waits.append(take)
        self._handoff.release_fence(useless)
        return waits

    async def activate(self) -> list[Tenure]:
        """Marks the keys of taken shards ACTIVE; returns those that may run from now on."""
        keeper = self._keeper
        with keeper.lock:
            lease = keeper.lease
            taken = [tenure for tenure in keeper.tenures.values() if tenure.phase is Phase.TAKEN]
        if not taken:
            return []
        writes = [Write(tenure.shard, tenure.revision, self._active(tenure)) for tenure in taken]
        written = await self._owner_keys.write(writes, lease)
        self._drop()
        started, failed = [], []
        with keeper.lock:
            for tenure in taken:
                one = written.get(tenure.shard)
                known = keeper.tenures.get(tenure.shard) is tenure and tenure.phase is Phase.TAKEN
                if one is None or not known:
                    # unknown: asked again next round; or the key was lost, and the fence is being released
                    continue
                if one.revision:
                    tenure.revision, tenure.phase = one.revision, Phase.RUNNING
                    started.append(tenure)
                elif one.present is not None and one.present.lease == lease and self._is_mine(one.present):
                    tenure.revision = one.present.revision
                else:
                    failed.append(tenure)
            self._handoff.give_back(failed)
        return started

    def key_changed(self, shard: int, seen: SeenKey | None, revision: int) -> None:
        """An owner key has changed in etcd: it may no longer be this node's."""
        with self._keeper.lock:
            tenure = self._keeper.tenures.get(shard)
            if tenure is None or tenure.lease == 0 or revision <= tenure.revision:
                return
            if seen is None or seen.lease != tenure.lease or not self._is_mine(seen):
                tenure.lease = 0
                if tenure.phase < Phase.RUNNING:
                    self._handoff.give_back([tenure])

    def _begin(self, written: dict[int, Written], lease: int) -> None:
        self._drop()
        keeper = self._keeper
        with keeper.lock:
            if keeper.lease != lease:
                return  # lost meanwhile, and the keys with it
            for shard, one in written.items():
                if one.revision:
                    keeper.tenures[shard] = Tenure(shard, next(self._numbers), one.revision, lease)
                    metrics.CLAIMS.inc()

    async def _tell_holders(self, waits: list[Take]) -> None:
        """Writes into the keys which node still runs the shards, so that calls find it."""
        keeper = self._keeper
        with keeper.lock:
            lease = keeper.lease
            known = keeper.tenures
            tenures = {
                take.shard: (take, tenure) for take in waits if (tenure := known.get(take.shard)) is not None
            }
        writes = [
            Write(
                shard,
                tenure.revision,
                msgspec.structs.replace(
                    self._claimed, from_node=take.node, from_address=take.address, epoch=take.epoch
                ),
            )
            for shard, (take, tenure) in tenures.items()
        ]
        if not writes:
            return
        written = await self._owner_keys.write(writes, lease)
        self._drop()
        with keeper.lock:
            for shard, (take, tenure) in tenures.items():
                one = written.get(shard)
                if one is None or keeper.tenures.get(shard) is not tenure:
                    continue
                if one.revision:
                    tenure.revision, tenure.holder = one.revision, take.holder
                elif one.present is not None and one.present.lease == lease and self._is_mine(one.present):
                    tenure.revision = one.present.revision
                else:
                    self._handoff.give_back([tenure])

    def _active(self, tenure: Tenure) -> OwnerKey:
        return msgspec.structs.replace(self._claimed, state=OwnerState.ACTIVE, epoch=tenure.epoch)

    def _is_mine(self, seen: SeenKey) -> bool:
        return seen.value.incarnation == self._claimed.incarnation
