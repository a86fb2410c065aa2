"""What somebody without a key can do to a server by its connections alone, and what others notice of it."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from dataclasses import dataclass

import grpc.aio
import psutil
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mesh_core.rpc import options
from mesh_core.rpc.channels import open_channel
from mesh_core.rpc.options import CONCURRENT_STREAMS
from mesh_core.rpc.server import Server, refusals, status
from mesh_core.rpc.server.refusals import ENDED
from tests.support.eventually import eventually
from tests.support.probe_service import SERVICE, Echo, ProbeStub, add_probe_to_server, make_server
from tests.support.raw_http2 import MAX_CONCURRENT_STREAMS, RawConnection, rapid_resets, raw_connection

MIB = 1024 * 1024
RESETS = 100_000
BODIES = 60
BODIES_COST = 120 * MIB
"""Most that they may take, of 240 MiB."""
RESETS_COST = 120 * MIB
"""Most that those may take; they take 30 to 90. Without a limit of streams, calls of others are cancelled."""


@dataclass(frozen=True, slots=True)
class Prober:
    """A server in a process of its own."""

    address: str
    memory: psutil.Process

    def held(self) -> int:
        """Its memory in bytes."""
        return int(self.memory.memory_info().rss)


@pytest.fixture
async def prober() -> AsyncIterator[Prober]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.support.probe_process", env=os.environ.copy(), stdout=PIPE
    )
    assert process.stdout is not None
    try:
        line = (await process.stdout.readline()).decode()
        yield Prober(f"127.0.0.1:{line.removeprefix('port ').strip()}", psutil.Process(process.pid))
    finally:
        process.kill()
        await process.wait()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = make_server()
    made.add(add_probe_to_server, Echo())
    await made.start()
    yield made
    await made.stop()


async def ask(address: str) -> None:
    """What a bystander asks, on a connection of its own."""
    async with open_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        await stub.Check(health_pb2.HealthCheckRequest(), timeout=30, wait_for_ready=True)


async def reset_streams(address: str) -> None:
    """Open and reset many, on one connection after the other where the server has enough of one."""
    left = RESETS
    while left > 0:
        async with raw_connection(address) as connection:
            left -= await rapid_resets(connection, f"/{SERVICE}/Unary", left)


async def test_streams_that_are_reset_at_once_cost_little_and_cancel_nobodys_calls(prober: Prober) -> None:
    await ask(prober.address)
    before = prober.held()
    resetting = [asyncio.create_task(reset_streams(prober.address)) for _ in range(2)]
    while not all(task.done() for task in resetting):
        await ask(prober.address)
    await asyncio.gather(*resetting)
    assert prober.held() - before < RESETS_COST


@pytest.mark.parametrize(
    "path",
    [
        *(f"/{SERVICE}/{name}" for name in ("Unary", "Public", "Down", "Up", "Both", "Unheard")),
        "/grpc.health.v1.Health/Watch",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    ],
)
async def test_bodies_of_calls_that_nobody_may_make_are_not_kept(prober: Prober, path: str) -> None:
    await ask(prober.address)
    before = prober.held()
    async with raw_connection(prober.address) as connection:
        pouring = asyncio.create_task(connection.pour(path, BODIES, 4 * MIB - 100, 0.5))
        most = before
        while not pouring.done():
            await ask(prober.address)
            most = max(most, prober.held())
        assert await pouring > 0
    assert most - before < BODIES_COST


async def test_a_caller_with_a_large_request_and_no_key_learns_why_it_is_refused(server: Server) -> None:
    async with open_channel(server.address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await ProbeStub(channel).Unary(StringValue(value="x" * 4 * MIB), timeout=10)
    assert status.from_rpc_error(refused.value).reason == "CREDENTIALS_MISSING"


async def test_a_large_request_without_a_key_is_served_where_none_is_asked_for(server: Server) -> None:
    large = StringValue(value="x" * 3 * MIB)
    async with open_channel(server.address) as channel:
        assert await ProbeStub(channel).Public(large, timeout=10) == large


async def test_a_connection_is_told_how_many_streams_it_may_open(server: Server) -> None:
    async with raw_connection(server.address) as connection:
        await eventually(lambda: connection.settings, what="the server's settings")
        assert connection.settings[MAX_CONCURRENT_STREAMS] == CONCURRENT_STREAMS


async def test_a_connection_that_says_nothing_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options, "HANDSHAKE_SECONDS", 1)
    made = make_server()
    await made.start()
    async with raw_connection(made.address, greeting=False) as connection:
        await connection.wait_ended(10)
    await made.stop()


async def test_a_connection_without_a_call_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options, "IDLE_SECONDS", 1)
    made = make_server()
    await made.start()
    async with raw_connection(made.address) as connection:
        await connection.wait_ended(10)
    await made.stop()


async def test_connections_beyond_the_limit_are_closed_and_those_there_are_served(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(options, "MAX_CONNECTIONS", 5)
    made = make_server()
    made.add(add_probe_to_server, Echo())
    await made.start()
    async with open_channel(made.address) as channel:
        await ProbeStub(channel).Public(StringValue(value="x"))
        strangers = [await RawConnection.open(made.address) for _ in range(10)]
        async with asyncio.timeout(15):  # a little later keepalive ends them all, since they answer no ping
            await eventually(lambda: sum(one.ended for one in strangers) == 6, what="the end of six")
        await ProbeStub(channel).Public(StringValue(value="x"))
        for stranger in strangers:
            await stranger.close()
    await made.stop()


@pytest.mark.parametrize("path", [f"/{SERVICE}/Unary", f"/{SERVICE}/Both", "/unknown.Service/Call"])
async def test_a_connection_whose_calls_are_refused_over_and_over_ends_and_others_stay(
    server: Server, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(refusals, "REFUSED_OF_ADDRESS", 20)
    monkeypatch.setattr(refusals, "REFUSED_OF_CONNECTION", 5)
    before = ENDED.value
    async with raw_connection(server.address) as other, raw_connection(server.address) as refused:
        other.begin(f"/{SERVICE}/Unary")
        for _ in range(30):
            refused.begin(path)
        await refused.wait_ended(10)
        await eventually(lambda: ENDED.value == before + 1, what="the count of ended connections")
        assert not other.ended
