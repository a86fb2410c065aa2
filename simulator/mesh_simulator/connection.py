"""One TCP connection: cuts frames, gathers answers, and hands what it hears to the network."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, cast

from google.protobuf.message import DecodeError

from mesh_core.framing import FrameDecoder, FrameTooLarge, encode
from mesh_simulator.faults import Effects
from mesh_simulator.shaper import Shaper
from mesh_simulator.transfers import Transfers
from sessionmesh.simnet.v1 import wire_pb2 as wire

if TYPE_CHECKING:
    from mesh_simulator.account import Account
    from mesh_simulator.network import Network

_PONG = encode(wire.Frame(pong=wire.Pong()).SerializeToString())
_parse = wire.Frame.FromString


class Connection(asyncio.Protocol):
    """Open, logging in (frames wait), the account's, ended (but perhaps still listened to, see `end`)."""

    __slots__ = (
        "_decoder",
        "_held",
        "_network",
        "_out",
        "_shaper",
        "_transport",
        "account",
        "deaf",
        "ended",
        "number",
        "transfers",
    )

    def __init__(self, network: Network) -> None:
        self._network = network
        self._decoder = FrameDecoder()
        self._out: list[bytes] = []
        self._held: list[wire.Frame] | None = None
        self._shaper: Shaper | None = None
        self._transport: asyncio.Transport | None = None
        self.transfers: Transfers | None = None
        self.account: Account | None = None
        self.number = 0
        self.ended = False
        """Nothing is written any more."""
        self.deaf = False
        """Nothing is listened to any more."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.number = self._network.connected(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended = self.deaf = True
        self.transfers = None
        self._network.disconnected(self)

    def data_received(self, data: bytes) -> None:
        if self.deaf:
            return
        try:
            for body in self._decoder.feed(data):
                self._handle(_parse(body))
        except (FrameTooLarge, DecodeError) as error:
            self.end(wire.CLOSING_REASON_PROTOCOL, str(error))
        self._network.flush()
        if self._shaper is not None:
            self._shaper.received(len(data))

    def resume_writing(self) -> None:
        if self.transfers is not None:
            self.transfers.pump()

    def put(self, frame: bytes) -> bool:
        """Send an encoded frame with the next flush; False when the connection has ended."""
        if self.ended:
            return False
        if not self._out:
            self._network.has_output(self)
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
        """Whether the client keeps up with what it is sent."""
        return self._transport is not None and self._transport.get_write_buffer_size() < 256 * 1024

    def follow(self, effects: Effects | None) -> None:
        """Let the account's faults shape the traffic."""
        if self._transport is None or self._transport.is_closing():
            return
        if effects is not None and effects.shapes_traffic and self._shaper is None:
            self._shaper = Shaper(self._transport)
        if self._shaper is not None:
            self._shaper.follow(effects or Effects())

    def end(self, reason: wire.ClosingReason.ValueType, message: str = "") -> None:
        """Say why and close for writing. A replaced connection is listened to for a while: what still comes
        from it is evidence that two sessions ran at once."""
        self.end_with(
            wire.Frame(closing=wire.Closing(reason=reason, message=message)),
            listen=reason == wire.CLOSING_REASON_REPLACED,
        )

    def end_with(self, frame: wire.Frame, *, listen: bool = False) -> None:
        """Send `frame` as the last one."""
        if self.ended or self._transport is None:
            return
        self.send(frame)
        self._network.flush()
        self.ended = True
        self.deaf = not listen
        self.transfers = None
        if self._shaper is None:
            with contextlib.suppress(
                OSError
            ):  # the client has reset the connection, we only were not told yet
                self._transport.write_eof()
        self._network.wheel.after(self._network.settings.linger_seconds, self.abort)

    def abort(self) -> None:
        """Drop the connection at once, without a word."""
        if self._transport is not None:
            self._transport.abort()

    def log_in(self, frame: wire.Login) -> None:
        """Judge a login one turn of the loop later, when everything has been heard that arrived before it on
        the account's old connection; only what comes after that is an overlap."""
        self._held = []
        asyncio.get_running_loop().call_soon(self._finish_login, frame)

    def _finish_login(self, frame: wire.Login) -> None:
        held, self._held = self._held or [], None
        if not self.ended:
            self._network.log_in(self, frame)
            for each in held:
                self._handle(each)
            self._network.flush()

    def _handle(self, frame: wire.Frame) -> None:
        kind = frame.WhichOneof("kind")
        account = self.account
        if kind == "send" and account is not None:
            self._network.messages.take(self, account, frame.send)
        elif self._held is not None:
            self._held.append(frame)
        elif kind == "ping":
            self.put(_PONG)
        elif account is None:
            self._handle_stranger(kind, frame)
        elif kind == "inbound_ack":
            self._network.messages.inbound_acked(self, account, frame.inbound_ack.id)
        elif kind == "receipt_ack":
            self._network.messages.receipts_acked(self, account, frame.receipt_ack.sequence)
        elif kind == "receipt":
            self._network.messages.read_by_client(account, frame.receipt)
        elif kind in ("blob_put", "blob_get"):
            self._transfer(frame)
        elif kind == "query":
            self.send(wire.Frame(answer=self._network.queries.answer(account, frame.query)))
        elif kind == "typing":
            self._network.messages.typing(account, frame.typing)
        elif kind == "presence":
            self._network.messages.presence(account, frame.presence)
        elif kind == "logout":
            self._network.log_out(account)
        else:
            self.end(wire.CLOSING_REASON_PROTOCOL, f"a logged-in client may not send {kind}")

    def _handle_stranger(self, kind: str | None, frame: wire.Frame) -> None:
        if kind == "login":
            self.log_in(frame.login)
        elif kind == "pair_start":
            self._network.pairing.start(self, frame.pair_start)
        else:
            self.end(wire.CLOSING_REASON_PROTOCOL, f"a client may not send {kind} before it logged in")

    def _transfer(self, frame: wire.Frame) -> None:
        if self.ended:
            return
        if self.transfers is None:
            self.transfers = Transfers(self, self._network.blobs, self._network.settings.max_blob_bytes)
        if frame.HasField("blob_put"):
            self.transfers.take(frame.blob_put)
        else:
            self.transfers.fetch(frame.blob_get)
