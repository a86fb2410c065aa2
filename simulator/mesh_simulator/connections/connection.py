"""One TCP connection: cuts frames, collects what is sent until the next flush, and closes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Protocol, cast

import structlog
from google.protobuf.message import DecodeError

from mesh_core.framing import FrameDecoder, FrameTooLarge, encode
from mesh_simulator.accounts.account import Account, Effects
from mesh_simulator.connections.shaper import TrafficShaper
from mesh_simulator.connections.transfers import Transfers
from sessionmesh.simnet.v1 import wire_pb2 as wire

logger = structlog.get_logger(__name__)

WRITE_BUFFER_BYTES = 256 * 1024
"""A client with more than this unread is too slow to be sent more of a blob."""
_parse = wire.Frame.FromString


class FrameHandler(Protocol):
    """What a connection tells the network, and asks of it."""

    def connected(self, connection: Connection) -> int:
        """A new connection; returns its number."""

    def disconnected(self, connection: Connection) -> None:
        """The connection is closed."""

    def handle(self, connection: Connection, frame: wire.Frame) -> None:
        """A frame from the client."""

    def has_output(self, connection: Connection) -> None:
        """Call `connection.write_out` at the next flush."""

    def flush(self) -> None:
        """Write what has been put to all connections."""

    def linger(self, connection: Connection) -> None:
        """Abort the connection after a while, so that the client can read how it ended."""


class Connection(asyncio.Protocol):
    """A `Client` over TCP. First it is nobody's, then `account` logs in on it, then it ends (see `end`)."""

    __slots__ = (
        "_decoder",
        "_handler",
        "_held",
        "_out",
        "_shaper",
        "_transport",
        "account",
        "input_closed",
        "number",
        "output_closed",
        "told",
        "transfers",
    )

    def __init__(self, handler: FrameHandler) -> None:
        self._handler = handler
        self._decoder = FrameDecoder()
        self._out: list[bytes] = []
        self._held: list[wire.Frame] | None = None
        self._shaper: TrafficShaper | None = None
        self._transport: asyncio.Transport | None = None
        self.transfers: Transfers | None = None
        self.account: Account | None = None
        self.told: dict[str, None] = {}
        """Addresses of recipients that the client was told the identity of."""
        self.number = 0
        self.output_closed = False
        """Nothing is written any more."""
        self.input_closed = False
        """What arrives is ignored."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.number = self._handler.connected(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.output_closed = self.input_closed = True
        self.transfers = None
        self._handler.disconnected(self)

    def data_received(self, data: bytes) -> None:
        if self.input_closed:
            return
        try:
            for body in self._decoder.feed(data):
                if self._held is None:
                    self._handler.handle(self, _parse(body))
                else:
                    self._held.append(_parse(body))
        except (FrameTooLarge, DecodeError) as error:
            self.end(wire.CLOSING_REASON_PROTOCOL, str(error))
        except Exception:  # one client's: the network goes on
            logger.exception("a client's frame was not handled", connection=self.number)
            self.end(wire.CLOSING_REASON_PROTOCOL, "the frame cannot be handled")
        self._handler.flush()
        if self._shaper is not None:
            self._shaper.received(len(data))

    def resume_writing(self) -> None:
        if self.transfers is not None:
            self.transfers.pump()

    def put(self, frame: bytes) -> bool:
        """Send an encoded frame with the next flush; False when nothing can be sent any more."""
        if self.output_closed:
            return False
        if not self._out:
            self._handler.has_output(self)
        self._out.append(frame)
        return True

    def send(self, frame: wire.Frame) -> bool:
        """As `put`, of a frame that is not encoded yet."""
        return self.put(encode(frame.SerializeToString()))

    def write_out(self) -> None:
        """Give what was put to the transport."""
        if self._transport is None or self._transport.is_closing():
            return
        data = b"".join(self._out)
        self._out.clear()
        if self._shaper is None:
            self._transport.write(data)
        else:
            self._shaper.write(data)

    def has_room(self) -> bool:
        """Whether the client reads as fast as it is sent to."""
        return self._transport is not None and self._transport.get_write_buffer_size() < WRITE_BUFFER_BYTES

    def apply(self, effects: Effects | None) -> None:
        """Shape the traffic by `effects` from now on."""
        if self._transport is None or self._transport.is_closing():
            return
        if effects is not None and effects.shape_traffic and self._shaper is None:
            self._shaper = TrafficShaper(self._transport, asyncio.get_running_loop())
        if self._shaper is not None:
            self._shaper.apply(effects or Effects())

    def end(self, reason: wire.ClosingReason.ValueType, message: str = "") -> None:
        """Tell the client why, and close for writing.

        What a *replaced* client still sends is handled for a while: it is evidence that two sessions of one
        account ran at once.
        """
        self.end_with(
            wire.Frame(closing=wire.Closing(reason=reason, message=message)),
            keep_reading=reason == wire.CLOSING_REASON_REPLACED,
        )

    def end_with(self, frame: wire.Frame, *, keep_reading: bool = False) -> None:
        """Send `frame` as the last one, and close for writing."""
        if self.output_closed or self._transport is None:
            return
        self.send(frame)
        self._handler.flush()
        self.output_closed = True
        self.input_closed = not keep_reading
        self.transfers = None
        if self._shaper is None:
            # The client may have reset the connection, and we are not told of it yet.
            with contextlib.suppress(OSError):
                self._transport.write_eof()
        self._handler.linger(self)

    def abort(self) -> None:
        """Reset the connection."""
        if self._transport is not None:
            self._transport.abort()

    def hold_frames_until(self, decision: Callable[[], None]) -> None:
        """Call `decision` in the next turn of the event loop, and handle what arrives meanwhile after it."""
        self._held = []
        asyncio.get_running_loop().call_soon(self._decide, decision)

    def _decide(self, decision: Callable[[], None]) -> None:
        held, self._held = self._held or [], None
        if not self.output_closed:
            decision()
            for frame in held:
                if self._held is None:
                    self._handler.handle(self, frame)
                else:  # one of them was a login, after one that was refused
                    self._held.append(frame)
            self._handler.flush()
