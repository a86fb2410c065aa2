"""Who may read a page or fetch a file, when many want to."""

from __future__ import annotations

import asyncio

from mesh_core.ids import new_uuid
from mesh_session_node.context.places import Places
from mesh_session_node.journal import AccountRef
from tests.support.memory_journal import turn


class Readers:
    """Accounts that read until they are told to stop."""

    def __init__(self, places: Places) -> None:
        self.reading: list[AccountRef] = []
        self._places = places
        self._tasks: dict[AccountRef, list[asyncio.Task[None]]] = {}

    async def come(self, owner: AccountRef, count: int = 1) -> None:
        tasks = [asyncio.create_task(self._read(owner)) for _ in range(count)]
        self._tasks.setdefault(owner, []).extend(tasks)
        await turn()

    async def leave(self, owner: AccountRef) -> None:
        """All of an account's, those that wait, too."""
        for task in self._tasks.pop(owner):
            task.cancel()
        await turn()

    async def _read(self, owner: AccountRef) -> None:
        async with self._places.place(owner):
            self.reading.append(owner)
            try:
                await asyncio.Event().wait()
            finally:
                self.reading.remove(owner)


def account(tenant: AccountRef | None = None) -> AccountRef:
    return AccountRef(new_uuid(), new_uuid() if tenant is None else tenant.tenant, 1, 1)


async def test_an_account_has_a_few_places_and_its_tenants_others_have_more() -> None:
    readers, one = Readers(Places(16, 4)), account()
    other = account(one)
    await readers.come(one, 10)
    assert readers.reading == [one] * 4
    await readers.come(other, 10)
    assert readers.reading == [one] * 4 + [other] * 4
    await readers.leave(one)
    await readers.leave(other)
    assert readers.reading == []


async def test_one_tenant_fills_half_and_another_one_finds_a_place() -> None:
    readers, one = Readers(Places(16, 4)), account()
    accounts = [account(one) for _ in range(10)]
    for each in accounts:
        await readers.come(each, 4)
    assert len(readers.reading) == 8
    other = account()
    await readers.come(other)
    assert readers.reading.count(other) == 1
    for each in (*accounts, other):
        await readers.leave(each)


async def test_free_places_go_round_the_tenants() -> None:
    readers, first = Readers(Places(2, 1)), account()
    await readers.come(first)
    many = [account(first) for _ in range(5)]
    for each in many:
        await readers.come(each)
    late = account()
    await readers.come(late)
    assert readers.reading == [first, late]
    for each in (first, late, *many):
        await readers.leave(each)


async def test_who_gives_up_waiting_leaves_no_place_taken() -> None:
    readers, one = Readers(Places(4, 1)), account()
    await readers.come(one, 3)
    await readers.leave(one)
    await readers.come(one)
    assert readers.reading == [one]
    await readers.leave(one)


async def test_a_tenants_places_go_round_its_accounts() -> None:
    readers, one = Readers(Places(3, 2)), account()
    other = account(one)
    await readers.come(one, 5)
    await readers.come(other)
    assert readers.reading == [one] * 2
    third = account(one)
    await readers.come(third)
    await readers.leave(one)
    assert readers.reading == [other, third]
    for each in (other, third):
        await readers.leave(each)


async def test_a_place_that_becomes_free_is_for_the_account_that_waits_longest() -> None:
    places, one = Places(1, 1), account()
    other = account(one)
    got: list[AccountRef] = []
    release = asyncio.Event()

    async def take(owner: AccountRef) -> None:
        async with places.place(owner):
            got.append(owner)
            await release.wait()

    async with asyncio.TaskGroup() as tasks:
        for owner in (one, one, one, other, other):
            tasks.create_task(take(owner))
        await turn()
        release.set()
    assert got == [one, one, other, one, other]
