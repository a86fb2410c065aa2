"""What the network said of numbers, kept in a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from redis.asyncio import Redis

from mesh_cli.embedded import free_port
from mesh_core.ids import new_uuid
from mesh_session_node.store import number_checks
from mesh_session_node.store.number_checks import Checked, NumberChecks
from sessionmesh.v1.contact_pb2 import NumberCheck
from tests.support.eventually import eventually

ADA, BOB, EVE = "+4915100000001", "+4915100000002", "+4915100000003"
THERE = NumberCheck(registered=True)
NOBODY = NumberCheck(check_time=Timestamp(seconds=7))


@pytest.fixture
async def checks(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[NumberChecks]:
    monkeypatch.setattr(number_checks, "TIMEOUT_SECONDS", 10.0)  # a busy machine is no wrong answer
    checks = NumberChecks(redis_url, most=2)
    yield checks
    await checks.close()


@pytest.fixture
def whose() -> Checked:
    return Checked(new_uuid(), "simulated")


async def test_what_was_said_is_known_and_nothing_else(checks: NumberChecks, whose: Checked) -> None:
    await checks.keep(whose, {ADA: THERE, BOB: NOBODY})
    assert await checks.known(whose, [EVE, BOB, ADA]) == {BOB: NOBODY, ADA: THERE}


async def test_nothing_is_known_to_another_tenant_or_in_another_network(
    checks: NumberChecks, whose: Checked
) -> None:
    await checks.keep(whose, {ADA: THERE})
    assert await checks.known(Checked(new_uuid(), "simulated"), [ADA]) == {}
    assert await checks.known(Checked(whose.tenant, "whatsapp_web"), [ADA]) == {}


async def test_what_was_said_lasts_two_to_four_hours(
    checks: NumberChecks, whose: Checked, redis_url: str
) -> None:
    await checks.keep(whose, {ADA: THERE, BOB: THERE})
    said, ends = whose.keys
    async with Redis.from_url(redis_url) as redis:
        now = (await redis.time())[0] * 1000
        lasting = [float(await redis.zscore(ends, phone) or 0) - now for phone in (ADA, BOB)]
        assert all(2 * 3_590_000 < one < 4 * 3_601_000 for one in lasting)
        assert lasting[0] != lasting[1]
        assert 0 < await redis.pttl(said) <= 4 * 3_600_000
        await redis.zadd(ends, {ADA: now - 1})
        assert await checks.known(whose, [ADA, BOB]) == {BOB: THERE}
        await checks.keep(whose, {EVE: THERE})
        assert await redis.hexists(said, ADA) is False


async def test_of_too_many_those_go_that_would_end_first(
    checks: NumberChecks, whose: Checked, redis_url: str
) -> None:
    await checks.keep(whose, {ADA: THERE, BOB: THERE})
    async with Redis.from_url(redis_url) as redis:
        await redis.zadd(whose.keys[1], {BOB: 60_000 + (await redis.time())[0] * 1000})
        await checks.keep(whose, {EVE: THERE})
        assert await checks.known(whose, [ADA, BOB, EVE]) == {ADA: THERE, EVE: THERE}
        assert await redis.hlen(whose.keys[0]) == 2


async def test_a_redis_that_forgot_everything_is_filled_anew(
    checks: NumberChecks, whose: Checked, redis_url: str
) -> None:
    await checks.keep(whose, {ADA: THERE})
    async with Redis.from_url(redis_url) as redis:
        await redis.delete(*whose.keys)
        await redis.script_flush()
    assert await checks.known(whose, [ADA]) == {}
    await checks.keep(whose, {ADA: THERE})
    assert await checks.known(whose, [ADA]) == {ADA: THERE}


@pytest.mark.parametrize("url", ["", "redis://127.0.0.1:{port}/0"], ids=["none", "away"])
async def test_without_redis_nothing_is_known_and_nothing_fails(url: str, whose: Checked) -> None:
    checks = NumberChecks(url.format(port=free_port()))
    await checks.keep(whose, {ADA: THERE})
    assert await checks.known(whose, [ADA]) == {}
    await checks.close()


async def test_a_silent_redis_is_waited_for_once_and_then_left_alone(whose: Checked) -> None:
    asked = 0

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        await reader.read()
        writer.close()

    async with await asyncio.start_server(listen, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        checks = NumberChecks(f"redis://127.0.0.1:{port}/0")
        assert await checks.known(whose, [ADA]) == {}
        await eventually(lambda: asked)
        await checks.keep(whose, {ADA: THERE})
        assert asked == 1
        await checks.close()
