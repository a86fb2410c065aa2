"""A session-node's part in ownership: registers it, claims, keeps and hands off shards."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping
from contextlib import suppress
from typing import Any

import structlog

from mesh_core.etcd import BlockingLeases, Etcd, EtcdUnavailable, LeaseLost, boottime
from mesh_core.ownership.keys import ClusterKeys, NodeInfo, NodeState, OwnerKey, decode_owner
from mesh_core.ownership.participant.fence import Connect, Fence, FenceBeats, FenceUnavailable
from mesh_core.ownership.participant.handoff import ShardHandler
from mesh_core.ownership.participant.keeper import Keeper, Timings
from mesh_core.ownership.participant.keeper_thread import KeeperThread
from mesh_core.ownership.participant.reconciler import Reconciler
from mesh_core.ownership.participant.registration import NodeRegistration
from mesh_core.ownership.view import OwnerLookup
from mesh_core.ownership.view.mirror import ClusterMirror
from mesh_core.process.watchdog import WatchdogClient
from mesh_core.signal import Signal
from mesh_core.tasks import Supervisor

logger = structlog.get_logger(__name__)

DEFAULT_TIMINGS = Timings()
EXIT_CUT_OFF = 75
"""Exit code of a process that may run nothing any more: cut off from both authorities."""


def end_process(reason: str) -> None:
    """Ends the process at once: the kernel closes its sockets, and nothing more is written."""
    logger.critical("the process ends at once", reason=reason)
    sys.stdout.flush()
    os._exit(EXIT_CUT_OFF)


class Ownership:
    """Registers the node, claims the shards that the table gives it, and keeps them.

    `node` is what the others learn of it, its state at the start among that; its incarnation names this start
    of the process and is never used again. `connect` opens a direct Postgres connection, on whatever event
    loop it is called. `end_process` is called with the reason when nothing may run here any more, or sockets
    were not closed in time; it must not return.

    When another node has judged this incarnation dead, or another process was started with its node id,
    everything is handed off and a supervised task fails with `IncarnationExpired` or `NodeSuperseded`: the
    process must end.
    """

    def __init__(
        self,
        *,
        etcd: Etcd,
        connect: Connect,
        cluster: str,
        node: NodeInfo,
        supervisor: Supervisor,
        timings: Timings = DEFAULT_TIMINGS,
        watchdog: WatchdogClient | None = None,
        end_process: Callable[[str], None] = end_process,
    ) -> None:
        self.incarnation = node.incarnation
        self._etcd = etcd
        self._watchdog = watchdog
        self._supervisor = supervisor
        self._timings = timings
        self._tasks: list[asyncio.Task[None]] = []
        self._keys = keys = ClusterKeys(cluster)
        self._keeper = Keeper(timings)
        self._fence = Fence(connect, node.incarnation, timings)
        self._work = Signal()
        self._mirror = ClusterMirror(etcd, keys)
        self.owners = OwnerLookup(self._mirror)
        """Of all shards, as far as etcd was seen."""
        self._node = NodeRegistration(etcd, keys, self._mirror, node, self._work.notify)
        self._thread = KeeperThread(
            keeper=self._keeper,
            leases=BlockingLeases(etcd.settings, timeout=timings.attempt),
            beats=FenceBeats(connect, node.incarnation, timings),
            watchdog=watchdog,
            end_process=end_process,
        )
        self._joined = False
        self._reconciler: Reconciler | None = None
        """From `start` on."""

    async def start(self, handler: ShardHandler) -> None:
        """Registers the node, waiting for etcd and Postgres if need be; shards come through `handler`.

        What the handler runs may itself ask this object for epochs and owners, so it is made later.
        """
        reconciler = self._reconciler = Reconciler(
            etcd=self._etcd,
            keys=self._keys,
            keeper=self._keeper,
            keeper_thread=self._thread,
            fence=self._fence,
            mirror=self._mirror,
            registration=self._node,
            handler=handler,
            work=self._work,
            supervisor=self._supervisor,
        )
        info = self._node.info
        await self._retry_until_done(lambda: self._fence.register(info.id, info.address))
        self._start("ownership-keeper", self._thread.run(reconciler))
        await reconciler.lease_granted.wait()
        await reconciler.postgres_answered.wait()
        await self._retry_until_done(self._join)
        self._start("ownership-mirror", self._mirror.run(reconciler))
        self._start("ownership-rounds", reconciler.run())
        await self._mirror.ready.wait()
        self._joined = True

    async def drain(self, timeout: float) -> bool:
        """Takes no more shards and hands all off; False when some are left after `timeout` seconds."""
        self._node.set_state(NodeState.DRAINING)
        reconciler = self._reconciler
        if reconciler is None:
            return True
        try:
            async with asyncio.timeout(timeout):
                while not reconciler.idle:
                    with suppress(TimeoutError):  # not every step towards it is notified
                        async with asyncio.timeout(self._timings.beat):
                            await self._work.wait()
        except TimeoutError:
            return False
        return True

    async def stop(self) -> None:
        """Ends at once: the handler loses what is held, then all is given back if the servers answer."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self._reconciler is not None:
            await self._reconciler.stop()
        with self._keeper.lock:
            epochs = {t.shard: t.epoch for t in self._keeper.tenures.values() if t.epoch}
            held = list(self._keeper.running())
            self._keeper.tenures.clear()
        if held and self._reconciler is not None:
            self._reconciler.handler.lost(held)
        if self._watchdog is not None:
            self._watchdog.keeper_ended()
        try:
            if epochs:
                await self._fence.release(epochs)
            await self._etcd.revoke(self._keeper.lease)
        except (FenceUnavailable, EtcdUnavailable) as error:
            logger.warning("ownership not given back, it will run out", reason=error.message)
        await self._fence.close()

    def epoch(self, shard: int) -> int | None:
        """The epoch at which the shard may run here at this very moment, or None. Cheap: for the hot path."""
        return self._keeper.epoch(shard, boottime())

    def admits(self, shard: int) -> bool:
        """Whether new work on the shard may begin here: no handoff, no soft deadline passed."""
        return self._keeper.admits(shard, boottime())

    def owner(self, shard: int) -> OwnerKey | None:
        """Who owns the shard as far as etcd was seen; for NOT_OWNER details."""
        seen = self._mirror.owners.get(shard)
        return seen.value if seen is not None else None

    async def ask_owner(self, shard: int) -> OwnerKey | None:
        """Who owns the shard as etcd's members agree now. Raises `EtcdUnavailable`."""
        kv = await self._etcd.get(self._keys.owner(shard))
        return decode_owner(kv.value) if kv is not None else None

    def running(self) -> Mapping[int, int]:
        """Epochs of the shards held here."""
        return self._keeper.running()

    async def unready(self) -> str:
        """Why no account can be served here, in a few words; "" when some can."""
        if not self._joined:
            return "it has not joined the cluster yet"
        return self._keeper.unready(boottime())

    @property
    def state(self) -> NodeState:
        return self._node.info.state

    @property
    def lease(self) -> int:
        """The node's present lease; 0 while it has none."""
        return self._keeper.lease

    def fence_refused(self, shards: Collection[int]) -> None:
        """The fence refused a write of these shards: whatever we believe, they are not ours. Stops them."""
        if self._reconciler is not None:
            self._reconciler.fence_refused(shards)

    async def _join(self) -> None:
        if self._keeper.lease == 0:
            raise EtcdUnavailable("there is no lease at present")
        await self._node.announce(self._keeper.lease)

    async def _retry_until_done(self, step: Callable[[], Awaitable[None]]) -> None:
        """Repeats a step of the start until it succeeds."""
        while True:
            try:
                return await step()
            except (EtcdUnavailable, FenceUnavailable, LeaseLost) as error:
                logger.warning("cannot join the cluster yet", reason=error.message)
                await asyncio.sleep(self._timings.beat)

    def _start(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(self._supervisor.start(name, work))
