"""What a node says to a sidecar that does not read."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from mesh_core.framing import FrameDecoder
from mesh_session_node.drivers.whatsapp_web import stream as module
from mesh_session_node.drivers.whatsapp_web.stream import MAX_FRAME_BYTES, Stream
from sessionmesh.internal.v1 import linked_device_pb2 as pb


def more_than_a_socket_holds() -> bytes:
    """By little: of what is left behind a transport would keep more."""
    one, other = socket.socketpair()
    with one, other:
        one.setblocking(False)
        return bytes(one.send(bytes(4 * 1024 * 1024)) + 1000)


class Nobody:
    """Implements `Receiver`."""

    def heard(self, response: pb.RunResponse) -> None:
        raise AssertionError(response)

    def broken(self, detail: str) -> None:
        raise AssertionError(detail)

    def gone(self, detail: str) -> None:
        """As at the end of every test."""


class Full:
    """A stream whose sidecar reads nothing until it is asked what it was told."""

    def __init__(self, stream: Stream, other: socket.socket) -> None:
        self.stream = stream
        self._other = other
        self.number = stream.register(Nobody())

    def send(self, message: bytes, number: int = 0) -> None:
        send = pb.SendDeviceMessage(message=message)
        self.stream.write(pb.RunRequest(connection=number or self.number, send=send))

    async def told(self, last: str) -> list[str]:
        """The kinds of requests, up to the first of one kind."""
        loop, decoder, kinds = asyncio.get_running_loop(), FrameDecoder(MAX_FRAME_BYTES), list[str]()
        while last not in kinds:
            frames = decoder.feed(await loop.sock_recv(self._other, 1 << 20))
            kinds += [pb.RunRequest.FromString(frame).WhichOneof("request") or "" for frame in frames]
        return kinds


@pytest.fixture
async def full() -> AsyncIterator[Full]:
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    stream = Stream(Nobody(), hang_seconds=0.0)
    await asyncio.get_running_loop().create_unix_connection(lambda: stream, sock=ours)
    full = Full(stream, theirs)
    full.send(more_than_a_socket_holds())
    await asyncio.sleep(0)  # one turn of the loop, in which it is written as far as there is room
    yield full
    stream.end("the test is over")
    theirs.close()


async def test_what_waits_for_a_sidecar_that_reads_nothing_is_bounded(
    full: Full, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_WAITING_BYTES", 10_000)
    full.send(bytes(9_000))
    broken = asyncio.create_task(full.stream.broken())
    await asyncio.sleep(0)
    assert not broken.done()
    full.send(bytes(2_000))
    async with asyncio.timeout(5.0):
        assert "does not read" in await broken


async def test_more_may_wait_for_a_sidecar_that_reads(full: Full, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WAITING_BYTES", 10_000)
    monkeypatch.setattr(full.stream, "_hang_seconds", 60.0)
    broken = asyncio.create_task(full.stream.broken())
    for _ in range(3):
        full.send(more_than_a_socket_holds())
    full.stream.write(pb.RunRequest(connection=full.number, ping=pb.PingNetwork()))
    assert await full.told("ping") == ["send"] * 4 + ["ping"]
    assert not broken.done()
    broken.cancel()


async def test_much_of_one_connection_keeps_no_other_waiting(full: Full) -> None:
    other = full.stream.register(Nobody())
    for _ in range(3):
        full.send(more_than_a_socket_holds())
    full.stream.write(pb.RunRequest(connection=other, ping=pb.PingNetwork()))
    assert (await full.told("ping")).index("ping") <= 2  # behind what was on its way, and one turn


async def test_what_can_wait_elsewhere_does_until_there_is_room(
    full: Full, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ROOM_BYTES", 10_000)
    full.send(bytes(20_000))
    waiting = asyncio.create_task(full.stream.room())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not waiting.done()
    await full.told("send")
    async with asyncio.timeout(5.0):
        await waiting


async def test_nobody_waits_for_room_at_a_sidecar_that_is_gone(
    full: Full, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ROOM_BYTES", 10_000)
    full.send(bytes(20_000))
    waiting = asyncio.create_task(full.stream.room())
    await asyncio.sleep(0)
    full.stream.end("it is gone")
    async with asyncio.timeout(5.0):
        await waiting


async def test_what_a_slow_sidecar_has_not_read_when_its_connection_closes_it_never_does(full: Full) -> None:
    full.stream.write(pb.RunRequest(connection=full.number, log_out=pb.LogOutDevice()))
    await asyncio.sleep(0)  # in which it would be written
    full.stream.close(full.number)
    assert await full.told("close") == ["send", "close"]


async def test_a_slow_sidecar_is_told_everything_in_order(full: Full) -> None:
    for _ in range(3):
        full.send(more_than_a_socket_holds())
    full.stream.write(pb.RunRequest(connection=full.number, ping=pb.PingNetwork()))
    assert await full.told("ping") == ["send"] * 4 + ["ping"]
