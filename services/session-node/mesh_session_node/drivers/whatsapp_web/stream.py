"""The one stream between a node and its sidecar: one writer, bounded, and a reader that hands each response
to the connection that it is about.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Protocol

import structlog
from grpc.aio import EOF

from mesh_core.signal import Signal
from mesh_session_node.drivers.whatsapp_web import metrics
from sessionmesh.internal.v1 import linked_device_pb2 as pb

logger = structlog.get_logger(__name__)

MAX_WAITING_BYTES = 64 * 1024 * 1024
"""More than this waits only for a sidecar that does not read."""
SIDECAR = 0
"""The number of what is about the sidecar itself."""


class StreamBroken(Exception):
    """The sidecar cannot be spoken to any more; the text says why."""


class Receiver(Protocol):
    """Who a connection's responses are for."""

    def heard(self, response: pb.RunResponse) -> None:
        """The sidecar said something of it. Raises `ValueError` for what cannot be."""

    def broken(self, detail: str) -> None:
        """What the sidecar said of it cannot be."""

    def gone(self, detail: str) -> None:
        """The sidecar has ended: nothing of the connection is left."""


class Stream:
    """Lives as long as one sidecar process, which the attributes describe."""

    def __init__(self, call: Any, sidecar: Receiver, files: Any) -> None:
        """`call` takes serialised requests and gives responses, `sidecar` is told what is not of a
        connection, and `files` is the stub for files.
        """
        self.files = files
        self.ended = ""
        """Why nothing can be sent any more; "" while it can."""
        self.spoke = Signal()
        """Notified by each response, of whatever connection."""
        self._call = call
        self._receivers: dict[int, Receiver] = {SIDECAR: sidecar}
        self._last = 0
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._bytes = 0
        self._silent: set[int] = set()
        self._news = Signal()

    def register(self, receiver: Receiver) -> int:
        """A number for a new connection; never used before in this stream."""
        self._last += 1
        self._receivers[self._last] = receiver
        metrics.CONNECTIONS.set(len(self._receivers) - 1)
        return self._last

    def forget(self, number: int) -> None:
        """The sidecar has closed the connection."""
        self._receivers.pop(number, None)
        self._silent.discard(number)
        metrics.CONNECTIONS.set(len(self._receivers) - 1)

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

    async def send(self) -> None:
        """Write what is handed over, until the stream ends. Raises `StreamBroken`, `AioRpcError`."""
        while not self.ended:
            await self._news.wait_until(lambda: self._waiting or self.ended)
            while self._waiting:
                if self._bytes > MAX_WAITING_BYTES:
                    raise StreamBroken("it does not read what it is told")
                number, data = self._waiting.popleft()
                self._bytes -= len(data)
                if self._speaks(number):
                    await self._call.write(data)
            metrics.WAITING.set(self._bytes)

    async def receive(self) -> None:
        """Hand on what the sidecar says, until the stream ends. Raises `AioRpcError`."""
        while (response := await self._call.read()) is not EOF:
            self.spoke.notify()
            self._hand_on(response)
        raise StreamBroken("it ended the stream")

    def end(self, detail: str) -> None:
        """The sidecar is gone: tell every connection."""
        self.ended = detail
        self._waiting.clear()
        self._news.notify()
        receivers, self._receivers = self._receivers, {}
        for receiver in receivers.values():
            try:
                receiver.gone(detail)
            except Exception:  # one account's fault must not keep the others from hearing of it
                logger.exception("a connection was not told that its sidecar is gone")
        metrics.CONNECTIONS.set(0)
        metrics.WAITING.set(0)

    def _speaks(self, number: int) -> bool:
        return not self.ended and number in self._receivers and number not in self._silent

    def _hand_over(self, number: int, request: pb.RunRequest) -> None:
        data = request.SerializeToString()
        self._waiting.append((number, data))
        self._bytes += len(data)
        self._news.notify()

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
