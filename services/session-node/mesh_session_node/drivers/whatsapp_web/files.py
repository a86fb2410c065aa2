"""Files between the network and the mesh, in pieces, as fast as the slower side takes them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from mesh_core.telemetry import tracing
from mesh_session_node.drivers.interface.content import Blob
from mesh_session_node.drivers.interface.outcomes import BlobUnavailable, ConnectionEnded, End
from mesh_session_node.drivers.whatsapp_web.connection import Connection
from mesh_session_node.drivers.whatsapp_web.encoding import blob_of
from mesh_session_node.drivers.whatsapp_web.telemetry import record
from sessionmesh.internal.v1 import linked_device_pb2 as pb


class Files:
    """Those of one connection that are on their way."""

    __slots__ = ("_connection", "_heard", "_last")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._last = 0
        self._heard: dict[int, asyncio.Queue[pb.RunResponse | ConnectionEnded]] = {}

    def on_response(self, file: int, response: pb.RunResponse) -> None:
        """The sidecar said something of a file; nothing once that is given up."""
        if file in self._heard:
            self._heard[file].put_nowait(response)

    def end(self, ended: ConnectionEnded) -> None:
        """The connection has ended."""
        for heard in self._heard.values():
            heard.put_nowait(ConnectionEnded(ended.end, ended.detail))

    async def upload(self, kind: str, pieces: AsyncIterator[bytes], *, public: bool) -> Blob:
        """Store a file with the network. Raises `BlobUnavailable`, `ConnectionEnded`, what `pieces` does."""
        file = self._begin()
        done = False
        try:
            self._connection.ask(pb.RunRequest(upload=pb.UploadFile(file=file, kind=kind, channel=public)))
            await self._hear(file)
            async for piece in pieces:
                if piece:
                    self._connection.ask(pb.RunRequest(piece=pb.FilePiece(file=file, data=piece)))
                    await self._hear(file)
            self._connection.ask(pb.RunRequest(piece=pb.FilePiece(file=file)))
            file_done = (await self._hear(file)).file_done
            done = True
            record(tracing.current_traceparent(), file_done.steps)
            return blob_of(file_done.stored)
        finally:
            self._end(file, done=done)

    async def fetch(self, reference: bytes) -> AsyncIterator[bytes]:
        """The pieces of an incoming file. Raises `BlobUnavailable`, `ConnectionEnded`."""
        file = self._begin()
        done = False
        try:
            asked = pb.DownloadFile(file=file, reference=reference)
            self._connection.ask(pb.RunRequest(download=asked))
            while (heard := await self._hear(file)).HasField("piece"):
                self._connection.ask(pb.RunRequest(next=pb.NextPiece(file=file)))
                yield heard.piece.data
            done = True
            record(tracing.current_traceparent(), heard.file_done.steps)
        finally:
            self._end(file, done=done)

    def _begin(self) -> int:
        self._last += 1
        self._heard[self._last] = asyncio.Queue()
        return self._last

    async def _hear(self, file: int) -> pb.RunResponse:
        """The next that the sidecar says of a file, unless that has failed."""
        heard = await self._heard[file].get()
        if isinstance(heard, ConnectionEnded):
            raise heard
        if failure := heard.file_done.failure:
            detail = heard.file_done.detail or pb.FileFailure.Name(failure)
            if failure in _FILES_FAULT:
                raise BlobUnavailable(detail)
            raise ConnectionEnded(End.LOST, detail)
        return heard

    def _end(self, file: int, *, done: bool) -> None:
        del self._heard[file]
        if not done:
            self._connection.ask(pb.RunRequest(give_up=pb.GiveUpFile(file=file)))


_FILES_FAULT = frozenset({pb.FILE_FAILURE_REFUSED, pb.FILE_FAILURE_GONE, pb.FILE_FAILURE_BROKEN})
"""Trying again does not help."""
