"""What a node and its sidecar say to each other, over one socket: connections take turns, what waits for a
sidecar that does not read is bounded, and each response goes to the connection that it is about.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol, cast

import structlog
from google.protobuf.message import DecodeError

from mesh_core.framing import FrameDecoder, FrameTooLarge, encode
from mesh_core.signal import Signal
from mesh_session_node.drivers.whatsapp_web import telemetry
from sessionmesh.internal.v1 import linked_device_pb2 as pb

logger = structlog.get_logger(__name__)

MAX_FRAME_BYTES = 64 * 1024 * 1024
MAX_WAITING_BYTES = 64 * 1024 * 1024
"""More than this may wait for a sidecar that reads, and not for one that does not."""
MAX_ANSWER_BYTES = 16 * 1024 * 1024
"""What may be said of one connection at once."""
ROOM_BYTES = 16 * 1024 * 1024
"""As long as more than this waits, what can wait elsewhere does so."""
WRITE_BYTES = 256 * 1024
"""What is written at once of what waits."""
SIDECAR = 0
"""The number of what is about the sidecar itself."""


class Receiver(Protocol):
    """Who a connection's responses are for."""

    def heard(self, response: pb.RunResponse) -> None:
        """The sidecar said something of it. Raises `ValueError` for what cannot be."""

    def broken(self, detail: str) -> None:
        """What the sidecar said of it cannot be."""

    def gone(self, detail: str) -> None:
        """The sidecar has ended: nothing of the connection is left."""


class Stream(asyncio.Protocol):
    """Lives as long as one sidecar process."""

    def __init__(self, sidecar: Receiver, hang_seconds: float) -> None:
        """`sidecar` is told what is not of a connection; after `hang_seconds` without reading it hangs."""
        self.ended = ""
        """Why nothing can be sent any more; "" while it can."""
        self.spoke = Signal()
        """Notified when anything was heard, of whatever connection."""
        self._loop = asyncio.get_running_loop()
        self._broken: asyncio.Future[str] = self._loop.create_future()
        self._transport: asyncio.Transport | None = None
        self._decoder = FrameDecoder(MAX_FRAME_BYTES)
        self._receivers: dict[int, Receiver] = {SIDECAR: sidecar}
        self._last = 0
        self._waiting: dict[int, deque[bytes]] = {}  # by connection, in the order of their turns
        self._bytes = 0
        self._hang_seconds = hang_seconds
        self._took_at = self._loop.time()
        self._room = Signal()
        self._silent: set[int] = set()
        self._writing = False
        self._full = False

    def register(self, receiver: Receiver) -> int:
        """A number for a new connection; never used before in this stream."""
        self._last += 1
        self._receivers[self._last] = receiver
        telemetry.CONNECTIONS.set(len(self._receivers) - 1)
        if self.ended:  # whoever got the stream may have looked something up meanwhile
            self._loop.call_soon(self._tell_end)
        return self._last

    def forget(self, number: int) -> None:
        """The sidecar has closed the connection."""
        self._receivers.pop(number, None)
        self._silent.discard(number)
        telemetry.CONNECTIONS.set(len(self._receivers) - 1)

    def write(self, request: pb.RunRequest) -> None:
        """Hand a request over; nothing happens once the stream or its connection has ended."""
        if self._speaks(request.connection):
            self._hand_over(request.connection, request)

    def close(self, number: int) -> None:
        """Close a connection: what of it was not written yet never is."""
        if self._speaks(number):
            self._silent.add(number)
            # As the sidecar's own, which is never held back.
            self._hand_over(SIDECAR, pb.RunRequest(connection=number, close=pb.CloseConnection()))

    async def broken(self) -> str:
        """Wait until the sidecar cannot be spoken to any more; why."""
        return await asyncio.shield(self._broken)

    async def room(self) -> None:
        """Wait until little waits for the sidecar, or it is gone."""
        await self._room.wait_until(lambda: self._bytes <= ROOM_BYTES or self.ended)

    def hang_up(self) -> None:
        """Close it, which has the sidecar end."""
        if self._transport is not None:
            self._transport.close()

    def end(self, detail: str) -> None:
        """The sidecar is gone: tell every connection."""
        self.ended = detail
        if self._transport is not None:
            self._transport.abort()
        self._waiting.clear()
        self._bytes = 0
        self._room.notify()
        self._tell_end()
        telemetry.WAITING.set(0)

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # a stream's always is
        # What waits does so here, where what is of a closed connection is left out.
        self._transport.set_write_buffer_limits(high=0)
        self._write_soon()

    def data_received(self, data: bytes) -> None:
        try:
            responses = [pb.RunResponse.FromString(frame) for frame in self._decoder.feed(data)]
        except (FrameTooLarge, DecodeError) as error:
            self._break(f"it says what cannot be read: {error}")
            return
        for response in responses:
            self.spoke.notify()
            self._hand_on(response)

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        self._took_at = self._loop.time()
        self._write_waiting()

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._break(f"the connection broke: {error}" if error else "it ended the connection")

    # ---

    def _break(self, detail: str) -> None:
        if not self._broken.done():
            self._broken.set_result(detail)

    def _tell_end(self) -> None:
        """In several turns of the loop: the next sidecar starts meanwhile."""
        for _ in range(min(_TOLD_AT_ONCE, len(self._receivers))):
            _, receiver = self._receivers.popitem()
            try:
                receiver.gone(self.ended)
            except Exception:  # one account's fault must not keep the others from hearing of it
                logger.exception("a connection was not told that its sidecar is gone")
        telemetry.CONNECTIONS.set(len(self._receivers))
        if self._receivers:
            self._loop.call_soon(self._tell_end)

    def _speaks(self, number: int) -> bool:
        return not self.ended and number in self._receivers and number not in self._silent

    def _hand_over(self, number: int, request: pb.RunRequest) -> None:
        frame = encode(request.SerializeToString())
        if not self._bytes:
            self._took_at = self._loop.time()  # all that there was
        self._waiting.setdefault(number, deque()).append(frame)
        self._bytes += len(frame)
        unread = self._loop.time() - self._took_at
        if self._bytes > MAX_WAITING_BYTES and unread >= self._hang_seconds:
            self._break("it does not read what it is told")
        self._write_soon()

    def _write_soon(self) -> None:
        """In the next turn of the loop: what is handed over in one leaves at once."""
        if not self._writing and not self._full and self._transport is not None:
            self._writing = True
            self._loop.call_soon(self._write_waiting)

    def _write_waiting(self) -> None:
        self._writing = False
        while self._waiting and not self._full and self._transport is not None:
            frames, size = [], 0
            while self._waiting and size < WRITE_BYTES:
                number = next(iter(self._waiting))
                waiting = self._waiting.pop(number)
                frame = waiting.popleft()
                if waiting:
                    self._waiting[number] = waiting  # behind the others
                self._bytes -= len(frame)
                if self._speaks(number):
                    frames.append(frame)
                    size += len(frame)
            if frames:
                self._transport.write(b"".join(frames))
        if self._bytes <= ROOM_BYTES:
            self._room.notify()
        telemetry.WAITING.set(self._bytes)

    def _hand_on(self, response: pb.RunResponse) -> None:
        receiver = self._receivers.get(response.connection)
        if receiver is None:
            return
        try:
            receiver.heard(response)
        except Exception as error:  # one connection's fault: the others go on
            kind = response.WhichOneof("response")
            logger.exception("what the sidecar said cannot be", connection=response.connection, response=kind)
            receiver.broken(f"the sidecar said what cannot be: {type(error).__name__}")


_TOLD_AT_ONCE = 20  # connections in one turn of the loop
