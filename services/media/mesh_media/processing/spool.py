"""Receives a file into a temporary one, in time, and checks it against what was announced."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from mesh_core.disk import DiskFull, naming_full_disk
from mesh_core.errors import DeadlineExceeded, InvalidField, StartupError
from mesh_media.processing.file_types import SNIFFED_BYTES
from sessionmesh.v1 import media_pb2

Frames = AsyncIterator[media_pb2.UploadMediaRequest]

MAX_CHUNK = 1024 * 1024
PIECE_SECONDS = 30.0
"""How long one frame may be awaited."""
START_SECONDS = 30.0
LEAST_RATE = 64 * 1024
"""A whole file has `START_SECONDS`, and one more for each `LEAST_RATE` bytes."""
_OWN = "sessionmesh-media-"
_TEMPORARY_FILES = "the media service's temporary files"


@dataclass(frozen=True, slots=True)
class SpooledFile:
    """A complete file in a temporary one; `head` is its first bytes."""

    path: Path
    size: int
    sha256: bytes
    head: bytes


class TooLarge(Exception):
    """More bytes come than may be."""


class SpoolFolder:
    """A folder for files on their way in, "" for where the system keeps temporary files. They may have `most`
    bytes together; 0: as many as its disk takes.

    A process that may use less than there is, as of a pod's volume with a limit, is never told that it is
    full: it is ended.
    """

    def __init__(self, path: str, most: int = 0) -> None:
        self.path = path
        self._most = most
        self._taken = 0

    @contextmanager
    def share(self) -> Iterator[Callable[[int], None]]:
        """Yields what takes so many bytes more, all of which are given back when the block ends. It raises
        `DiskFull` where there is no room for them.
        """
        own = 0

        def take(size: int) -> None:
            nonlocal own
            if self._most and self._taken + size > self._most:
                raise DiskFull(_TEMPORARY_FILES)
            self._taken += size
            own += size

        try:
            yield take
        finally:
            self._taken -= own


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


@contextmanager
def own_folder(folder: str) -> Iterator[str]:
    """A folder of this process's own in `folder`, "" for the system's, which is deleted when the block ends.
    What processes that were killed have left there is deleted before. Raises `StartupError`.
    """
    parent = Path(folder or tempfile.gettempdir())
    try:
        for left in parent.glob(f"{_OWN}*"):
            if (lock := _locked(left)) is not None:
                shutil.rmtree(left, ignore_errors=True)
                os.close(lock)
        own = Path(tempfile.mkdtemp(dir=parent, prefix=_OWN))
        while (lock := _locked(own)) is None:  # one that starts now took it for left
            own = Path(tempfile.mkdtemp(dir=parent, prefix=_OWN))
    except OSError as error:
        raise StartupError(f"the folder {parent} cannot be used for temporary files: {error}") from None
    try:
        yield str(own)
    finally:
        shutil.rmtree(own, ignore_errors=True)
        os.close(lock)


@asynccontextmanager
async def spool(pieces: AsyncIterator[bytes], most: int, folder: SpoolFolder) -> AsyncIterator[SpooledFile]:
    """Writes all `pieces` to a temporary file in `folder`, which is deleted when the block ends.

    Raises `TooLarge` for more than `most` bytes, `DiskFull`, and what `pieces` does.
    """
    with (
        naming_full_disk(_TEMPORARY_FILES),
        folder.share() as take,
        tempfile.NamedTemporaryFile(dir=folder.path or None, prefix="upload-") as file,
    ):
        digest, size, head = hashlib.sha256(), 0, b""
        async for piece in pieces:
            size += len(piece)
            if size > most:
                raise TooLarge
            take(len(piece))
            # Synchronous, because a piece is at most 1 MiB and goes to the page cache.
            digest.update(piece)
            file.write(piece)
            if len(head) < SNIFFED_BYTES:
                head += piece[: SNIFFED_BYTES - len(head)]
        file.flush()
        yield SpooledFile(Path(file.name), size, digest.digest(), head)


@asynccontextmanager
async def spool_upload(
    frames: Frames, header: media_pb2.UploadHeader, folder: SpoolFolder, *, at_most: int | None = None
) -> AsyncIterator[SpooledFile]:
    """Reads the chunks that follow the header, as `spool`. With `at_most` bytes the announced size is a hint,
    and who sends the file says how long it may take; without, it has that size, and comes in time for it.

    Raises `InvalidField` for a bad chunk, and for a size or checksum that differs from the header's;
    `DeadlineExceeded` for one that comes too slowly, and `DiskFull` when there is no room for it.
    """
    announced = header.size_bytes
    most, until = at_most, None
    if most is None:
        most = announced
        until = asyncio.get_running_loop().time() + START_SECONDS + announced / LEAST_RATE
    try:
        async with spool(_chunks(frames, until), most, folder) as file:
            if file.size != announced and at_most is None:
                raise InvalidField("header.size_bytes", f"says {announced}, but {file.size} bytes came")
            if header.options.sha256 and header.options.sha256 != file.sha256:
                raise InvalidField("header.options.sha256", "is not the sha256 of the bytes that came")
            yield file
    except TooLarge:
        raise InvalidField(
            "header.size_bytes", f"says {announced}, but more than {most} bytes came"
        ) from None


def _locked(folder: Path) -> int | None:
    """Holds a folder until the descriptor is closed or this process ends; None where another one holds it."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:  # it is gone, or another user's
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        folder.stat()
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


async def _chunks(frames: Frames, until: float | None) -> AsyncIterator[bytes]:
    while (frame := await next_frame(frames, until)) is not None:
        if not 1 <= len(frame.chunk) <= MAX_CHUNK:
            raise InvalidField("chunk", f"must have 1 to {MAX_CHUNK} bytes")
        yield frame.chunk
