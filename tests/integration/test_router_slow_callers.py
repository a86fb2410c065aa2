"""A thousand streams that nobody reads: the router holds a little for each, and serves the others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from time import monotonic
from typing import Any

import grpc.aio
import pytest

from sessionmesh.v1 import (
    event_pb2,
    event_pb2_grpc,
    media_pb2,
    media_pb2_grpc,
    session_pb2,
    session_pb2_grpc,
)
from tests.support.eventually import eventually
from tests.support.router_process import ProcessWorld, process_world, pss
from tests.support.router_world import ADMIN, new_account

pytestmark = pytest.mark.slow

STREAMS = 1_000
CONNECTIONS = 10
FRAME_BYTES = 16 * 1024
HELD_PER_STREAM = 640 * 1024
"""Most that the router may take for each; it takes about 240 KiB."""
STILL_SECONDS = 2.0
OTHERS_WAIT_SECONDS = 30.0
"""A call that is held up by those who read nothing never ends."""
# By default gRPC lets the window of a caller's stream grow to megabytes, which would have to be filled first.
SMALL_WINDOW = ("grpc.http2.bdp_probe", 0)


class Flow:
    """What has gone in at one end; it is still when nothing did for a while."""

    def __init__(self) -> None:
        self.bytes = 0
        self.open = 0
        self._last = monotonic()

    def add(self, size: int) -> None:
        self.bytes += size
        self._last = monotonic()

    async def until_still(self) -> None:
        await eventually(lambda: monotonic() - self._last > STILL_SECONDS, 120, "a standstill")

    async def flood(self, frame: Any) -> AsyncIterator[Any]:
        """`frame` again and again."""
        self.open += 1
        try:
            while True:
                yield frame
                self.add(FRAME_BYTES)
        finally:
            self.open -= 1


class Media(media_pb2_grpc.MediaServiceServicer):
    """Floods whoever downloads; reads uploads once `release` is set."""

    def __init__(self, flow: Flow) -> None:
        self.release = asyncio.Event()
        self.began = 0
        self._flow = flow

    async def GetMedia(self, _request: Any, _context: Any) -> Any:
        return media_pb2.GetMediaResponse()

    async def DownloadMedia(self, _request: Any, _context: Any) -> AsyncIterator[Any]:
        async for frame in self._flow.flood(media_pb2.DownloadMediaResponse(chunk=b"x" * FRAME_BYTES)):
            yield frame

    async def UploadMedia(self, requests: AsyncIterator[Any], _context: Any) -> Any:
        size = len((await anext(requests)).chunk)
        self.began += 1
        await self.release.wait()
        async for frame in requests:
            size += len(frame.chunk)
        return media_pb2.UploadMediaResponse(media=media_pb2.Media(size_bytes=size))


class Events(event_pb2_grpc.EventServiceServicer):
    def __init__(self, flow: Flow) -> None:
        self._flow = flow

    async def Subscribe(self, _request: Any, _context: Any) -> AsyncIterator[Any]:
        event = event_pb2.Event(labels={"filling": "x" * FRAME_BYTES})
        batch = event_pb2.SubscribeResponse(events=event_pb2.EventBatch(events=[event]))
        async for frame in self._flow.flood(batch):
            yield frame


class Sessions(session_pb2_grpc.SessionServiceServicer):
    def __init__(self, flow: Flow) -> None:
        self._flow = flow

    async def WatchSession(self, _request: Any, _context: Any) -> AsyncIterator[Any]:
        session = session_pb2.Session(detail="x" * FRAME_BYTES)
        async for frame in self._flow.flood(session_pb2.WatchSessionResponse(session=session)):
            yield frame


@pytest.fixture
async def world(postgres_url: str, etcd: str, cluster: str, tmp_path: Path) -> AsyncIterator[ProcessWorld]:
    async with process_world(postgres_url, etcd, cluster, tmp_path) as running:
        await running.start()
        yield running


@pytest.fixture
def flow() -> Flow:
    return Flow()


@pytest.fixture
async def media(world: ProcessWorld, flow: Flow) -> Media:
    servicer = Media(flow)
    await world.instance("media", {media_pb2_grpc.add_MediaServiceServicer_to_server: servicer})
    return servicer


Opened = Callable[[grpc.aio.Channel], Any]
Open = Callable[[ProcessWorld, Flow], Awaitable[Opened]]


async def downloads(_world: ProcessWorld, _flow: Flow) -> Opened:
    return lambda channel: media_pb2_grpc.MediaServiceStub(channel).DownloadMedia(
        media_pb2.DownloadMediaRequest(media_id="med_1"), metadata=ADMIN
    )


async def subscriptions(world: ProcessWorld, flow: Flow) -> Opened:
    await world.instance("webhook", {event_pb2_grpc.add_EventServiceServicer_to_server: Events(flow)})
    return lambda channel: event_pb2_grpc.EventServiceStub(channel).Subscribe(
        event_pb2.SubscribeRequest(), metadata=ADMIN
    )


async def watches(world: ProcessWorld, flow: Flow) -> Opened:
    account = new_account()
    add = session_pb2_grpc.add_SessionServiceServicer_to_server
    await (await world.node("n1", {add: Sessions(flow)})).own(account)
    return lambda channel: session_pb2_grpc.SessionServiceStub(channel).WatchSession(
        session_pb2.WatchSessionRequest(account_id=account), metadata=ADMIN
    )


@pytest.mark.usefixtures("media")
@pytest.mark.parametrize("kind", [downloads, subscriptions, watches])
async def test_callers_that_do_not_read_cost_little_and_hold_nobody_up(
    world: ProcessWorld, flow: Flow, kind: Open
) -> None:
    opened = await kind(world, flow)
    await others_are_served(world)
    before = pss(world.routers[0].pid)
    channels = [world.open(world.address, SMALL_WINDOW) for _ in range(CONNECTIONS)]
    calls = [opened(channels[number % CONNECTIONS]) for number in range(STREAMS)]
    await asyncio.gather(*(call.read() for call in calls))
    await flow.until_still()
    await others_are_served(world)
    assert flow.open == STREAMS
    assert held_per_stream(world, before) < HELD_PER_STREAM
    # Reading goes on where it stood.
    for _ in range(50):
        assert await calls[0].read() is not grpc.aio.EOF
    for call in calls:
        call.cancel()
    await eventually(lambda: flow.open == 0, what="the end of the streams at the other side")
    await others_are_served(world)


async def test_uploads_that_nobody_reads_cost_little_and_hold_nobody_up(
    world: ProcessWorld, flow: Flow, media: Media
) -> None:
    await others_are_served(world)
    before = pss(world.routers[0].pid)
    channels = [world.open(world.address, SMALL_WINDOW) for _ in range(CONNECTIONS)]
    enough = asyncio.Event()

    async def upload(channel: grpc.aio.Channel) -> tuple[int, int]:
        """Bytes sent, and received according to the other side."""
        call = media_pb2_grpc.MediaServiceStub(channel).UploadMedia(metadata=ADMIN)
        sent = 0
        while not enough.is_set():
            await call.write(media_pb2.UploadMediaRequest(chunk=b"x" * FRAME_BYTES))
            sent += FRAME_BYTES
            flow.add(FRAME_BYTES)
        await call.done_writing()
        return sent, (await call).media.size_bytes

    uploads = [asyncio.create_task(upload(channels[n % CONNECTIONS])) for n in range(STREAMS)]
    await eventually(lambda: media.began == STREAMS, 120, "the begin of all uploads")
    await flow.until_still()
    await others_are_served(world)
    assert held_per_stream(world, before) < HELD_PER_STREAM
    enough.set()
    media.release.set()
    for sent, received in await asyncio.gather(*uploads):
        assert sent == received


def held_per_stream(world: ProcessWorld, before: int) -> float:
    """Bytes that the router took for each stream."""
    return (pss(world.routers[0].pid) - before) / STREAMS


async def others_are_served(world: ProcessWorld) -> None:
    stub = media_pb2_grpc.MediaServiceStub(world.channel)
    for _ in range(20):
        await stub.GetMedia(
            media_pb2.GetMediaRequest(media_id="med_1"), metadata=ADMIN, timeout=OTHERS_WAIT_SECONDS
        )
