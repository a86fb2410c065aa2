"""One numbered connection of the stream, until the sidecar has closed it, and the rows that the sidecar reads
and writes through it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, Protocol

from mesh_session_node.drivers.interface.driver import LinkEvents
from mesh_session_node.drivers.interface.outcomes import End
from mesh_session_node.drivers.interface.state import RowChange, StateRows, StateUnavailable
from mesh_session_node.drivers.whatsapp_web import telemetry
from mesh_session_node.drivers.whatsapp_web.stream import MAX_ANSWER_BYTES, Stream
from sessionmesh.internal.v1 import linked_device_pb2 as pb

MAX_READS = 64
"""What one connection may ask for at once."""
MAX_UNSETTLED = 4096
"""Of one connection, messages and changes that may wait to be stored."""


class Listener(Protocol):
    """Who uses the connection."""

    def on_response(self, kind: str, response: pb.RunResponse) -> None:
        """Anything but that it is closed."""

    def on_gone(self, end: End, detail: str) -> None:
        """It has ended, with the sidecar or by itself."""


class Connection:
    """Implements `Receiver`."""

    __slots__ = ("_closed", "_closing", "_listener", "number", "stream")

    def __init__(self, stream: Stream, listener: Listener) -> None:
        self.stream = stream
        self._listener = listener
        self._closing = False
        self._closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.number = stream.register(self)

    def ask(self, request: pb.RunRequest) -> None:
        """Send a request of this connection."""
        request.connection = self.number
        self.stream.write(request)

    def close(self) -> None:
        """Begin to close: what was not written yet never is."""
        if not self._closing and not self._closed.done():
            self._closing = True
            self.stream.close(self.number)

    async def closed(self) -> None:
        """Return when the sidecar has closed it, or is dead."""
        await asyncio.shield(self._closed)

    # --- Receiver

    def heard(self, response: pb.RunResponse) -> None:
        kind = response.WhichOneof("response") or ""
        if kind == "closed":
            self.stream.forget(self.number)
            self._over(End.LOST, "the sidecar closed the connection")
        elif not self._closing:
            self._listener.on_response(kind, response)

    def broken(self, detail: str) -> None:
        self.close()
        self._listener.on_gone(End.LOST, detail)

    def gone(self, detail: str) -> None:
        self._over(End.CARRIER_GONE, detail)

    def _over(self, end: End, detail: str) -> None:
        if not self._closed.done():
            self._closed.set_result(None)
        self._listener.on_gone(end, detail)


class Rows:
    """Serves the sidecar the rows of one account, in the order in which it asks for changes."""

    __slots__ = ("_connection", "_reads", "_rows", "unsettled")

    def __init__(self, connection: Connection, rows: StateRows) -> None:
        self._connection = connection
        self._rows = rows
        self._reads: set[asyncio.Task[None]] = set()
        self.unsettled = 0
        """Changes and messages that are not stored yet."""

    def write(self, write: pb.WriteRows) -> None:
        """Store changes, and tell the sidecar what became of them. Raises `ValueError`."""
        changes = changes_of(write.changes)
        self.count_unsettled()
        stored = self._rows.write(changes)
        telemetry.WRITES.inc()
        telemetry.ROWS.inc(len(changes))
        stored.add_done_callback(lambda done: self.settled(write.sequence, stored=done.result()))

    def read(self, read: pb.ReadRows) -> None:
        """Look rows up for the sidecar. Raises `ValueError`."""
        self._begin(self._read(read))

    def read_message(self, read: pb.ReadMessage, events: LinkEvents) -> None:
        """Look a message up that the account sent. Raises `ValueError`."""
        self._begin(self._read_message(read, events))

    def count_unsettled(self) -> None:
        """One more thing waits to be stored. Raises `ValueError` when too many do."""
        if self.unsettled >= MAX_UNSETTLED:
            raise ValueError("too much waits to be stored")
        self.unsettled += 1

    def settled(self, sequence: int, *, stored: bool) -> None:
        """Tell the sidecar what became of a write or a message."""
        self.unsettled -= 1
        self._connection.ask(pb.RunRequest(rows_settled=pb.RowsSettled(sequence=sequence, stored=stored)))

    def end(self) -> None:
        """Nobody waits for an answer any more."""
        for task in self._reads:
            task.cancel()

    def _begin(self, reading: Coroutine[Any, Any, None]) -> None:
        if len(self._reads) >= MAX_READS:
            reading.close()
            raise ValueError("too much is asked for at once")
        task = asyncio.create_task(reading, name="read for the sidecar")
        self._reads.add(task)
        task.add_done_callback(self._reads.discard)

    async def _read_message(self, read: pb.ReadMessage, events: LinkEvents) -> None:
        answer = pb.MessageRead(sequence=read.sequence)
        try:
            sent = await events.sent(read.network_message_id)
        except StateUnavailable:
            answer.failed = True
        else:
            telemetry.MESSAGES_READ.labels("none" if sent is None else "found").inc()
            if sent is not None:
                answer.recipient, answer.message = sent.to, sent.payload
        self._connection.ask(pb.RunRequest(message_read=answer))

    async def _read(self, read: pb.ReadRows) -> None:
        answer = pb.RowsRead(sequence=read.sequence)
        try:
            found = await self._rows.read(read.keys, read.prefixes)
        except StateUnavailable:
            answer.failed = True
        else:
            telemetry.ROWS_READ.inc(len(found))
            if sum(map(len, found.values())) > MAX_ANSWER_BYTES:
                self._connection.broken("more is stored together of somebody than can be read")
                return
            answer.rows.extend(pb.StateRow(key=key, value=value) for key, value in found.items())
        await self._connection.stream.room()
        self._connection.ask(pb.RunRequest(rows_read=answer))


def changes_of(changes: Sequence[pb.StateRowChange]) -> list[RowChange]:
    """Changes as they are stored. Raises `ValueError` for rows that cannot be."""
    return [RowChange(change.key, change.value if change.HasField("value") else None) for change in changes]
