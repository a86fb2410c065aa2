"""The thread that keeps a node's two authorities: no stall of the event loop delays a beat or a deadline."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Protocol

import structlog

from mesh_core.etcd import BlockingLeases, EtcdRefused, EtcdUnavailable, LeaseLost, boottime
from mesh_core.ownership import metrics
from mesh_core.ownership.participant.fence import FenceBeats, FenceUnavailable, IncarnationExpired
from mesh_core.ownership.participant.keeper import Dropped, Keeper, Tenure
from mesh_core.process.watchdog import WatchdogClient

logger = structlog.get_logger(__name__)

KILL_SLACK = 0.25
"""Seconds after a deadline at which the watchdog kills: a keeper that still runs has acted on it by then."""
CLOSE_SECONDS = 0.5
"""Seconds that the event loop gets to close the sockets of what was dropped. With the hard deadline that is
well below the TTL."""


class KeeperListener(Protocol):
    """Who acts on what the thread heard; called on the event loop, in the order of events."""

    def dropped(self, dropped: Dropped) -> None:
        """A deadline passed: these no longer run. On return every socket of theirs is closed."""

    def lease_changed(self, forgotten: list[Tenure]) -> None:
        """There is a new lease, or none any more; `forgotten` claims went with the old one."""

    def beat_answered(self, wanted: Mapping[int, int]) -> None:
        """Postgres heard of us; somebody waits for the shards (with epochs) in `wanted`."""

    def beat_refused(self, error: IncarnationExpired) -> None:
        """Another node has judged this process dead."""


class KeeperThread:
    """Renews the lease, beats in Postgres, applies deadlines, and tells the watchdog how long we may live.

    `end_process` must not return: it is called when nothing may run here any more, and when the event loop
    does not close in time what it must.
    """

    def __init__(
        self,
        *,
        keeper: Keeper,
        leases: BlockingLeases,
        beats: FenceBeats,
        watchdog: WatchdogClient | None,
        end_process: Callable[[str], None],
    ) -> None:
        self._keeper = keeper
        self._leases = leases
        self._beats = beats
        self._listener: KeeperListener  # from `run` on
        self._watchdog = watchdog
        self._end_process = end_process
        self._blocking = ThreadPoolExecutor(1, "ownership-lease")
        self._timings = keeper.timings
        self._refresh: asyncio.Event | None = None
        self._main: asyncio.Task[None] | None = None
        self._kept: asyncio.AbstractEventLoop | None = None
        self._served: asyncio.AbstractEventLoop | None = None

    async def run(self, listener: KeeperListener) -> None:
        """Runs the thread until cancelled; raises what ended it otherwise."""
        self._listener = listener
        self._served = asyncio.get_running_loop()
        ended: asyncio.Future[None] = self._served.create_future()
        stop = threading.Event()
        thread = threading.Thread(
            target=self._run_thread, args=(ended, stop), name="ownership-keeper", daemon=True
        )
        thread.start()
        try:
            await asyncio.shield(ended)
        finally:
            stop.set()
            self._on_thread(self._stop)
            self._leases.close()
            await asyncio.to_thread(thread.join)
            self._blocking.shutdown(wait=False)

    def renew_soon(self) -> None:
        """Ask for a lease now: the present one was found to be gone."""
        self._on_thread(lambda: self._refresh.set() if self._refresh is not None else None)

    def tell_watchdog(self) -> None:
        """How long this process may live without hearing from the authorities again. From any thread."""
        if self._watchdog is not None:
            with self._keeper.lock:
                self._watchdog.kill_at(self._keeper.next_drop() + KILL_SLACK)

    def drop(self) -> Dropped:
        """What `Keeper.drop` takes now. Ends the process when that leaves nothing. From any thread."""
        dropped = self._keeper.drop(boottime())
        if dropped.nothing_left:
            self._end_process(f"cut off from etcd and Postgres: {len(dropped.lost)} shards lost, none left")
        return dropped

    # --- in the thread

    def _run_thread(self, ended: asyncio.Future[None], stop: threading.Event) -> None:
        try:
            with suppress(asyncio.CancelledError):
                asyncio.run(self._keep(stop))
        except BaseException as error:  # whatever ended the thread ends the process with its reason
            self._on_loop(_fail, ended, error)

    async def _keep(self, stop: threading.Event) -> None:
        self._kept = asyncio.get_running_loop()
        self._refresh = asyncio.Event()
        self._main = asyncio.current_task()
        if stop.is_set():
            return
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._every_beat(self._beat_lease, self._refresh))
                tasks.create_task(self._every_beat(self._beat_fence, asyncio.Event()))
                tasks.create_task(self._watch_deadlines())
        finally:
            await self._beats.close()

    def _stop(self) -> None:
        if self._main is not None:
            self._main.cancel()

    async def _every_beat(self, beat: Callable[[], Awaitable[None]], at_once: asyncio.Event) -> None:
        while True:
            began = boottime()
            at_once.clear()
            await beat()
            self.tell_watchdog()
            with suppress(TimeoutError):
                async with asyncio.timeout(began + self._timings.beat - boottime()):
                    await at_once.wait()

    async def _beat_lease(self) -> None:
        keeper, lease = self._keeper, self._keeper.lease
        try:
            if lease:
                beat = await self._call(self._leases.keep_alive, lease)
            else:
                beat = await self._call(self._leases.grant, self._timings.ttl)
        except LeaseLost:
            logger.warning("lease lost", lease=lease)
            self._drop()
            with keeper.lock:
                forgotten = keeper.lease_lost() if keeper.lease == lease else []
            self._on_loop(self._listener.lease_changed, forgotten)
            await self._beat_lease()
        except (EtcdUnavailable, EtcdRefused) as error:
            metrics.BEATS_FAILED.labels("etcd").inc()
            logger.debug("lease not renewed", reason=error.message)
            self._drop()
        else:
            now = boottime()
            metrics.BEAT_DURATION.labels("etcd").observe(now - beat.sent)
            self._drop()
            if lease:
                keeper.lease_renewed(beat.id, beat.sent, now)
            else:
                if self._watchdog is not None:
                    self._watchdog.lease(beat.id)
                self._on_loop(self._listener.lease_changed, keeper.lease_granted(beat.id, beat.sent))

    async def _beat_fence(self) -> None:
        keeper = self._keeper
        if keeper.refused:
            return
        try:
            sent, wanted = await self._beats.beat()
        except FenceUnavailable as error:
            metrics.BEATS_FAILED.labels("postgres").inc()
            logger.debug("beat not answered", reason=error.message)
            self._drop()
        except IncarnationExpired as error:
            self._drop()
            keeper.beat_refused()
            self._on_loop(self._listener.beat_refused, error)
        else:
            metrics.BEAT_DURATION.labels("postgres").observe(boottime() - sent)
            self._drop()
            keeper.beat_answered(sent)
            self._on_loop(self._listener.beat_answered, wanted)

    async def _watch_deadlines(self) -> None:
        while True:
            await asyncio.sleep(min(max(0.0, self._keeper.next_drop() - boottime()), self._timings.beat))
            self._drop()
            self.tell_watchdog()

    def _drop(self) -> None:
        """Applies passed deadlines. To be called first after any wait, before an answer is applied."""
        dropped = self.drop()
        if dropped.lost:
            closed = threading.Event()
            self._on_loop(self._close, dropped, closed)
            asyncio.get_running_loop().call_later(CLOSE_SECONDS, self._require_closed, closed)
        elif dropped.forgotten:
            self._on_loop(self._listener.dropped, dropped)

    def _require_closed(self, closed: threading.Event) -> None:
        if not closed.is_set():
            self._end_process("the event loop has not closed in time what was lost")

    async def _call(self, call: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._blocking, call, *args)

    # --- between the threads

    def _close(self, dropped: Dropped, closed: threading.Event) -> None:
        self._listener.dropped(dropped)
        closed.set()

    def _on_loop(self, call: Callable[..., None], *args: Any) -> None:
        if self._served is not None:
            with suppress(RuntimeError):  # the loop was closed: the process ends
                self._served.call_soon_threadsafe(call, *args)

    def _on_thread(self, call: Callable[[], None]) -> None:
        if self._kept is not None:
            with suppress(RuntimeError):
                self._kept.call_soon_threadsafe(call)


def _fail(ended: asyncio.Future[None], error: BaseException) -> None:
    if not ended.done():
        ended.set_exception(error)
