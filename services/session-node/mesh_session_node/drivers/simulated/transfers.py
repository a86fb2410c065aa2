"""Files and questions on one connection to the simulated network."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from mesh_session_node.drivers.interface.content import Blob
from mesh_session_node.drivers.interface.outcomes import BlobUnavailable
from sessionmesh.simnet.v1 import wire_pb2 as wire

_PIECE = 256 * 1024
_ANSWER_WITHIN = 30.0


class Transfers:
    """Numbers transfers and questions, and hands their answers to who waits for them."""

    def __init__(self, write: Callable[[wire.Frame], None], has_room: Callable[[], bool]) -> None:
        self._write = write
        self._has_room = has_room
        self._last = 0
        self._answers: dict[tuple[str, int], asyncio.Future[wire.Frame]] = {}
        self._chunks: dict[int, asyncio.Queue[wire.Frame | Exception]] = {}

    async def upload(self, pieces: AsyncIterator[bytes]) -> Blob:
        """Store a file; the pieces may be of any size."""
        transfer = self._number()
        waiter = self._expect("upload", transfer)
        try:
            async for piece in pieces:
                for at in range(0, len(piece), _PIECE):
                    while not self._has_room() and not waiter.done():
                        await asyncio.wait([waiter], timeout=_PAUSE)
                    if waiter.done():
                        break
                    put = wire.BlobPut(transfer=transfer, data=piece[at : at + _PIECE])
                    self._write(wire.Frame(blob_put=put))
            if not waiter.done():
                self._write(wire.Frame(blob_put=wire.BlobPut(transfer=transfer, last=True)))
            async with asyncio.timeout(_ANSWER_WITHIN):
                stored = (await waiter).blob_stored
        finally:
            self._answers.pop(("upload", transfer), None)
        return Blob(stored.ref, stored.sha256, stored.size)

    async def fetch(self, blob: wire.Blob) -> AsyncIterator[bytes]:
        """The pieces of a file."""
        transfer = self._number()
        queue: asyncio.Queue[wire.Frame | Exception] = asyncio.Queue()
        self._chunks[transfer] = queue
        try:
            self._write(wire.Frame(blob_get=wire.BlobGet(transfer=transfer, ref=blob.ref)))
            while True:
                async with asyncio.timeout(_ANSWER_WITHIN):
                    frame = await queue.get()
                if isinstance(frame, Exception):
                    raise frame
                if frame.blob_chunk.data:
                    yield frame.blob_chunk.data
                if frame.blob_chunk.last:
                    return
        finally:
            self._chunks.pop(transfer, None)

    async def ask(self, query: wire.Query) -> wire.Answer:
        """The answer to a question."""
        query.id = self._number()
        waiter = self._expect("query", query.id)
        self._write(wire.Frame(query=query))
        try:
            async with asyncio.timeout(_ANSWER_WITHIN):
                return (await waiter).answer
        finally:
            self._answers.pop(("query", query.id), None)

    def heard(self, frame: wire.Frame) -> None:
        """A frame that belongs to a transfer or a question."""
        kind = frame.WhichOneof("kind")
        if kind == "blob_chunk":
            if (queue := self._chunks.get(frame.blob_chunk.transfer)) is not None:
                queue.put_nowait(frame)
        elif kind == "blob_stored":
            self._settle("upload", frame.blob_stored.transfer, frame)
        elif kind == "answer":
            self._settle("query", frame.answer.id, frame)
        elif kind == "blob_refused":
            refused = frame.blob_refused
            too_large = refused.reason == wire.BLOB_REFUSAL_TOO_LARGE
            error = BlobUnavailable(
                "too large for the network" if too_large else "no such file", too_large=too_large
            )
            if refused.fetch:
                if (queue := self._chunks.get(refused.transfer)) is not None:
                    queue.put_nowait(error)
            else:
                self._settle("upload", refused.transfer, error)

    def end(self, error: Exception) -> None:
        """The connection is gone."""
        for kind, number in list(self._answers):
            self._settle(kind, number, error)
        for queue in self._chunks.values():
            queue.put_nowait(error)

    def _number(self) -> int:
        self._last += 1
        return self._last

    def _expect(self, kind: str, number: int) -> asyncio.Future[wire.Frame]:
        waiter: asyncio.Future[wire.Frame] = asyncio.get_running_loop().create_future()
        self._answers[kind, number] = waiter
        return waiter

    def _settle(self, kind: str, number: int, what: wire.Frame | Exception) -> None:
        waiter = self._answers.get((kind, number))
        if waiter is None or waiter.done():
            return
        if isinstance(what, Exception):
            waiter.set_exception(what)
            waiter.exception()  # its waiter may be gone
        else:
            waiter.set_result(what)


_PAUSE = 0.01
