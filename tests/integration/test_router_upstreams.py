"""A router's streams to one address: as many as it takes, on as many channels as that needs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from google.protobuf.wrappers_pb2 import StringValue

from mesh_core.rpc import options
from mesh_core.rpc.channels import ChannelPool
from mesh_core.rpc.peers import PeerPool
from mesh_core.rpc.server import Server
from mesh_router.proxy import Upstreams, upstreams
from mesh_router.proxy.routes import Destination, Route
from tests.support.eventually import eventually
from tests.support.probe_service import (
    MESH,
    MESH_KEY,
    SERVICE,
    ProbeServicer,
    add_probe_to_server,
    make_server,
)

LIMIT = 3
DOWN = Route(SERVICE, "Down", Destination.MEDIA, False, True, idempotent=False, batched=False)


class Open(ProbeServicer):
    """Answers once and stays open."""

    def __init__(self) -> None:
        self.open = 0

    async def Down(self, request: StringValue, _context: Any) -> AsyncIterator[StringValue]:
        self.open += 1
        try:
            yield request
            await asyncio.Event().wait()
        finally:
            self.open -= 1


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options, "CONCURRENT_STREAMS", LIMIT)
    monkeypatch.setattr(upstreams, "STREAMS_ABREAST", LIMIT - 1)


@pytest.fixture
async def served(limits: None) -> AsyncIterator[tuple[Server, Open]]:
    servicer = Open()
    server = make_server()
    server.add(add_probe_to_server, servicer)
    await server.start()
    yield server, servicer
    await server.stop()


@pytest.fixture
async def channels() -> AsyncIterator[ChannelPool]:
    made = ChannelPool()
    yield made
    await made.close()


async def opened(streams: Upstreams, server: Server, number: int) -> list[Any]:
    """So many streams, each of which has had its answer."""
    calls = [streams.stream(server.address, DOWN, b"", metadata=MESH) for _ in range(number)]
    async with asyncio.timeout(10):
        await asyncio.gather(*(call.read() for call in calls))
    return calls


async def test_more_streams_are_opened_than_one_connection_may_have(
    served: tuple[Server, Open], channels: ChannelPool
) -> None:
    server, servicer = served
    streams = Upstreams(channels, PeerPool(channels, MESH_KEY, None))
    await opened(streams, server, 3 * LIMIT)
    assert servicer.open == 3 * LIMIT


async def test_streams_that_ended_leave_their_room_to_others(
    served: tuple[Server, Open], channels: ChannelPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, servicer = served
    streams = Upstreams(channels, PeerPool(channels, MESH_KEY, None))
    numbers: set[int] = set()
    get = channels.get

    def counting(address: str, number: int = 0) -> Any:
        numbers.add(number)
        return get(address, number)

    monkeypatch.setattr(channels, "get", counting)
    for _ in range(4):
        for call in await opened(streams, server, LIMIT):
            call.cancel()
        await eventually(lambda: servicer.open == 0, what="the end of the streams")
    assert numbers == {0, 1}
