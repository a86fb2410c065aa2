"""Giving shards back: sessions, then the fence, then the owner key."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Coroutine, Iterator, Mapping, Set
from contextlib import suppress
from itertools import chain
from typing import Any, Protocol

import structlog

from mesh_core.etcd import LeaseLost
from mesh_core.ownership import metrics
from mesh_core.ownership.owner_keys import OwnerKeyWriter, Write
from mesh_core.ownership.participant.fence import Fence, FenceUnavailable
from mesh_core.ownership.participant.keeper import Keeper, Phase, Tenure
from mesh_core.ownership.participant.move_traces import MoveTraces
from mesh_core.ownership.view.mirror import ClusterMirror
from mesh_core.tasks import Supervisor

logger = structlog.get_logger(__name__)

CHUNK_ACCOUNTS = 8
CHUNK_SHARDS = 128
"""Handed off together: each account is offline for as long as its chunk takes."""
CHUNKS_AT_ONCE = 2
MAX_ARRIVAL_SECONDS = 0.5
"""How long the next chunk waits, at most, until the new owners run the last one. Without this, accounts would
wait in a queue without an owner before the nodes that take them.
"""


class ShardHandler(Protocol):
    """What a session-node does when shards come and go: for each, `acquired`, then `release` or `lost`.

    Only `lost` may come while `acquired` or `release` still runs.
    """

    async def acquired(self, shards: Mapping[int, int], traces: Mapping[int, str]) -> None:
        """These shards (shard -> epoch) may run here from now on. Return soon, connect in the background.
        `traces` has the traceparents of moves that are recorded, by shard.
        """

    async def release(self, shards: Collection[int]) -> None:
        """Hand these over: stop intake, close the sockets, flush the journal and give the fence back with it.

        `Ownership.epoch` still answers for them meanwhile, `Ownership.admits` no longer does. On return no
        act is in flight, every socket is closed, nothing will be written, and the fence is given back: what
        was not is found by the beat of whoever waits for it.
        """

    def lost(self, shards: Collection[int]) -> None:
        """Past the deadline, or fenced off: close the sockets NOW. Nothing may be written for them."""

    def accounts(self, shard: int) -> int:
        """How many accounts of the shard run here: what a handoff takes time for."""

    def loads(self) -> Mapping[int, tuple[int, int]]:
        """For each shard that runs here, and whose accounts are loaded: accounts that want a session, and
        messages in the last minute.
        """


class Handoff:
    """Runs handoffs in the background. `drop` applies passed deadlines; `wake` is called after a handoff."""

    def __init__(
        self,
        *,
        node_id: str,
        moves: MoveTraces,
        keeper: Keeper,
        mirror: ClusterMirror,
        fence: Fence,
        owner_keys: OwnerKeyWriter,
        handler: ShardHandler,
        supervisor: Supervisor,
        drop: Callable[[], None],
        wake: Callable[[], None],
    ) -> None:
        self._node_id = node_id
        self._moves = moves
        self._keeper = keeper
        self._mirror = mirror
        self._fence = fence
        self._owner_keys = owner_keys
        self._handler = handler
        self._supervisor = supervisor
        self._drop = drop
        self._wake = wake
        self._tasks: set[asyncio.Task[None]] = set()
        self.busy: set[int] = set()
        """Shards whose handoff is under way. None is claimed again before it has ended, not even one that was
        lost meanwhile.
        """

    def begin(self, tenures: Collection[Tenure]) -> None:
        """Starts handing RUNNING tenures off, as many as may go at once; call again for the rest."""
        accounts = self._handler.accounts
        # Shards with accounts first: those without would only hold them up.
        waiting = chain(
            (tenure for tenure in tenures if accounts(tenure.shard)),
            (tenure for tenure in tenures if not accounts(tenure.shard)),
        )
        while len(self._tasks) < CHUNKS_AT_ONCE and (chunk := self._next_chunk(waiting)):
            with self._keeper.lock:
                for tenure in chunk:
                    tenure.phase = Phase.STOPPING
                    self.busy.add(tenure.shard)
            self._start("handoff", self._hand_off(chunk))

    def _next_chunk(self, waiting: Iterator[Tenure]) -> list[Tenure]:
        chunk: list[Tenure] = []
        accounts = 0
        for tenure in waiting:
            chunk.append(tenure)
            accounts += self._handler.accounts(tenure.shard)
            if accounts >= CHUNK_ACCOUNTS or len(chunk) == CHUNK_SHARDS:
                break
        return chunk

    def give_back(self, tenures: Collection[Tenure]) -> None:
        """Releases fence and key of tenures whose sockets are closed, or never were open."""
        chunk = list(tenures)
        with self._keeper.lock:
            for tenure in chunk:
                tenure.phase = Phase.STOPPED
                self.busy.add(tenure.shard)
        if chunk:
            self._start("give-back", self._give_back(chunk))

    def release_fence(self, epochs: Mapping[int, int]) -> None:
        """Releases fences of shards that do not run here. A failure is not retried: the node that waits for
        one asks again.
        """
        if epochs:
            self._start("release-fence", self._release_once(dict(epochs)))

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _start(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        task = self._supervisor.start(name, work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _hand_off(self, tenures: list[Tenure]) -> None:
        began = time.time_ns()
        with_accounts = [tenure for tenure in tenures if self._handler.accounts(tenure.shard)]
        await self._handler.release([tenure.shard for tenure in tenures])
        self._drop()
        with self._keeper.lock:
            for tenure in tenures:
                tenure.phase = Phase.STOPPED
        await self._forget(tenures)
        if with_accounts:
            self._moves.record_released(with_accounts, began)
            await self._arrival(frozenset(tenure.shard for tenure in tenures))
            self._wake()

    async def _arrival(self, shards: Set[int]) -> None:
        """Returns when every shard is owned by the node that the table gives it to; at once when the table
        gives one of them to no live node, or back to this one.
        """
        mirror = self._mirror
        if not self._leaving(shards):
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(MAX_ARRIVAL_SECONDS):
                await mirror.changes.wait_until(lambda: not shards & mirror.misplaced)

    def _leaving(self, shards: Set[int]) -> bool:
        placement, nodes = self._mirror.placement, self._mirror.nodes
        return all(placement[shard] in nodes and placement[shard] != self._node_id for shard in shards)

    async def _give_back(self, tenures: list[Tenure]) -> None:
        epochs = {tenure.shard: tenure.epoch for tenure in tenures if tenure.epoch}
        while epochs and not self._keeper.refused:  # the key must outlive the fence
            try:
                await self._fence.release(epochs)
                break
            except FenceUnavailable as error:
                logger.warning("shards not released yet", shards=len(epochs), reason=error.message)
                await asyncio.sleep(self._keeper.timings.beat)
        await self._forget(tenures)

    async def _forget(self, tenures: list[Tenure]) -> None:
        """Deletes the keys once the fence is released; from then on the shards may be claimed again."""
        await self._delete_keys(tenures)
        with self._keeper.lock:
            for tenure in tenures:
                self.busy.discard(tenure.shard)
                if self._keeper.tenures.get(tenure.shard) is tenure:
                    del self._keeper.tenures[tenure.shard]
        metrics.RELEASED.inc(len(tenures))
        self._wake()

    async def _delete_keys(self, tenures: list[Tenure]) -> None:
        """By mod_revision, so that a late delete never hits a later claim. A key that is not
        deleted is settled as an orphan.
        """
        try:
            await self._owner_keys.write(
                [Write(tenure.shard, tenure.revision, None) for tenure in tenures], self._keeper.lease
            )
        except LeaseLost:
            return  # the keys went with it

    async def _release_once(self, epochs: dict[int, int]) -> None:
        try:
            await self._fence.release(epochs)
        except FenceUnavailable as error:
            logger.warning("shards not released", shards=len(epochs), reason=error.message)
