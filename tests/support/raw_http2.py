"""HTTP/2 frames written by hand: what no gRPC client would send to a server."""

from __future__ import annotations

import asyncio
import struct
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Self

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, WINDOW_UPDATE = 0, 1, 3, 4, 8
_CANCEL = struct.pack(">I", 8)
MAX_CONCURRENT_STREAMS, INITIAL_WINDOW = 3, 4
_END_STREAM = 1
_DEFAULT_WINDOW = 65_535
_PIECE = 16 * 1024
_END_HEADERS, _ACK = 4, 1


class RawConnection:
    """A connection whose frames are the test's; what the server sends is read and dropped."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, greeting: bool) -> None:
        self.refused = 0
        """Streams that the server reset."""
        self.settings: dict[int, int] = {}
        """What the server has set, by the number of the setting."""
        self._windows: Counter[int] = Counter()
        self._over: set[int] = set()
        self._writer = writer
        self._greeting = greeting
        if greeting:
            writer.write(PREFACE + frame(SETTINGS, 0, 0, b""))
        self._last = -1
        self._reading = asyncio.create_task(self._read(reader), name="read raw frames")

    @classmethod
    async def open(cls, address: str, *, greeting: bool = True) -> Self:
        """Connect to host:port, and greet as a client of HTTP/2 does; else say nothing ever."""
        host, _, port = address.rpartition(":")
        return cls(*await asyncio.open_connection(host, int(port)), greeting=greeting)

    @property
    def ended(self) -> bool:
        """Whether the server has closed the connection."""
        return self._reading.done()

    async def wait_ended(self, seconds: float) -> None:
        """Until the server closes it; `TimeoutError`."""
        async with asyncio.timeout(seconds):
            await asyncio.shield(self._reading)

    def begin(self, path: str, *, reset: bool = False, authorization: str = "") -> None:
        """Open a stream whose request does not end, and `reset` it at once."""
        self._last += 2
        self._writer.write(frame(HEADERS, _END_HEADERS, self._last, request_head(path, authorization)))
        if reset:
            self._writer.write(frame(RST_STREAM, 0, self._last, _CANCEL))

    async def pour(
        self, path: str, streams: int, size: int, still_seconds: float, authorization: str = ""
    ) -> int:
        """Begin a message of `size` bytes on each of so many streams, and send all of it but the last byte,
        until the server has taken no more for a while; the bytes sent.
        """
        numbers = []
        for _ in range(streams):
            self.begin(path, authorization=authorization)
            numbers.append(self._last)
        unsent = {number: b"\0" + struct.pack(">I", size) + b"x" * (size - 1) for number in numbers}
        sent, still_at = 0, time.monotonic() + still_seconds
        while not self.ended and time.monotonic() < still_at:
            for number in numbers:
                piece = unsent[number][: max(0, min(_PIECE, self._room(0), self._room(number)))]
                if piece and number not in self._over:
                    self._writer.write(frame(DATA, 0, number, piece))
                    unsent[number] = unsent[number][len(piece) :]
                    self._windows[0] -= len(piece)
                    self._windows[number] -= len(piece)
                    sent, still_at = sent + len(piece), time.monotonic() + still_seconds
            await self.drain()
            await asyncio.sleep(0.001)
        return sent

    async def drain(self) -> None:
        """Wait until the server has taken what was written; raises `ConnectionError` once it has gone."""
        await self._writer.drain()

    async def close(self) -> None:
        """End it."""
        self._reading.cancel()
        self._writer.close()
        with suppress(ConnectionError, asyncio.CancelledError):
            await self._writer.wait_closed()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readexactly(9)
                kind, flags = head[3], head[4]
                payload = await reader.readexactly(int.from_bytes(head[:3], "big"))
                if kind == SETTINGS and not flags & _ACK:
                    self.settings |= dict(struct.iter_unpack(">HI", payload))
                    if self._greeting:
                        self._writer.write(frame(SETTINGS, _ACK, 0, b""))
                stream = int.from_bytes(head[5:], "big")
                self.refused += kind == RST_STREAM
                if kind == WINDOW_UPDATE:
                    self._windows[stream] += int.from_bytes(payload, "big")
                elif kind == RST_STREAM or (kind == HEADERS and flags & _END_STREAM):
                    self._over.add(stream)

    def _room(self, stream: int) -> int:
        """Bytes that the server lets this stream send, or for 0 the whole connection."""
        initial = self.settings.get(INITIAL_WINDOW, _DEFAULT_WINDOW) if stream else _DEFAULT_WINDOW
        return initial + self._windows[stream]


@asynccontextmanager
async def raw_connection(address: str, *, greeting: bool = True) -> AsyncIterator[RawConnection]:
    """One that is closed in the end."""
    connection = await RawConnection.open(address, greeting=greeting)
    try:
        yield connection
    finally:
        await connection.close()


async def rapid_resets(connection: RawConnection, path: str, times: int) -> int:
    """Open and reset streams, as fast as the server takes them; how many it took."""
    for begun in range(times):
        connection.begin(path, reset=True)
        if begun % 100 == 99:
            try:
                await connection.drain()
            except ConnectionError:
                return begun + 1
    return times


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """One frame."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def request_head(path: str, authorization: str = "") -> bytes:
    """The header block of a gRPC call, without compression."""
    fields = {"content-type": "application/grpc", "te": "trailers"}
    if authorization:
        fields["authorization"] = authorization
    return (
        b"\x83\x86\x04"
        + _text(path)
        + b"\x01"
        + _text("x")
        + b"".join(b"\x00" + _text(name) + _text(value) for name, value in fields.items())
    )


def _text(text: str) -> bytes:
    assert len(text) < 127  # a longer one has its length in more bytes
    return bytes([len(text)]) + text.encode()
