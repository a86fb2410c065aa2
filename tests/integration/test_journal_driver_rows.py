"""Rows of drivers' states, as the journal writes them and as they are read."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Collection
from typing import Any, cast

import pytest
from asyncpg import Pool
from asyncpg.pgproto.pgproto import UUID

from mesh_core.sealing import CannotUnseal, PostgresDataKeys, Sealer
from mesh_core.settings import SecretsSettings
from mesh_session_node.journal import (
    COMMITTED,
    REFUSED,
    AccountRef,
    DriverRow,
    Duplicate,
    ForgetDriverRows,
    Poison,
)
from mesh_session_node.store.driver_rows import AT_ONCE, DriverRowStore, binding
from tests.support.journal_world import World, inbound, open_world

MASTER_KEY = base64.b64encode(bytes(32)).decode()


@pytest.fixture
async def world(postgres_url: str) -> AsyncIterator[World]:
    async with open_world(postgres_url) as opened:
        yield opened


class PlainSealer:
    """Opens what was never sealed."""

    async def open(self, _tenant: UUID, blob: bytes, _context: bytes) -> bytes:
        return blob


def store(world: World) -> DriverRowStore:
    return DriverRowStore(world.database.pool, cast("Sealer", PlainSealer()))


async def rows_of(world: World, account: AccountRef) -> dict[str, bytes]:
    return await store(world).read(account.tenant, account.uuid, (), [""])


async def count_of(world: World, account: AccountRef) -> int:
    counted = await world.value("SELECT rows FROM driver_row_count WHERE account = $1", account.uuid)
    return int(counted or 0)


async def test_the_last_change_of_a_row_is_stored(world: World) -> None:
    journal, account = await world.journal("a"), await world.account("a")
    await journal.write(account, DriverRow("a", b"1"), DriverRow("b", b"1"), DriverRow("a", b"2"))
    assert await rows_of(world, account) == {"a": b"2", "b": b"1"}
    await journal.write(account, DriverRow("a", b"3"), DriverRow("b", None))
    assert await rows_of(world, account) == {"a": b"3"}


async def test_rows_are_read_by_key_and_by_the_beginning_of_one(world: World) -> None:
    journal = await world.journal("a")
    account, other = await world.account("a", 5), await world.account("a", 6)
    await journal.write(account, *(DriverRow(key, b"") for key in ("a", "a/1", "a/é", "a0", "b", "Ä")))
    await journal.write(other, DriverRow("a/2", b""))

    async def read(*keys: str, prefixes: Collection[str] = ()) -> list[str]:
        return sorted(await store(world).read(account.tenant, account.uuid, keys, prefixes))

    assert await read("a", "missing") == ["a"]
    assert await read(prefixes=["a/"]) == ["a/1", "a/é"]
    assert await read("b", "a/1", prefixes=["a/"]) == ["a/1", "a/é", "b"]
    assert await read(prefixes=[""]) == ["a", "a/1", "a/é", "a0", "b", "Ä"]
    assert await read(prefixes=["a/", "Ä", "none"]) == ["a/1", "a/é", "Ä"]
    assert await read() == []


async def test_a_node_that_lost_the_shard_changes_no_row(world: World) -> None:
    journal, account = await world.journal("a"), await world.account("a")
    await journal.write(account, DriverRow("a", b"1"))
    await world.give(account.shard, "b")
    assert await journal.write(account, DriverRow("a", b"2"), DriverRow("b", b"2")) == REFUSED
    assert await journal.write(account, ForgetDriverRows()) == REFUSED
    assert await journal.write(account, DriverRow("a", None)) == REFUSED
    assert await rows_of(world, account) == {"a": b"1"}


async def test_rows_are_stored_also_when_the_message_that_brought_them_is_a_repeat(world: World) -> None:
    journal, account = await world.journal("a"), await world.account("a")
    first = inbound("n1")
    assert await journal.write(account, first, DriverRow("a", b"1")) == COMMITTED
    assert await journal.write(account, inbound("n1"), DriverRow("a", b"2")) == Duplicate(first.id)
    assert await rows_of(world, account) == {"a": b"2"}


async def test_what_is_forgotten_goes_and_what_is_written_behind_it_stays(world: World) -> None:
    journal = await world.journal("a")
    account, other = await world.account("a", 5), await world.account("a", 6)
    for one in (account, other):
        await journal.write(one, DriverRow("a", b"1"), DriverRow("b", b"1"))
    await journal.write(account, DriverRow("c", b"1"), ForgetDriverRows(), DriverRow("a", b"2"))
    assert await rows_of(world, account) == {"a": b"2"}
    assert await rows_of(world, other) == {"a": b"1", "b": b"1"}
    assert (await count_of(world, account), await count_of(world, other)) == (1, 2)


async def test_rows_are_counted(world: World) -> None:
    journal, account = await world.journal("a"), await world.account("a")
    await journal.write(account, *(DriverRow(str(at), b"") for at in range(5)))
    await journal.write(account, DriverRow("1", b"1"), DriverRow("2", None), DriverRow("missing", None))
    await journal.write(account, DriverRow("9", b""), DriverRow("3", None))
    assert await count_of(world, account) == len(await rows_of(world, account)) == 4


async def test_an_account_with_too_many_rows_is_refused_more_and_no_other_is(world: World) -> None:
    journal = await world.journal("a")
    account, other = await world.account("a", 5), await world.account("a", 6)
    await world.database.pool.execute("INSERT INTO driver_row_count VALUES ($1, 500000)", account.uuid)
    full = journal.write(account, DriverRow("one more", b""))
    fine = journal.write(other, DriverRow("a", b""))
    assert isinstance(await full, Poison)
    assert await fine == COMMITTED
    assert await rows_of(world, account) == {}


async def test_a_row_that_was_copied_to_another_one_does_not_open(world: World) -> None:
    sealer = Sealer(PostgresDataKeys(world.database), SecretsSettings(master_key=MASTER_KEY))
    journal, account = await world.journal("a"), await world.account("a")
    await world.database.pool.execute("INSERT INTO tenant (id) VALUES ($1)", account.tenant)
    await sealer.load(account.tenant)
    sealed = sealer.seal(account.tenant, b"secret", binding(account.uuid, "a"))
    await journal.write(account, DriverRow("a", sealed), DriverRow("b", sealed))
    opened = DriverRowStore(world.database.pool, sealer)
    assert await opened.read(account.tenant, account.uuid, ["a"], ()) == {"a": b"secret"}
    with pytest.raises(CannotUnseal):
        await opened.read(account.tenant, account.uuid, ["b"], ())


class CountedPool:
    """Counts queries, which wait until the test lets them go on; `fail` is what the next one raises."""

    def __init__(self, pool: Pool) -> None:
        self.queries = 0
        self.fail: Exception | None = None
        self.go_on = asyncio.Event()
        self._pool = pool

    async def fetch(self, *query: Any) -> Any:
        self.queries += 1
        await self.go_on.wait()
        failure, self.fail = self.fail, None
        if failure is not None:
            raise failure
        return await self._pool.fetch(*query)


async def test_what_many_accounts_ask_for_at_once_is_read_together_and_each_gets_its_own(
    world: World,
) -> None:
    journal = await world.journal("a")
    accounts = [await world.account("a", shard) for shard in range(20)]
    for number, account in enumerate(accounts):
        own = str(number).encode()
        await journal.write(account, DriverRow("login/1", own), DriverRow("other", own), DriverRow("no", own))
    pool = CountedPool(world.database.pool)
    rows = DriverRowStore(cast("Pool", pool), cast("Sealer", PlainSealer()))
    reading = [
        asyncio.create_task(rows.read(account.tenant, account.uuid, ["other", "none"], ["login/"]))
        for account in accounts
    ]
    await asyncio.sleep(0)
    reading[-1].cancel()
    pool.go_on.set()
    found = await asyncio.gather(*reading[:-1])
    assert found == [{"login/1": str(number).encode(), "other": str(number).encode()} for number in range(19)]
    assert pool.queries <= AT_ONCE + 1
    again = await rows.read(accounts[0].tenant, accounts[0].uuid, (), ["login/"])
    assert again == {"login/1": b"0"}


async def test_rows_that_cannot_be_read_are_told_to_whoever_asked_and_to_nobody_after_them(
    world: World,
) -> None:
    await world.journal("a")
    account = await world.account("a")
    pool = CountedPool(world.database.pool)
    pool.fail = TimeoutError("no database")
    pool.go_on.set()
    rows = DriverRowStore(cast("Pool", pool), cast("Sealer", PlainSealer()))
    with pytest.raises(TimeoutError):
        await rows.read(account.tenant, account.uuid, (), ["login/"])
    assert await rows.read(account.tenant, account.uuid, (), ["login/"]) == {}
