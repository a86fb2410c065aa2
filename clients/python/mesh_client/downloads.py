"""Downloads, to memory or to a file."""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import BinaryIO

from grpc import StatusCode
from grpc.aio import AioRpcError

from mesh_client.caller import Caller, failure_of
from mesh_client.errors import DataLoss, MeshCallError
from mesh_client.methods import methods_of
from mesh_client.uploads import Progress
from sessionmesh.v1 import media_pb2


class Download:
    """The download of one file. It resumes where it broke off, and is checked against its sha256."""

    def __init__(
        self, caller: Caller, media_id: str, timeout: float | None, progress: Progress | None
    ) -> None:
        self.header = media_pb2.DownloadHeader()
        self._caller = caller
        self._media_id = media_id
        self._timeout = timeout
        self._progress = progress
        self._done = 0
        self._digest = hashlib.sha256()

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The stored bytes, in order. Raises `MeshCallError`, `DataLoss` at the end of what is not right."""
        attempts = self._caller.attempts(
            _DEFAULT_SECONDS if self._timeout is None else self._timeout, repeatable=True
        )
        while True:
            started_at = self._done
            try:
                function = await self._caller.callable(_DOWNLOAD, attempts)
                request = media_pb2.DownloadMediaRequest(media_id=self._media_id, offset_bytes=self._done)
                call = function(request, timeout=attempts.remaining(), metadata=self._caller.metadata(None))
                try:
                    async for frame in call:
                        if frame.HasField("header"):
                            self._begin(frame.header)
                        else:
                            yield self._count(frame.chunk)
                finally:
                    call.cancel()
            except (AioRpcError, MeshCallError, asyncio.CancelledError) as error:
                failure = failure_of(error)
                if self._done > started_at:
                    attempts.number = 0
                await self._caller.retry(attempts, failure)
            else:
                self._check()
                self._caller.budget.earn()
                return

    def _begin(self, header: media_pb2.DownloadHeader) -> None:
        if self._done and header.sha256 != self.header.sha256:
            raise DataLoss(StatusCode.DATA_LOSS, f"{self._media_id} has changed while it was downloaded")
        self.header = header

    def _count(self, chunk: bytes) -> bytes:
        self._done += len(chunk)
        self._digest.update(chunk)
        if self._progress is not None:
            self._progress(self._done, self.header.size_bytes)
        return chunk

    def _check(self) -> None:
        if (self._done, self._digest.digest()) != (self.header.size_bytes, self.header.sha256):
            raise DataLoss(StatusCode.DATA_LOSS, f"what arrived of {self._media_id} is not what is stored")


async def download_to_file(download: Download, path: str | os.PathLike[str]) -> media_pb2.Media:
    """Put it at `path`, which is written only when all has arrived and is right; then it is replaced at once.

    Raises `MeshCallError`, and `OSError` when the file cannot be written.
    """
    final = Path(path)
    unfinished = final.with_name(f".{final.name}.{secrets.token_hex(4)}.part")
    file = await asyncio.to_thread(unfinished.open, "xb")
    try:
        with file:
            async with aclosing(download.chunks()) as chunks:
                async for chunk in chunks:
                    await asyncio.to_thread(file.write, chunk)
            await asyncio.to_thread(_sync_to_disk, file)
        await asyncio.to_thread(unfinished.replace, final)
    except BaseException:  # also when cancelled: no unfinished file stays
        unfinished.unlink(missing_ok=True)
        raise
    return download.header.media


def _sync_to_disk(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


_DEFAULT_SECONDS = 24 * 3600.0
_DOWNLOAD = methods_of("sessionmesh.v1.MediaService")["DownloadMedia"]
