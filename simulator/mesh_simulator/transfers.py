"""The blob transfers of one connection."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from hashlib import sha256
from typing import TYPE_CHECKING

from mesh_core.framing import encode
from mesh_simulator.blobs import CHUNK_BYTES, BlobStore
from sessionmesh.simnet.v1 import wire_pb2 as wire

if TYPE_CHECKING:
    from mesh_simulator.connection import Connection


class Transfers:
    """Puts uploads together; sends fetches only as fast as the client reads."""

    __slots__ = ("_blobs", "_connection", "_fetches", "_max_blob_bytes", "_uploads")

    def __init__(self, connection: Connection, blobs: BlobStore, max_blob_bytes: int) -> None:
        self._connection = connection
        self._blobs = blobs
        self._max_blob_bytes = max_blob_bytes
        self._uploads: dict[int, bytearray | None] = {}
        self._fetches: deque[Iterator[bytes]] = deque()

    def take(self, piece: wire.BlobPut) -> None:
        """The next piece of an upload. After a refusal the rest of it is ignored."""
        data = self._uploads.setdefault(piece.transfer, bytearray())
        if data is not None:
            data += piece.data
            if len(data) > self._max_blob_bytes:
                self._uploads[piece.transfer] = data = None
                self._refuse(piece.transfer, wire.BLOB_REFUSAL_TOO_LARGE, fetch=False)
        if not piece.last:
            return
        del self._uploads[piece.transfer]
        if data is not None:
            whole = bytes(data)
            stored = wire.BlobStored(
                transfer=piece.transfer,
                ref=self._blobs.put(whole),
                sha256=sha256(whole).digest(),
                size=len(whole),
            )
            self._connection.send(wire.Frame(blob_stored=stored))

    def fetch(self, request: wire.BlobGet) -> None:
        """Begin to send a blob."""
        data = self._blobs.get(request.ref)
        if data is None:
            self._refuse(request.transfer, wire.BLOB_REFUSAL_UNKNOWN, fetch=True)
            return
        self._fetches.append(_chunks(request.transfer, data, min(request.offset, len(data))))
        if len(self._fetches) == 1:
            self.pump()

    def pump(self) -> None:
        """Send on while the client keeps up; the transport calls again when it has caught up."""
        while self._fetches and self._connection.has_room():
            chunk = next(self._fetches[0], None)
            if chunk is None:
                self._fetches.popleft()
                continue
            if not self._connection.put(chunk):
                return
            self._connection.write_out()

    def _refuse(self, transfer: int, reason: wire.BlobRefusal.ValueType, *, fetch: bool) -> None:
        refused = wire.BlobRefused(transfer=transfer, reason=reason, fetch=fetch)
        self._connection.send(wire.Frame(blob_refused=refused))


def _chunks(transfer: int, data: bytes, offset: int) -> Iterator[bytes]:
    for at in range(offset, max(len(data), offset + 1), CHUNK_BYTES):
        last = at + CHUNK_BYTES >= len(data)
        chunk = wire.BlobChunk(transfer=transfer, data=data[at : at + CHUNK_BYTES], last=last, size=len(data))
        yield encode(wire.Frame(blob_chunk=chunk).SerializeToString())
