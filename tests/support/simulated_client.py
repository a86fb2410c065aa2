"""A client of the simulated network that does only what a test tells it to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Self, cast

from mesh_core.framing import FrameDecoder, encode
from sessionmesh.simnet.v1 import wire_pb2 as wire


class SimulatedClient(asyncio.Protocol):
    """One connection. Frames are kept in order until somebody waits for them."""

    _transport: asyncio.Transport
    restrictions: wire.Restrictions

    def __init__(self) -> None:
        self._decoder = FrameDecoder()
        self._frames: list[wire.Frame] = []
        self._changed = asyncio.Event()
        self.closed = asyncio.Event()

    @classmethod
    async def open(cls, address: str) -> Self:
        """Connect to `host:port`."""
        host, _, port = address.rpartition(":")
        _, client = await asyncio.get_running_loop().create_connection(cls, host, int(port))
        return client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._frames += [wire.Frame.FromString(body) for body in self._decoder.feed(data)]
        self._changed.set()

    def eof_received(self) -> bool:
        """Keep writing: a test may want to be the session that does not notice."""
        self.closed.set()
        self._changed.set()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set()
        self._changed.set()

    def write(self, *frames: wire.Frame) -> None:
        """Send frames in one piece."""
        self._transport.write(b"".join([encode(frame.SerializeToString()) for frame in frames]))

    def write_raw(self, data: bytes) -> None:
        """Send bytes that need not be a frame."""
        self._transport.write(data)

    async def expect(self, kind: str, timeout: float = 5.0) -> wire.Frame:
        """The next frame of that kind; earlier frames of other kinds stay for others to expect."""
        return await self.expect_where(lambda frame: frame.WhichOneof("kind") == kind, timeout)

    async def expect_where(self, wanted: Callable[[wire.Frame], bool], timeout: float = 5.0) -> wire.Frame:
        """The next frame that `wanted` accepts. Raises TimeoutError, or ConnectionError once closed."""
        async with asyncio.timeout(timeout):
            while True:
                for at, frame in enumerate(self._frames):
                    if wanted(frame):
                        return self._frames.pop(at)
                if self.closed.is_set():
                    raise ConnectionError(f"closed; unread: {self._frames}")
                self._changed.clear()
                await self._changed.wait()

    def unread(self, kind: str) -> list[wire.Frame]:
        """The frames of that kind that came and that nobody waited for yet."""
        return [frame for frame in self._frames if frame.WhichOneof("kind") == kind]

    def unread_kinds(self) -> list[str | None]:
        """The kinds of all frames that nobody waited for yet, in the order they came."""
        return [frame.WhichOneof("kind") for frame in self._frames]

    async def log_in(
        self, paired: wire.Paired, counter: int = 0, *, receipt_acks: bool = False
    ) -> wire.LoginOk:
        """Log in with what pairing gave, and keep what the account may not do in `restrictions`."""
        login = wire.Login(
            user_id=paired.user_id, secret=paired.secret, counter=counter, receipt_acks=receipt_acks
        )
        self.write(wire.Frame(login=login))
        accepted = (await self.expect("login_ok")).login_ok
        self.restrictions = (await self.expect("restrictions")).restrictions
        return accepted

    def send(
        self, message_id: str, counter: int, to: str, content: bytes = b"", blob_refs: tuple[str, ...] = ()
    ) -> None:
        """Hand a message over without waiting for the answer."""
        send = wire.Send(id=message_id, counter=counter, to=to, content=content, blob_refs=blob_refs)
        self.write(wire.Frame(send=send))

    def abort(self) -> None:
        """Drop the connection."""
        self._transport.abort()
