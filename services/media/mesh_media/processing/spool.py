"""Receives an upload into a temporary file, in time, and checks it against its header."""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from mesh_core.disk import naming_full_disk
from mesh_core.errors import DeadlineExceeded, InvalidField
from mesh_media.processing.file_types import SNIFFED_BYTES
from sessionmesh.v1 import media_pb2

Frames = AsyncIterator[media_pb2.UploadMediaRequest]

MAX_CHUNK = 1024 * 1024
PIECE_SECONDS = 30.0
"""How long one frame may be awaited."""
START_SECONDS = 30.0
LEAST_RATE = 64 * 1024
"""A whole upload has `START_SECONDS`, and one more for each `LEAST_RATE` bytes."""


@dataclass(frozen=True, slots=True)
class SpooledFile:
    """A complete upload in a temporary file; `head` is its first bytes."""

    path: Path
    size: int
    sha256: bytes
    head: bytes


async def next_frame(frames: Frames, until: float | None = None) -> media_pb2.UploadMediaRequest | None:
    """The next frame, None after the last; raises `DeadlineExceeded` when it does not come in
    `PIECE_SECONDS`, or until the loop's time `until`.
    """
    end = asyncio.get_running_loop().time() + PIECE_SECONDS
    try:
        async with asyncio.timeout_at(end if until is None else min(end, until)):
            return await anext(frames, None)
    except TimeoutError:
        raise DeadlineExceeded("the upload did not come in time", "DEADLINE_EXCEEDED") from None


@asynccontextmanager
async def spool(frames: Frames, header: media_pb2.UploadHeader, folder: str) -> AsyncIterator[SpooledFile]:
    """Reads the chunks that follow the header; the file is deleted when the block ends.

    Raises `InvalidField` for a bad chunk, and for a size or checksum that differs from the header's;
    `DeadlineExceeded` for one that comes too slowly, and `DiskFull` when there is no room for it.
    """
    until = asyncio.get_running_loop().time() + START_SECONDS + header.size_bytes / LEAST_RATE
    with (
        naming_full_disk("the media service's temporary files"),
        tempfile.NamedTemporaryFile(dir=folder or None, prefix="upload-") as file,
    ):
        digest, size, head = hashlib.sha256(), 0, b""
        while (frame := await next_frame(frames, until)) is not None:
            chunk = frame.chunk
            if not 1 <= len(chunk) <= MAX_CHUNK:
                raise InvalidField("chunk", f"must have 1 to {MAX_CHUNK} bytes")
            size += len(chunk)
            if size > header.size_bytes:
                raise InvalidField("header.size_bytes", f"says {header.size_bytes}, but more bytes came")
            # Synchronous, because a chunk is at most 1 MiB and goes to the page cache.
            digest.update(chunk)
            file.write(chunk)
            if len(head) < SNIFFED_BYTES:
                head += chunk[: SNIFFED_BYTES - len(head)]
        if size != header.size_bytes:
            raise InvalidField("header.size_bytes", f"says {header.size_bytes}, but {size} bytes came")
        if header.options.sha256 and header.options.sha256 != digest.digest():
            raise InvalidField("header.options.sha256", "is not the sha256 of the bytes that came")
        file.flush()
        yield SpooledFile(Path(file.name), size, digest.digest(), head)
