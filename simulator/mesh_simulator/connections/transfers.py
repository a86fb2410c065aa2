"""The blob transfers of one connection."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from hashlib import sha256
from typing import Protocol

from mesh_core.framing import encode
from mesh_simulator.connections.blobs import CHUNK_BYTES, BlobStore
from sessionmesh.simnet.v1 import wire_pb2 as wire


class BlobClient(Protocol):
    """The connection that the blobs go over."""

    def put(self, frame: bytes) -> bool: ...
    def send(self, frame: wire.Frame) -> bool: ...
    def write_out(self) -> None: ...
    def has_room(self) -> bool: ...


class Transfers:
    """Collects the pieces of uploads; sends downloads only as fast as the client reads."""

    __slots__ = ("_blobs", "_client", "_downloads", "_max_blob_bytes", "_uploads")

    def __init__(self, client: BlobClient, blobs: BlobStore, max_blob_bytes: int) -> None:
        self._client = client
        self._blobs = blobs
        self._max_blob_bytes = max_blob_bytes
        self._uploads: dict[int, bytearray | None] = {}
        self._downloads: deque[Iterator[bytes]] = deque()

    def receive(self, piece: wire.BlobPut) -> None:
        """The next piece of an upload. After a refusal the rest of the upload is ignored."""
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
            self._client.send(wire.Frame(blob_stored=stored))

    def fetch(self, request: wire.BlobGet) -> None:
        """Begin to send a blob."""
        data = self._blobs.get(request.ref)
        if data is None:
            self._refuse(request.transfer, wire.BLOB_REFUSAL_UNKNOWN, fetch=True)
            return
        self._downloads.append(_chunks(request.transfer, data, min(request.offset, len(data))))
        if len(self._downloads) == 1:
            self.pump()

    def pump(self) -> None:
        """Send while the client reads fast enough; the connection calls again when there is room."""
        while self._downloads and self._client.has_room():
            chunk = next(self._downloads[0], None)
            if chunk is None:
                self._downloads.popleft()
                continue
            if not self._client.put(chunk):
                return
            self._client.write_out()

    def _refuse(self, transfer: int, reason: wire.BlobRefusal.ValueType, *, fetch: bool) -> None:
        refused = wire.BlobRefused(transfer=transfer, reason=reason, fetch=fetch)
        self._client.send(wire.Frame(blob_refused=refused))


def _chunks(transfer: int, data: bytes, offset: int) -> Iterator[bytes]:
    for at in range(offset, max(len(data), offset + 1), CHUNK_BYTES):
        last = at + CHUNK_BYTES >= len(data)
        chunk = wire.BlobChunk(transfer=transfer, data=data[at : at + CHUNK_BYTES], last=last, size=len(data))
        yield encode(wire.Frame(blob_chunk=chunk).SerializeToString())
