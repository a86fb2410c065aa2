"""Turns to dial: round the tenants, first those that somebody asked for, so many at once and in a second."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import pytest
from asyncpg.pgproto.pgproto import UUID
from hypothesis import given
from hypothesis import strategies as st

from mesh_core.ids import new_uuid
from mesh_core.turns import Turns
from mesh_session_node.node.connect_limiter import ConnectLimiter
from tests.support.eventually import eventually

A, B, C = new_uuid(), new_uuid(), new_uuid()


def turns_of(*places: tuple[UUID, str]) -> Turns[str]:
    turns: Turns[str] = Turns()
    for tenant, item in places:
        turns.add(tenant, item)
    return turns


# Turns


def test_turns_go_round_the_tenants() -> None:
    turns = turns_of((A, "a1"), (A, "a2"), (A, "a3"), (B, "b1"), (C, "c1"), (C, "c2"))
    assert [turns.take() for _ in range(7)] == ["a1", "b1", "c1", "a2", "c2", "a3", None]


def test_who_comes_after_thousands_of_another_tenant_waits_for_one() -> None:
    turns = turns_of(*((A, f"a{number}") for number in range(5000)))
    turns.take()
    turns.add(B, "b")
    assert [turns.take(), turns.take()] == ["a1", "b"]


def test_who_has_a_place_keeps_it() -> None:
    turns = turns_of((A, "a1"), (A, "a2"), (A, "a1"))
    assert len(turns) == 2
    assert [turns.take(), turns.take(), turns.take()] == ["a1", "a2", None]


def test_who_gives_its_place_up_has_none() -> None:
    turns = turns_of((A, "a1"), (A, "a2"))
    assert turns.discard(A, "a1")
    assert not turns.discard(A, "a1")
    assert not turns.discard(B, "b1")
    assert [turns.take(), turns.take()] == ["a2", None]


def test_who_may_not_or_is_not_ready_keeps_its_place() -> None:
    turns = turns_of((A, "a1"), (B, "b1"), (B, "b2"))
    assert turns.take(may=lambda tenant: tenant != A, ready=lambda item: item != "b1") == "b2"
    assert [turns.take(), turns.take()] == ["a1", "b1"]


@given(st.lists(st.tuples(st.sampled_from([A, B, C]), st.integers(0, 20).map(str))))
def test_the_order_that_is_shown_is_the_order_of_the_turns(places: list[tuple[UUID, str]]) -> None:
    turns = turns_of(*((tenant, f"{tenant}-{item}") for tenant, item in places))
    shown = [*turns]
    assert len(turns) == len(shown)
    assert shown == [turns.take() for _ in shown]
    assert (len(turns), turns.take()) == (0, None)


# Dials


class Dialer:
    """One account; its dial ends when the test says so."""

    def __init__(self, world: World, tenant: UUID, name: str) -> None:
        self.id = name
        self.tenant = tenant
        self.ends = asyncio.Event()
        self._world = world

    async def dial(self) -> None:
        self._world.dialed.append(self.id)
        await self.ends.wait()


class World:
    """A limiter, and who dialled in which order."""

    def __init__(self, parallel: int, per_second: int = 100_000) -> None:
        self.dialed: list[str] = []
        self.limiter = ConnectLimiter(per_second, parallel, self._start)
        self._tasks: list[asyncio.Task[None]] = []
        self._run: asyncio.Task[None] | None = None

    def admit(self, tenant: UUID, name: str, *, first: bool = False) -> Dialer:
        dialer = Dialer(self, tenant, name)
        self.limiter.admit(dialer, first=first)
        return dialer

    async def until_dialed(self, count: int) -> list[str]:
        """Let turns come until so many have dialled, and nobody else can."""
        if self._run is None:
            self._run = asyncio.create_task(self.limiter.run())
        await eventually(lambda: len(self.dialed) >= count)
        for _ in range(20):
            await asyncio.sleep(0)
        return self.dialed

    async def close(self) -> None:
        for task in (*self._tasks, *filter(None, [self._run])):
            task.cancel()
            await asyncio.wait([task])

    def _start(self, _name: str, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.create_task(work))


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World(parallel=8)
    yield made
    await made.close()


async def test_a_tenant_with_thousands_does_not_make_anothers_one_account_wait(world: World) -> None:
    for number in range(5000):
        world.admit(A, f"a{number}")
    world.admit(B, "b")
    assert "b" in (await world.until_dialed(3))[:2]


async def test_dials_that_hang_for_one_tenant_leave_room_for_another(world: World) -> None:
    for number in range(20):
        world.admit(A, f"a{number}")
    assert await world.until_dialed(6) == [f"a{number}" for number in range(6)]
    world.admit(B, "b")
    assert (await world.until_dialed(7))[6:] == ["b"]


async def test_the_next_one_dials_when_a_dial_ends(world: World) -> None:
    dialers = [world.admit(new_uuid(), f"{number}") for number in range(9)]
    assert len(await world.until_dialed(8)) == 8
    dialers[3].ends.set()
    assert (await world.until_dialed(9))[8] == "8"


async def test_those_that_somebody_asked_for_come_first(world: World) -> None:
    for number in range(100):
        world.admit(A, f"a{number}")
    world.admit(A, "asked", first=True)
    assert (await world.until_dialed(6))[0] == "asked"


async def test_who_is_asked_for_while_it_waits_moves_up(world: World) -> None:
    for number in range(100):
        world.admit(A, f"a{number}")
    last = world.admit(A, "last")
    world.limiter.admit(last, first=True)
    dialed = await world.until_dialed(6)
    assert (dialed[0], dialed.count("last")) == ("last", 1)


async def test_whoever_asks_all_the_time_does_not_keep_the_others_out() -> None:
    world = World(parallel=16)
    for number in range(100):
        world.admit(new_uuid(), f"asked-{number}", first=True)
        world.admit(new_uuid(), f"other-{number}")
    dialed = await world.until_dialed(16)
    assert sum(name.startswith("other") for name in dialed) == 4
    await world.close()


async def test_so_many_dial_in_a_second() -> None:
    world = World(parallel=1000, per_second=50)
    loop = asyncio.get_running_loop()
    for number in range(11):
        world.admit(A, f"a{number}")
    began = loop.time()
    await world.until_dialed(11)
    assert loop.time() - began >= 10 / 50 - 0.02
    await world.close()
