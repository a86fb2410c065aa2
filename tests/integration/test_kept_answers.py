"""What networks answered, kept in a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from mesh_cli.embedded import free_port
from mesh_core.errors import Unavailable
from mesh_core.ids import new_uuid
from mesh_core.kept import answers as kept_answers
from mesh_core.kept.answers import Kept, KeptAnswers
from tests.support.eventually import eventually

ADA, BOB, EVE = "+4915100000001", "+4915100000002", "+4915100000003"
THERE, NOBODY = b"there", b""


@pytest.fixture
async def answers(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[KeptAnswers]:
    monkeypatch.setattr(kept_answers, "TIMEOUT_SECONDS", 10.0)  # a busy machine is no wrong answer
    answers = KeptAnswers(redis_url, most=2)
    yield answers
    await answers.close()


@pytest.fixture
def whose() -> Kept:
    return Kept(new_uuid(), "simulated", "numbers")


async def test_what_was_said_is_known_and_nothing_else(answers: KeptAnswers, whose: Kept) -> None:
    await answers.keep(whose, {ADA: THERE, BOB: NOBODY})
    assert await answers.known(whose, [EVE, BOB, ADA]) == {BOB: NOBODY, ADA: THERE}


async def test_nothing_is_known_to_another_tenant_or_in_another_network(
    answers: KeptAnswers, whose: Kept
) -> None:
    await answers.keep(whose, {ADA: THERE})
    assert await answers.known(Kept(new_uuid(), "simulated", "numbers"), [ADA]) == {}
    assert await answers.known(Kept(whose.tenant, "whatsapp_web", "numbers"), [ADA]) == {}
    assert await answers.known(Kept(whose.tenant, "simulated", "pictures"), [ADA]) == {}


async def test_what_was_said_lasts_two_to_four_hours(
    answers: KeptAnswers, whose: Kept, redis_url: str
) -> None:
    await answers.keep(whose, {ADA: THERE, BOB: THERE})
    said, ends = whose.keys
    async with Redis.from_url(redis_url) as redis:
        now = (await redis.time())[0] * 1000
        lasting = [float(await redis.zscore(ends, phone) or 0) - now for phone in (ADA, BOB)]
        assert all(2 * 3_590_000 < one < 4 * 3_601_000 for one in lasting)
        assert lasting[0] != lasting[1]
        assert 0 < await redis.pttl(said) <= 4 * 3_600_000
        await redis.zadd(ends, {ADA: now - 1})
        assert await answers.known(whose, [ADA, BOB]) == {BOB: THERE}
        await answers.keep(whose, {EVE: THERE})
        assert await redis.hexists(said, ADA) is False


async def test_of_too_many_those_go_that_would_end_first(
    answers: KeptAnswers, whose: Kept, redis_url: str
) -> None:
    await answers.keep(whose, {ADA: THERE, BOB: THERE})
    async with Redis.from_url(redis_url) as redis:
        await redis.zadd(whose.keys[1], {BOB: 60_000 + (await redis.time())[0] * 1000})
        await answers.keep(whose, {EVE: THERE})
        assert await answers.known(whose, [ADA, BOB, EVE]) == {ADA: THERE, EVE: THERE}
        assert await redis.hlen(whose.keys[0]) == 2


async def test_a_redis_that_forgot_everything_is_filled_anew(
    answers: KeptAnswers, whose: Kept, redis_url: str
) -> None:
    await answers.keep(whose, {ADA: THERE})
    async with Redis.from_url(redis_url) as redis:
        await redis.delete(*whose.keys)
        await redis.script_flush()
    assert await answers.known(whose, [ADA]) == {}
    await answers.keep(whose, {ADA: THERE})
    assert await answers.known(whose, [ADA]) == {ADA: THERE}


@pytest.mark.parametrize("url", ["", "redis://127.0.0.1:{port}/0"], ids=["none", "away"])
async def test_without_redis_nothing_is_known_and_nothing_fails(url: str, whose: Kept) -> None:
    answers = KeptAnswers(url.format(port=free_port()))
    await answers.keep(whose, {ADA: THERE})
    assert await answers.known(whose, [ADA]) == {}
    await answers.close()


async def test_a_silent_redis_is_waited_for_once_and_then_left_alone(whose: Kept) -> None:
    asked = 0

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        await reader.read()
        writer.close()

    async with await asyncio.start_server(listen, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        answers = KeptAnswers(f"redis://127.0.0.1:{port}/0")
        assert await answers.known(whose, [ADA]) == {}
        await eventually(lambda: asked)
        await answers.keep(whose, {ADA: THERE})
        assert asked == 1
        await answers.close()


async def test_what_is_not_so_any_more_is_forgotten_alone(answers: KeptAnswers, whose: Kept) -> None:
    await answers.keep(whose, {ADA: THERE, BOB: THERE})
    await answers.forget(whose, [ADA])
    assert await answers.known(whose, [ADA, BOB]) == {BOB: THERE}


async def test_one_tenants_answers_are_cleared_and_no_others(answers: KeptAnswers, whose: Kept) -> None:
    other, pictures = Kept(new_uuid(), "simulated", "numbers"), Kept(whose.tenant, "simulated", "pictures")
    for kept in (whose, pictures, other):
        await answers.keep(kept, {ADA: THERE})
    assert await answers.clear(whose.tenant) == 2
    assert await answers.known(whose, [ADA]) == await answers.known(pictures, [ADA]) == {}
    assert await answers.known(other, [ADA]) == {ADA: THERE}
    assert await answers.clear(None) >= 1
    assert await answers.known(other, [ADA]) == {}


async def test_nothing_is_cleared_where_there_is_no_redis() -> None:
    assert await KeptAnswers("").clear(None) == 0
    away = KeptAnswers(f"redis://127.0.0.1:{free_port()}/0")
    with pytest.raises(Unavailable):
        await away.clear(None)
    await away.close()
