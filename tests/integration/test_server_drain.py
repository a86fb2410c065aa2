"""Draining and stopping: streams end in order, calls in flight finish, and what never ends is cut off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mesh_core import errors
from mesh_core.errors import MeshError, StartupError
from mesh_core.rpc.channels import open_channel
from mesh_core.rpc.server import Draining, Server, finishes, status, taken_within
from mesh_core.settings import ServerSettings
from tests.support.eventually import eventually
from tests.support.probe_service import (
    MESH,
    SERVICE,
    Echo,
    ProbeServicer,
    ProbeStub,
    add_probe_to_server,
    letters,
    make_server,
)


@pytest.fixture
async def servers() -> AsyncIterator[list[Server]]:
    """Servers to stop at the end."""
    started: list[Server] = []
    yield started
    for server in started:
        await server.stop()


async def start(
    servers: list[Server], servicer: object, drain_seconds: float = 10.0
) -> tuple[Server, ProbeStub]:
    server = make_server(ServerSettings(drain_seconds=drain_seconds))
    server.add(add_probe_to_server, servicer)
    await server.start()
    servers.append(server)
    return server, ProbeStub(open_channel(server.address))


async def failure(call: Any) -> MeshError:
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await call
    return status.from_rpc_error(failed.value)


class Held(ProbeServicer):
    """Unary calls and uploads wait for `release`; streams send one message and then nothing."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.release = asyncio.Event()
        self.closed = asyncio.Event()

    async def Unary(self, request: StringValue, _context: Any) -> StringValue:
        self.entered.set()
        await self.release.wait()
        return request

    async def Up(self, requests: AsyncIterator[StringValue], _context: Any) -> StringValue:
        return StringValue(value="".join([request.value async for request in requests]))

    async def Down(self, request: StringValue, _context: Any) -> AsyncIterator[StringValue]:
        try:
            yield request
            await asyncio.Event().wait()
        finally:
            self.closed.set()

    async def Both(self, _requests: AsyncIterator[StringValue], context: Any) -> None:
        try:
            await context.write(StringValue(value="hello"))
            await context.read()
        finally:
            self.closed.set()


async def test_a_call_in_flight_finishes_before_the_drain_ends(servers: list[Server]) -> None:
    held = Held()
    server, probe = await start(servers, held)
    call = probe.Unary(StringValue(value="x"), metadata=MESH)
    await held.entered.wait()
    drain = asyncio.create_task(server.drain())
    await server.draining.wait()
    assert not drain.done()
    held.release.set()
    assert (await call).value == "x"
    await drain


async def test_unary_calls_are_still_served_while_draining(servers: list[Server]) -> None:
    held = Held()
    server, probe = await start(servers, held)
    first = probe.Unary(StringValue(value="x"), metadata=MESH)
    await held.entered.wait()
    drain = asyncio.create_task(server.drain())
    await server.draining.wait()
    second = probe.Unary(StringValue(value="y"), metadata=MESH)
    held.release.set()
    assert (await first).value == "x"
    assert (await second).value == "y"
    await drain


async def test_a_drain_lasts_until_callers_have_gone_elsewhere(servers: list[Server]) -> None:
    server, probe = await start(servers, Echo())
    drain = asyncio.create_task(server.drain())
    await server.draining.wait()
    leaving_at = asyncio.get_running_loop().time() + 0.7
    while asyncio.get_running_loop().time() < leaving_at:
        assert not drain.done()
        await probe.Unary(StringValue(value="x"), metadata=MESH)
    await drain


async def test_callers_that_do_not_leave_do_not_hold_a_drain_up(servers: list[Server]) -> None:
    server, probe = await start(servers, Echo(), drain_seconds=0.5)
    drain = asyncio.create_task(server.drain())
    async with asyncio.timeout(10):
        while not drain.done():
            await probe.Unary(StringValue(value="x"), metadata=MESH)


@pytest.mark.parametrize("kind", ["Down", "Both"])
async def test_open_streams_end_with_going_away(servers: list[Server], kind: str) -> None:
    held = Held()
    server, probe = await start(servers, held)
    stream = (
        probe.Down(StringValue(value="x"), metadata=MESH) if kind == "Down" else probe.Both(metadata=MESH)
    )
    await stream.read()
    await server.drain()
    ended = await failure(stream.read())
    assert isinstance(ended, errors.GoingAway)
    assert held.closed.is_set()


async def test_a_handler_may_end_its_stream_itself_with_a_resume_token(servers: list[Server]) -> None:
    class Resumable(ProbeServicer):
        draining: Draining

        async def Down(self, request: StringValue, _context: Any) -> AsyncIterator[StringValue]:
            yield request
            await self.draining.wait()
            yield StringValue(value="last words")
            raise errors.GoingAway("resume-here")

    servicer = Resumable()
    server, probe = await start(servers, servicer)
    servicer.draining = server.draining
    stream = probe.Down(StringValue(value="x"), metadata=MESH)
    await stream.read()
    await server.drain()
    assert (await stream.read()).value == "last words"
    ended = await failure(stream.read())
    assert isinstance(ended, errors.GoingAway)
    assert ended.resume_token == "resume-here"


async def test_new_streams_are_refused_while_draining(servers: list[Server]) -> None:
    server, probe = await start(servers, Held())
    await server.drain()
    refused = await failure(probe.Down(StringValue(), metadata=MESH).read())
    assert isinstance(refused, errors.GoingAway)


async def test_a_stream_that_ends_by_itself_is_let_finish(servers: list[Server]) -> None:
    go_on = asyncio.Event()

    class Download(ProbeServicer):
        @finishes
        async def Down(self, request: StringValue, _context: Any) -> AsyncIterator[StringValue]:
            yield request
            await go_on.wait()
            yield request

    server, probe = await start(servers, Download())
    stream = probe.Down(StringValue(value="x"), metadata=MESH)
    await stream.read()
    drain = asyncio.create_task(server.drain())
    await server.draining.wait()
    go_on.set()
    assert (await stream.read()).value == "x"
    assert await stream.read() is grpc.aio.EOF
    await drain


async def test_an_upload_in_flight_finishes(servers: list[Server]) -> None:
    server, probe = await start(servers, Held())
    go_on = asyncio.Event()
    sent = asyncio.Event()

    async def parts() -> AsyncIterator[StringValue]:
        async for part in letters("ab"):
            yield part
        sent.set()
        await go_on.wait()
        yield StringValue(value="c")

    call = asyncio.ensure_future(probe.Up(parts(), metadata=MESH))
    await sent.wait()
    drain = asyncio.create_task(server.drain())
    await server.draining.wait()
    go_on.set()
    assert (await call).value == "abc"
    await drain


async def test_the_drain_ends_in_time_and_stop_cuts_what_is_left(servers: list[Server]) -> None:
    held = Held()
    server, probe = await start(servers, held, drain_seconds=0.1)
    call = probe.Unary(StringValue(value="x"), metadata=MESH)
    await held.entered.wait()
    async with asyncio.timeout(5):
        await server.drain()
        await server.stop()
    assert (await failure(call)).code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


@pytest.mark.slow
async def test_a_stream_whose_reader_stopped_reading_does_not_hold_the_drain_up(
    servers: list[Server],
) -> None:
    class Flood(ProbeServicer):
        def __init__(self) -> None:
            self.written = 0

        async def Down(self, _request: StringValue, _context: Any) -> AsyncIterator[StringValue]:
            while True:
                self.written += 1
                yield StringValue(value="x" * 1_000_000)

    flood = Flood()
    server, probe = await start(servers, flood, drain_seconds=2.0)
    stream = probe.Down(StringValue(), metadata=MESH)
    await stream.read()
    async with asyncio.timeout(10):
        await server.drain()
        stopped = flood.written
        await server.stop()
    assert flood.written == stopped


async def test_a_stream_that_nobody_reads_shortens_the_drain_to_what_others_need(
    servers: list[Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mesh_core.rpc.server.server._STREAM_END_SECONDS", 0.1)
    monkeypatch.setattr("mesh_core.rpc.server.server._DEAF_SECONDS", 0.3)

    class Flood(ProbeServicer):
        def __init__(self) -> None:
            self.ended = asyncio.Event()

        async def Down(self, _request: StringValue, _context: Any) -> AsyncIterator[StringValue]:
            try:
                while True:
                    yield StringValue(value="x" * 1_000_000)
            finally:
                self.ended.set()

    flood = Flood()
    server, probe = await start(servers, flood, drain_seconds=60.0)
    stream = probe.Down(StringValue(), metadata=MESH)
    await stream.read()
    async with asyncio.timeout(10):
        await server.drain()
        await server.stop()
    assert flood.ended.is_set()


async def test_a_marked_stream_that_nobody_reads_ends_and_says_so_to_who_reads_on(
    servers: list[Server],
) -> None:
    ended = asyncio.Event()

    class Flood(ProbeServicer):
        @taken_within(0.1)
        async def Down(self, _request: StringValue, _context: Any) -> AsyncIterator[StringValue]:
            try:
                while True:
                    yield StringValue(value="x" * 1_000_000)
            finally:
                ended.set()

    _, probe = await start(servers, Flood())
    stream = probe.Down(StringValue(), metadata=MESH)

    async def rest() -> None:
        while await stream.read() is not grpc.aio.EOF:
            pass

    async with asyncio.timeout(10):
        await stream.read()
        await ended.wait()
        assert (await failure(rest())).code is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_a_call_in_flight_is_waited_for_beside_a_stream_that_nobody_reads(
    servers: list[Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mesh_core.rpc.server.server._STREAM_END_SECONDS", 0.1)
    monkeypatch.setattr("mesh_core.rpc.server.server._DEAF_SECONDS", 0.2)

    class Both(Held):
        async def Down(self, _request: StringValue, _context: Any) -> AsyncIterator[StringValue]:
            while True:
                yield StringValue(value="x" * 1_000_000)

    both = Both()
    server, probe = await start(servers, both, drain_seconds=60.0)
    stream = probe.Down(StringValue(), metadata=MESH)
    await stream.read()
    call = probe.Unary(StringValue(value="x"), metadata=MESH)
    await both.entered.wait()
    drain = asyncio.create_task(server.drain())
    await eventually(lambda: server._in_flight.deaf == 1, what="the stream given up")
    assert not drain.done()
    both.release.set()
    assert (await call).value == "x"
    async with asyncio.timeout(10):
        await drain


async def test_health_says_not_serving_and_cannot_become_healthy_again(servers: list[Server]) -> None:
    server, _ = await start(servers, Echo())
    async with open_channel(server.address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        watch = health.Watch(health_pb2.HealthCheckRequest(service=SERVICE))
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        drain = asyncio.create_task(server.drain())
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        server.become_healthy()
        server.readiness.need("all", lambda: asyncio.sleep(0, ""))
        await server.readiness.look()
        for service in ("", SERVICE, "readiness"):
            answer = await health.Check(health_pb2.HealthCheckRequest(service=service))
            assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING
        await drain


async def test_after_stop_nothing_is_served_and_stopping_again_is_no_error(servers: list[Server]) -> None:
    server, probe = await start(servers, Echo())
    await server.drain()
    await server.stop()
    await server.stop()
    gone = await failure(probe.Unary(StringValue(), metadata=MESH))
    assert gone.code is grpc.StatusCode.UNAVAILABLE


async def test_two_servers_do_not_share_a_port(servers: list[Server]) -> None:
    server, _ = await start(servers, Echo())
    second = make_server(ServerSettings(listen=f"127.0.0.1:{server.port}"))
    with pytest.raises(StartupError, match=rf"MESH_SERVER_LISTEN='127.0.0.1:{server.port}' cannot be bound"):
        await second.start()
