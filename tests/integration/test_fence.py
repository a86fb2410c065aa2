"""The fence in Postgres: who may take a shard from whom, and that nothing stale gets through."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from typing import Any

import asyncpg
import pytest

from mesh_core.ownership.participant.fence import (
    Fence,
    FenceBeats,
    IncarnationExpired,
    TakeOutcome,
    forget_incarnations,
)
from mesh_core.ownership.participant.keeper import Timings

SLOW = Timings()


@pytest.fixture
async def connect(postgres_url: str) -> AsyncIterator[Callable[[], Awaitable[asyncpg.Connection[Any]]]]:
    opened: list[asyncpg.Connection[Any]] = []

    async def open_one() -> asyncpg.Connection[Any]:
        opened.append(await asyncpg.connect(postgres_url))
        return opened[-1]

    yield open_one
    for connection in opened:
        connection.terminate()


@pytest.fixture
async def sql(connect: Callable[[], Awaitable[asyncpg.Connection[Any]]]) -> asyncpg.Connection[Any]:
    return await connect()


class BeatingFence(Fence):
    """Both halves of what an incarnation does with Postgres."""

    def __init__(self, connect: Callable[[], Awaitable[asyncpg.Connection[Any]]], incarnation: str) -> None:
        super().__init__(connect, incarnation, SLOW)
        self.beat = FenceBeats(connect, incarnation, SLOW).beat


Starter = Callable[[str], Awaitable[BeatingFence]]


@pytest.fixture
def node(connect: Callable[[], Awaitable[asyncpg.Connection[Any]]]) -> Starter:
    async def start(incarnation: str) -> BeatingFence:
        fence = BeatingFence(connect, incarnation)
        await fence.register(incarnation.rpartition("-")[0], f"{incarnation}:1")
        return fence

    return start


async def take(
    fence: Fence, claims: Mapping[int, int], dead: Collection[str] = ()
) -> dict[int, tuple[str, int]]:
    return {one.shard: (one.outcome.value, one.epoch) for one in await fence.take(claims, dead)}


async def silence(sql: asyncpg.Connection[Any], incarnation: str) -> None:
    """As if its last beat were older than the TTL."""
    await sql.execute(
        "UPDATE node_incarnation SET beat_at = clock_timestamp() - interval '8 s' WHERE id = $1", incarnation
    )


async def test_a_free_shard_is_taken_at_the_next_epoch(node: Starter) -> None:
    a = await node("a-1")
    assert await take(a, {5: 1, 6: 2}) == {5: ("taken", 1), 6: ("taken", 1)}


async def test_a_repeated_take_gets_the_same_answer(node: Starter) -> None:
    a = await node("a-1")
    await take(a, {5: 1})
    assert await take(a, {5: 1}) == {5: ("taken", 1)}


async def test_a_take_under_a_new_claim_raises_the_epoch_of_my_own_shard(node: Starter) -> None:
    a = await node("a-1")
    await take(a, {5: 1})
    assert await take(a, {5: 2}) == {5: ("taken", 2)}


async def test_a_late_take_of_an_earlier_claim_moves_nothing(node: Starter) -> None:
    a = await node("a-1")
    await take(a, {5: 2})
    assert await take(a, {5: 1}) == {5: ("stale", 1)}


async def test_a_late_take_does_not_take_back_what_was_released(node: Starter) -> None:
    a = await node("a-1")
    await take(a, {5: 1})
    await a.release({5: 1})
    assert await take(a, {5: 1}) == {5: ("stale", 1)}


async def test_a_living_holder_is_waited_for_and_named(node: Starter) -> None:
    a, b = await node("a-1"), await node("b-1")
    await take(a, {5: 1})
    [answer] = await b.take({5: 1}, [])
    assert (answer.outcome, answer.holder, answer.node, answer.address) == (
        TakeOutcome.WAIT,
        "a-1",
        "a",
        "a-1:1",
    )


async def test_the_holder_learns_from_its_beat_what_others_wait_for(node: Starter) -> None:
    a, b = await node("a-1"), await node("b-1")
    await take(a, {5: 1, 6: 2})
    await take(b, {5: 1})
    assert (await a.beat())[1] == {5: 1}


async def test_a_wish_that_is_not_repeated_lapses(node: Starter, sql: asyncpg.Connection[Any]) -> None:
    a, b = await node("a-1"), await node("b-1")
    await take(a, {5: 1})
    await take(b, {5: 1})
    await sql.execute("UPDATE shard_fence SET wanted_until = clock_timestamp() WHERE shard = 5")
    assert (await a.beat())[1] == {}


async def test_a_released_shard_is_taken_at_once(node: Starter) -> None:
    a, b = await node("a-1"), await node("b-1")
    await take(a, {5: 1})
    await a.release({5: 1})
    assert await take(b, {5: 1}) == {5: ("taken", 2)}


async def test_a_release_at_another_epoch_does_nothing(node: Starter) -> None:
    a, b = await node("a-1"), await node("b-1")
    await take(a, {5: 1})
    await take(a, {5: 2})
    await a.release({5: 1})
    assert (await take(b, {5: 1}))[5][0] == "wait"


async def test_a_holder_whose_beat_is_older_than_the_ttl_is_expired_for_good(
    node: Starter, sql: asyncpg.Connection[Any]
) -> None:
    a, b = await node("a-1"), await node("b-1")
    await take(a, {5: 1})
    await silence(sql, "a-1")
    assert await take(b, {5: 1}) == {5: ("taken", 2)}
    with pytest.raises(IncarnationExpired):
        await a.beat()
    with pytest.raises(IncarnationExpired):
        await a.take({6: 2}, [])


async def test_a_beat_in_time_saves_the_holder(node: Starter, sql: asyncpg.Connection[Any]) -> None:
    a, b = await node("a-1"), await node("b-1")
    await take(a, {5: 1})
    await silence(sql, "a-1")
    await a.beat()
    assert (await take(b, {5: 1}))[5][0] == "wait"


async def test_evidence_of_death_counts_for_that_incarnation_only(node: Starter) -> None:
    a, again, b = await node("a-1"), await node("a-2"), await node("b-1")
    await take(a, {5: 1})
    await take(again, {6: 1})
    assert await take(b, {5: 1, 6: 2}, dead=["a-1"]) == {5: ("taken", 2), 6: ("wait", 1)}
    await again.beat()


async def test_one_judgement_frees_all_shards_of_the_dead(node: Starter) -> None:
    a, b, c = await node("a-1"), await node("b-1"), await node("c-1")
    await take(a, dict.fromkeys(range(100), 1))
    await take(b, {5: 1}, dead=["a-1"])
    assert await take(c, {6: 1, 7: 2}) == {6: ("taken", 2), 7: ("taken", 2)}


async def test_a_whole_node_is_taken_over_within_a_second(node: Starter) -> None:
    a, b = await node("a-1"), await node("b-1")
    everything = {shard: shard + 1 for shard in range(4096)}
    await take(a, everything)
    async with asyncio.timeout(1.0):
        assert {outcome for outcome, _ in (await take(b, everything, dead=["a-1"])).values()} == {"taken"}


MUTATIONS = {
    "the judge does not lock": ("ORDER BY n.id FOR UPDATE", "ORDER BY n.id"),
    "the judge's lock passes a running batch": (
        "ORDER BY n.id FOR UPDATE",
        "ORDER BY n.id FOR NO KEY UPDATE",
    ),
}
WRITE = """
CREATE TABLE written (shard smallint, epoch bigint, at timestamptz);
CREATE TABLE tenure_end (shard smallint, epoch bigint, at timestamptz);
CREATE FUNCTION note_end() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  INSERT INTO tenure_end VALUES (old.shard, old.epoch, clock_timestamp()); RETURN NULL; END $$;
CREATE TRIGGER note AFTER UPDATE ON shard_fence
  FOR EACH ROW WHEN (new.epoch > old.epoch) EXECUTE FUNCTION note_end();
-- As the journal does: lock the incarnation, compare in a later statement, then write; but slowly.
CREATE FUNCTION write_slowly(s smallint, e bigint, me text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM FROM node_incarnation WHERE id = me AND NOT expired FOR KEY SHARE;
  IF NOT FOUND THEN RAISE EXCEPTION 'expired' USING ERRCODE = 'SM001'; END IF;
  PERFORM FROM shard_fence WHERE shard = s AND holder = me AND epoch = e AND NOT released;
  IF FOUND THEN
    PERFORM pg_sleep(0.02);
    INSERT INTO written VALUES (s, e, clock_timestamp());
  END IF;
END $$;
"""
STALE = "SELECT count(*) FROM written w JOIN tenure_end t USING (shard, epoch) WHERE w.at > t.at"


async def stale_writes(
    sql: asyncpg.Connection[Any], connect: Callable[[], Awaitable[asyncpg.Connection[Any]]], node: Starter
) -> int:
    """A node after another declares the one before dead, while that one writes; counts writes after their
    tenure.
    """
    await sql.execute(WRITE)
    tenures: dict[int, tuple[str, int]] = {}

    async def write_until_expired(incarnation: str) -> None:
        connection = await connect()
        mine = [(shard, epoch) for shard, (holder, epoch) in tenures.items() if holder == incarnation]
        for shard, epoch in mine * 2:
            try:
                await connection.execute("SELECT write_slowly($1, $2, $3)", shard, epoch, incarnation)
            except asyncpg.PostgresError as error:
                if error.sqlstate != "SM001":
                    raise
                return

    writers = []
    for turn in range(15):
        fence = await node(f"n-{turn}")
        for take in await fence.take(dict.fromkeys(range(8), 1), [f"n-{turn - 1}"]):
            assert take.outcome is TakeOutcome.TAKEN
            tenures[take.shard] = (f"n-{turn}", take.epoch)
        await fence.close()
        writers.append(asyncio.create_task(write_until_expired(f"n-{turn}")))
        before = await sql.fetchval("SELECT count(*) FROM written")
        while await sql.fetchval("SELECT count(*) FROM written") < before + 2:
            assert not writers[-1].done()
    await asyncio.gather(*writers)
    return int(await sql.fetchval(STALE))


@pytest.mark.slow
async def test_nothing_is_written_after_a_tenure_ended(
    sql: asyncpg.Connection[Any], connect: Callable[[], Awaitable[asyncpg.Connection[Any]]], node: Starter
) -> None:
    assert await stale_writes(sql, connect, node) == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTATIONS)
async def test_the_guard_against_stale_writes_is_needed(
    name: str,
    sql: asyncpg.Connection[Any],
    connect: Callable[[], Awaitable[asyncpg.Connection[Any]]],
    node: Starter,
) -> None:
    """Without it, the same traffic lets stale writes through."""
    source: str = await sql.fetchval("SELECT pg_get_functiondef('take_shards'::regproc)")
    guard, instead = MUTATIONS[name]
    assert guard in source
    await sql.execute(source.replace(guard, instead))
    assert await stale_writes(sql, connect, node) > 0


async def test_opposed_takeovers_never_deadlock(sql: asyncpg.Connection[Any], node: Starter) -> None:
    fences = [await node(f"{name}-1") for name in "abcd"]
    claims = iter(range(1, 10**6))

    async def contend(fence: BeatingFence) -> None:
        for _ in range(30):
            shards = random.sample(range(512), 256)
            got = await fence.take({shard: next(claims) for shard in shards}, [])
            held = {take.shard: take.epoch for take in got if take.outcome is TakeOutcome.TAKEN}
            await fence.release(held)
            await fence.beat()

    await asyncio.gather(*[contend(fence) for fence in fences])
    assert (
        await sql.fetchval("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()") == 0
    )


async def test_only_incarnations_that_ended_long_ago_and_hold_nothing_are_forgotten(
    node: Starter, sql: asyncpg.Connection[Any]
) -> None:
    holder, _, _ = [await node(name) for name in ("holder-1", "idle-1", "recent-1")]
    await take(holder, {5: 1})
    await sql.execute(
        "UPDATE node_incarnation SET beat_at = now() - interval '2 days' WHERE node <> 'recent'"
    )
    assert await forget_incarnations(sql) == 1
    left = await sql.fetch("SELECT id FROM node_incarnation ORDER BY id")
    assert [row["id"] for row in left] == ["holder-1", "recent-1"]


async def test_a_shard_counts_as_held_while_its_holder_lives(
    node: Starter, sql: asyncpg.Connection[Any]
) -> None:
    a = await node("a-1")
    assert not await a.any_held()
    await take(a, {5: 1})
    assert await a.any_held()
    await silence(sql, "a-1")
    assert not await a.any_held()
