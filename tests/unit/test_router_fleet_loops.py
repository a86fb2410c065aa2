"""What goes on by itself in a router's fleet outlives errors that nobody expected."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any
from unittest.mock import AsyncMock, MagicMock, call

import pytest

from mesh_core.ids import new_uuid
from mesh_core.jobs import store
from mesh_router.fleet import admission, drains, liveness, monitor, outages, watch
from tests.support.eventually import eventually

UNEXPECTED = ValueError("not this time")


@asynccontextmanager
async def running(loop: Coroutine[Any, Any, None]) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(loop)
    yield task
    assert not task.done()
    task.cancel()
    await asyncio.wait([task])


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, names in (
        (admission, ["EVERY_SECONDS"]),
        (drains, ["BUSY_SECONDS", "IDLE_SECONDS"]),
        (liveness, ["CHECK_SECONDS"]),
        (monitor, ["EVERY_SECONDS"]),
        (outages, ["EVERY_SECONDS"]),
        (watch, ["FRAME_SECONDS", "REFRESH_SECONDS"]),
    ):
        for name in names:
            monkeypatch.setattr(module, name, 0.01)


async def test_accounts_are_counted_again(monkeypatch: pytest.MonkeyPatch) -> None:
    count = AsyncMock(side_effect=[UNEXPECTED, {3: 7}, *[{3: 7}] * 1000])
    monkeypatch.setattr(admission, "wanted_by_shard", count)
    counted = admission.Admission(MagicMock(), MagicMock())
    async with running(counted.run()):
        await eventually(lambda: counted.by_shard == {3: 7})


async def test_waiting_accounts_are_counted_again() -> None:
    database = MagicMock()
    database.pool.fetch = AsyncMock(side_effect=[UNEXPECTED, *[[{"node": "n1", "count": 2}]] * 1000])
    counted = outages.NetworkOutages(database)
    async with running(counted.run()):
        await eventually(lambda: counted.waiting == {"n1": 2})


async def test_the_fleet_is_checked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    checked = monitor.FleetMonitor(*[MagicMock() for _ in range(5)])
    check = MagicMock(side_effect=UNEXPECTED)
    monkeypatch.setattr(checked, "check", check)
    async with running(checked.run()):
        await eventually(lambda: check.call_count > 1)


async def test_the_view_is_not_taken_for_fresh_and_checked_again() -> None:
    etcd = MagicMock(get=AsyncMock(side_effect=UNEXPECTED))
    checked = liveness.EtcdLiveness(etcd, "cluster", MagicMock(table_revision=0))
    async with running(checked.run()):
        await eventually(lambda: etcd.get.call_count > 1)
        assert not checked.fresh


async def test_watchers_get_the_next_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    view = MagicMock()
    view.changes.wait = AsyncMock()
    watched = watch.FleetWatch(view, MagicMock(), MagicMock())
    picture = watch.Picture({}, (), [], 5, 0, {})
    take = MagicMock(side_effect=[picture, UNEXPECTED, *[picture] * 1000])
    monkeypatch.setattr(watched, "_take", take)
    async with running(watched.run()):
        frames = watched.follow()
        assert (await anext(frames)).table_revision == 5
        await eventually(lambda: take.call_count > 2)
        await frames.aclose()


async def test_a_drain_that_cannot_go_on_leaves_the_others_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    bad, good = new_uuid(), new_uuid()
    monkeypatch.setattr(store, "unfinished", AsyncMock(return_value=[{"id": bad}, {"id": good}]))
    advance = AsyncMock(side_effect=lambda job, wait: _raise() if job == bad else None)
    advanced = drains.Drains(MagicMock(), MagicMock(), "cluster", MagicMock(), MagicMock())
    monkeypatch.setattr(advanced, "_advance", advance)
    async with running(advanced.run()):
        await eventually(lambda: advance.await_args_list.count(call(good, wait=False)) > 1)


def _raise() -> None:
    raise UNEXPECTED
