"""Frames on a connection to a peer, and noticing that the other side is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import TypeVar, cast

from google.protobuf.message import Message

from mesh_core.framing import FrameDecoder, FrameTooLarge, encode

M = TypeVar("M", bound=Message)

FRAME_BYTES = 1024 * 1024
"""Calls or answers are added to a frame until it has this size."""
MAX_FRAME_BYTES = 64 * 1024 * 1024
"""Bytes of a frame that are taken: one message may be as large as those of gRPC are allowed to be."""
TOKEN_BYTES = 32
HEARTBEAT_SECONDS = 2.0
"""Seconds without a frame of ours after which an empty one is sent, as a heartbeat."""
SILENCE_SECONDS = 8.0
"""Seconds without a frame of theirs after which they are taken for dead."""


class FrameConnection(asyncio.Protocol):
    """Calls `on_frame` with each frame that arrives, and at its end `on_end` with the reason, once.

    Set both before the next turn of the loop. The side that `accepts` takes only a token as first frame. It
    reads nothing while the other side does not read: if both did that, they could wait for each other.
    """

    def __init__(self, *, accepts: bool = False) -> None:
        self._accepts = accepts
        self._head: bytes | None = b"" if accepts else None
        self.on_frame: Callable[[bytes], None] = _ignore
        self.on_end: Callable[[str], None] = _ignore
        self._decoder = FrameDecoder(MAX_FRAME_BYTES)
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._heard = self._spoke = self._next_heartbeat = self._loop.time()
        self._reason = "the connection was closed"

    def send(self, frame: bytes) -> None:
        """Send a frame; nothing once the connection has ended."""
        if self._transport is not None:
            self._spoke = self._loop.time()
            self._transport.write(encode(frame))

    def close(self) -> None:
        """End it once all that was sent is out."""
        if self._transport is not None:
            self._transport.close()

    def abort(self, reason: str) -> None:
        """End it now."""
        if self._transport is not None:
            self._reason = reason
            self._transport.abort()

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # a stream's always is
        self._heartbeat()

    def data_received(self, data: bytes) -> None:
        self._heard = self._loop.time()
        if self._head is not None:
            # A stranger may not announce more than a token: it would be kept until it is whole.
            self._head = (self._head + data)[:4]
            if len(self._head) == 4:
                if int.from_bytes(self._head, "big") != TOKEN_BYTES:
                    self.abort("the first frame is not a token")
                    return
                self._head = None
        try:
            frames = self._decoder.feed(data)
        except FrameTooLarge as error:
            self.abort(str(error))
            return
        for frame in frames:
            if frame:
                self.on_frame(frame)

    def pause_writing(self) -> None:
        if self._accepts and self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        if self._accepts and self._transport is not None:
            self._heard = self._loop.time()
            self._transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
        self.on_end(f"the connection broke: {error}" if error else self._reason)

    def _heartbeat(self) -> None:
        now = self._loop.time()
        if now > self._next_heartbeat + HEARTBEAT_SECONDS:
            self._heard = now  # this process was stopped: what came meanwhile has yet to be read
        if now - self._heard > SILENCE_SECONDS:
            self.abort(f"nothing was heard for {SILENCE_SECONDS:.0f} s")
            return
        if now - self._spoke >= HEARTBEAT_SECONDS:
            self.send(b"")
        self._next_heartbeat = now + HEARTBEAT_SECONDS
        self._timer = self._loop.call_at(self._next_heartbeat, self._heartbeat)


def in_frames(messages: list[M]) -> Iterator[list[M]]:
    """`messages` cut into frames."""
    frame: list[M] = []
    filled = 0
    for message in messages:
        added = message.ByteSize()
        if frame and filled + added > FRAME_BYTES:
            yield frame
            frame, filled = [], 0
        frame.append(message)
        filled += added
    if frame:
        yield frame


def _ignore(_: object) -> None:
    pass
