"""Places that tenants share, and slices of the loop that they take in turns."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import AsyncExitStack

import pytest
from asyncpg.pgproto.pgproto import UUID

from mesh_core import slices as slices_module
from mesh_core.ids import new_uuid
from mesh_core.shares import Shares
from mesh_core.slices import Slices
from tests.support.eventually import eventually

ONE, OTHER = new_uuid(), new_uuid()


class Holding:
    """Tasks that hold a place each until they are let go, in the order in which they got it."""

    def __init__(self, shares: Shares) -> None:
        self.names: list[str] = []
        self._shares = shares
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def ask(self, tenant: UUID, *names: str) -> None:
        for name in names:
            self._tasks[name] = asyncio.create_task(self._hold(tenant, name), name=name)
            await asyncio.sleep(0)

    async def end(self, *names: str) -> None:
        for name in names:
            task = self._tasks.pop(name)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await asyncio.sleep(0)

    async def end_all(self) -> None:
        await self.end(*self._tasks)

    async def _hold(self, tenant: UUID, name: str) -> None:
        async with self._shares.place(tenant):
            self.names.append(name)
            await asyncio.Event().wait()


async def test_one_tenant_gets_half_and_a_newcomer_finds_a_place() -> None:
    holding = Holding(Shares(4))
    await holding.ask(ONE, "a", "b", "c")
    assert holding.names == ["a", "b"]
    await holding.ask(OTHER, "x")
    assert holding.names == ["a", "b", "x"]
    await holding.end_all()


async def test_a_single_place_is_had_by_one_at_a_time() -> None:
    holding = Holding(Shares(1))
    await holding.ask(ONE, "a", "b")
    assert holding.names == ["a"]
    await holding.end("a")
    assert holding.names == ["a", "b"]
    await holding.end_all()


async def test_the_queue_goes_round_the_tenants() -> None:
    holding = Holding(Shares(1))
    await holding.ask(ONE, "a", "b", "c")
    await holding.ask(OTHER, "x")
    for name in ("a", "b", "x"):
        await holding.end(name)
    assert holding.names == ["a", "b", "x", "c"]
    await holding.end_all()


async def test_one_that_gives_up_in_the_queue_is_passed_over() -> None:
    holding = Holding(Shares(1))
    await holding.ask(ONE, "a", "b", "c")
    await holding.end("b")
    await holding.end("a")
    assert holding.names == ["a", "c"]
    await holding.end_all()


async def test_one_that_gives_up_as_it_is_called_passes_the_place_on() -> None:
    shares = Shares(1)
    holding = Holding(shares)
    async with shares.place(ONE):
        await holding.ask(ONE, "b", "c")
        called = holding._tasks["b"]
    called.cancel()  # it was called, and has not run since
    await eventually(lambda: holding.names == ["c"])
    await holding.end_all()


async def test_what_fails_in_its_place_gives_it_back() -> None:
    shares = Shares(1)
    for _ in range(3):
        with pytest.raises(KeyError):
            async with shares.place(ONE):
                raise KeyError
    assert not shares._taken


async def test_places_of_all_tenants_are_no_more_than_there_are() -> None:
    shares = Shares(3)
    async with AsyncExitStack() as held:
        for _ in range(2):
            await held.enter_async_context(shares.place(new_uuid()))
        holding = Holding(shares)
        await holding.ask(ONE, "a")
        await holding.ask(OTHER, "x")
        assert holding.names == ["a"]
        await holding.end_all()


# --- slices


async def walk(slices: Slices, tenant: UUID, items: Iterable[str], seen: list[str]) -> None:
    async for item in slices.each(tenant, items):
        seen.append(item)  # noqa: PERF401 - in between others append theirs


async def test_long_work_takes_turns_over_tenants_and_others_run_between(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(slices_module, "SLICE_SECONDS", 0.0)
    slices, seen = Slices(), list[str]()
    loop = asyncio.get_running_loop()

    def tick() -> None:
        seen.append("-")
        if len(seen) < 100:
            loop.call_soon(tick)

    async with asyncio.TaskGroup() as group:
        for number in range(3):
            names = [f"a{number}", f"a{number}"]
            group.create_task(walk(slices, ONE, names, seen), name="walk")
        group.create_task(walk(slices, OTHER, ["x", "x"], seen), name="walk")
        loop.call_soon(tick)
    order = "".join(seen)
    assert "aa" not in order.replace("0", "").replace("1", "").replace("2", ""), (
        "a turn of the loop has a slice"
    )
    assert order.index("x") < order.index("a2"), "another tenant waits for no more than one of them"
    assert sorted(one for one in seen if one != "-") == ["a0", "a0", "a1", "a1", "a2", "a2", "x", "x"]


async def test_items_of_one_slice_come_without_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices_module, "SLICE_SECONDS", 3600.0)
    slices, seen = Slices(), list[str]()
    asyncio.get_running_loop().call_soon(seen.append, "-")
    await walk(slices, ONE, "abc", seen)
    assert seen == ["a", "b", "c"]


async def test_work_that_is_cancelled_in_the_queue_leaves_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices_module, "SLICE_SECONDS", 0.0)
    slices, seen = Slices(), list[str]()
    async with asyncio.TaskGroup() as group:
        group.create_task(walk(slices, ONE, "ab", seen), name="walk")
        waiting = group.create_task(walk(slices, ONE, "cd", seen), name="walk")
        await asyncio.sleep(0)
        waiting.cancel()
    assert seen == ["a", "b"]
    assert not slices._waiting
