"""The keeper's thread between two authorities, an event loop and a watchdog, all of them stand-ins."""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast

from mesh_core.etcd import EtcdUnavailable, LeaseBeat, LeaseLost, boottime
from mesh_core.ownership.participant.fence import FenceUnavailable, IncarnationExpired
from mesh_core.ownership.participant.keeper import Dropped, Keeper, Phase, Tenure, Timings
from mesh_core.ownership.participant.keeper_thread import KILL_SLACK, KeeperThread
from tests.support.eventually import eventually, wait_until

QUICK = Timings(ttl=1, beat=0.05, attempt=0.2, soft=0.3, hard=0.4)


class Authorities:
    """Both: `etcd` and `postgres` are what they answer with; an exception is raised."""

    def __init__(self) -> None:
        self.numbers = itertools.count(100)
        self.etcd: Exception | None = None
        self.postgres: Exception | None = None
        self.wanted: dict[int, int] = {}
        self.freeze = 0.0
        """Seconds for which the next beat stops the keeper's thread, beginning just before the deadline."""
        self._beat_sent = 0.0

    def grant(self, ttl: int) -> LeaseBeat:
        if isinstance(self.etcd, EtcdUnavailable):
            raise self.etcd
        self.etcd = None
        return LeaseBeat(next(self.numbers), ttl, boottime())

    def keep_alive(self, lease: int) -> LeaseBeat:
        if self.etcd is not None:
            raise self.etcd
        return LeaseBeat(lease, 1, boottime())

    async def beat(self) -> tuple[float, dict[int, int]]:
        if self.postgres is not None:
            raise self.postgres
        freeze, self.freeze = self.freeze, 0.0
        if freeze:
            await asyncio.sleep(self._beat_sent + QUICK.hard - 0.05 - boottime())
        self._beat_sent = boottime()
        time.sleep(freeze)  # noqa: ASYNC251 - a thread that stands still is what is tested
        return self._beat_sent, self.wanted


class Leases:
    def __init__(self, authorities: Authorities) -> None:
        self.grant, self.keep_alive = authorities.grant, authorities.keep_alive

    def close(self) -> None:
        pass


class Beats:
    def __init__(self, authorities: Authorities) -> None:
        self.beat = authorities.beat

    async def close(self) -> None:
        pass


class Page:
    """The watchdog's."""

    def __init__(self) -> None:
        self.told = 0.0
        self.leases: list[int] = []

    def kill_at(self, instant: float) -> None:
        self.told = instant

    def lease(self, lease: int) -> None:
        self.leases.append(lease)


class Stage:
    """Implements `KeeperListener`. Runs the thread, and notes what the event loop is told."""

    def __init__(self) -> None:
        self.keeper = Keeper(QUICK)
        self.authorities = Authorities()
        self.page = Page()
        self.news: list[tuple[str, Any]] = []
        self.ended: list[str] = []
        self.thread = KeeperThread(
            keeper=self.keeper,
            leases=cast("Any", Leases(self.authorities)),
            beats=cast("Any", Beats(self.authorities)),
            watchdog=cast("Any", self.page),
            end_process=self.ended.append,
        )

    def run_shard(self, shard: int, *, key_confirmed: bool = True) -> None:
        lease = self.keeper.lease if key_confirmed else 0
        tenure = Tenure(shard, claim=shard, revision=1, lease=lease, phase=Phase.RUNNING, epoch=1)
        with self.keeper.lock:
            self.keeper.tenures[shard] = tenure

    def told(self, kind: str) -> list[Any]:
        return [what for name, what in self.news if name == kind]

    async def until(self, condition: Callable[[], bool]) -> None:
        async def met() -> bool:
            return condition()

        await eventually(met, 5.0, "the condition")

    # --- KeeperListener

    def dropped(self, dropped: Dropped) -> None:
        self.news.append(("dropped", dropped))

    def lease_changed(self, forgotten: list[Tenure]) -> None:
        self.news.append(("lease", self.keeper.lease))

    def beat_answered(self, wanted: Mapping[int, int]) -> None:
        self.news.append(("beat", dict(wanted)))

    def beat_refused(self, error: IncarnationExpired) -> None:
        self.news.append(("refused", error))


@asynccontextmanager
async def running() -> AsyncIterator[Stage]:
    """A stage whose authorities both answered."""
    stage = Stage()
    task = asyncio.create_task(stage.thread.run(stage))
    await stage.until(lambda: bool(stage.told("lease") and stage.told("beat")))
    yield stage
    task.cancel()
    await asyncio.wait([task])


async def test_beats_go_on_while_the_event_loop_stands_still() -> None:
    async with running() as stage:
        stage.run_shard(5)
        time.sleep(3 * QUICK.hard)  # noqa: ASYNC251 - a loop that stands still is what is tested
        assert stage.keeper.epoch(5, boottime()) == 1
        assert stage.keeper.admits(5, boottime())


async def test_a_lost_lease_is_replaced_at_once_and_both_are_told() -> None:
    async with running() as stage:
        first = stage.keeper.lease
        stage.authorities.etcd = LeaseLost(first)
        await stage.until(lambda: stage.keeper.lease not in (0, first))
        assert stage.page.leases == [first, stage.keeper.lease]


async def test_what_others_wait_for_is_told() -> None:
    async with running() as stage:
        stage.authorities.wanted = {7: 3}
        await stage.until(lambda: {7: 3} in stage.told("beat"))


async def test_a_refused_beat_is_told_once() -> None:
    async with running() as stage:
        stage.authorities.postgres = IncarnationExpired("judged dead")
        await stage.until(lambda: bool(stage.told("refused")))
        heard = len(stage.told("lease"))
        stage.authorities.etcd = LeaseLost(stage.keeper.lease)
        await stage.until(lambda: len(stage.told("lease")) > heard)
        assert len(stage.told("refused")) == 1
        assert stage.keeper.refused


async def test_one_silent_authority_drops_nothing() -> None:
    async with running() as stage:
        stage.run_shard(5)
        stage.authorities.postgres = FenceUnavailable("away")
        since = boottime()
        await stage.until(lambda: boottime() > since + 2 * QUICK.hard)
        assert stage.keeper.epoch(5, boottime()) == 1
        assert stage.told("dropped") == stage.ended == []


async def test_a_shard_without_an_authority_is_dropped_at_its_deadline_and_stays_lost() -> None:
    async with running() as stage:
        stage.run_shard(5)
        stage.run_shard(6, key_confirmed=False)
        stage.authorities.postgres = FenceUnavailable("away")
        await stage.until(lambda: bool(stage.told("dropped")))
        [dropped] = stage.told("dropped")
        assert (dropped.lost, dropped.nothing_left) == ([6], False)
        stage.authorities.postgres = None
        heard = len(stage.told("beat"))
        await stage.until(lambda: len(stage.told("beat")) > heard)
        assert stage.keeper.epoch(6, boottime()) is None
        assert stage.keeper.epoch(5, boottime()) == 1
        assert stage.ended == []


async def test_an_answer_that_is_read_after_the_deadline_saves_nothing() -> None:
    """Though it was asked for in time: the thread was stopped meanwhile, and wakes up with the answer."""
    async with running() as stage:
        stage.run_shard(5)
        stage.run_shard(6, key_confirmed=False)
        stage.authorities.freeze = 0.2
        await stage.until(lambda: bool(stage.told("dropped")))
        [dropped] = stage.told("dropped")
        assert dropped.lost == [6]
        assert stage.keeper.epoch(6, boottime()) is None


async def test_a_loop_that_does_not_close_in_time_what_was_lost_ends_the_process() -> None:
    async with running() as stage:
        stage.run_shard(5)
        stage.run_shard(6, key_confirmed=False)
        stage.authorities.postgres = FenceUnavailable("away")
        wait_until(lambda: bool(stage.ended))  # meanwhile the loop stands still
        assert "event loop" in stage.ended[0]


async def test_a_process_whose_shards_are_all_lost_ends_at_once() -> None:
    async with running() as stage:
        stage.run_shard(5)
        stage.authorities.postgres = FenceUnavailable("away")
        stage.authorities.etcd = EtcdUnavailable("away")
        await stage.until(lambda: bool(stage.ended))
        assert "none left" in stage.ended[0]


def test_it_does_so_too_when_the_event_loop_is_the_first_to_find_out() -> None:
    stage = Stage()  # its thread does not run
    stage.run_shard(5)
    assert stage.thread.drop().lost == [5]
    assert "none left" in stage.ended[0]


async def test_the_watchdog_is_told_of_the_earliest_deadline() -> None:
    async with running() as stage:
        stage.thread.tell_watchdog()
        assert math.isinf(stage.page.told)
        stage.run_shard(5)
        stage.thread.tell_watchdog()
        assert stage.page.told == stage.keeper.next_drop() + KILL_SLACK
        before = stage.page.told
        await stage.until(lambda: stage.page.told > before)
