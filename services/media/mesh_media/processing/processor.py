"""Turns an uploaded file into the bytes to store: images are recompressed where that makes them smaller."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from hashlib import sha256
from typing import TypeVar, TypeVarTuple

from asyncpg.pgproto.pgproto import UUID

from mesh_core.errors import InvalidField
from mesh_core.telemetry import tracing
from mesh_core.turns import Turns
from mesh_media.processing import images
from mesh_media.processing.file_types import agreed_type, hinted_type
from mesh_media.processing.processed import ProcessedFile
from mesh_media.processing.spool import SpooledFile
from sessionmesh.v1 import media_pb2

A = TypeVarTuple("A")
T = TypeVar("T")


class Processor:
    """Runs libvips in a few threads, in turns over the tenants; it releases the interpreter's lock while it
    works.
    """

    def __init__(self, *, max_pixels: int, side: int, quality: int, workers: int) -> None:
        """Images of more than `max_pixels` are refused.

        Others are made at most `side` pixels wide and high, with JPEG quality `quality`.
        """
        self._max_pixels = max_pixels
        self._side = side
        self._quality = quality
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="image")
        self._free = workers
        self._turns: Turns[asyncio.Event] = Turns()
        images.forbid_other_loaders()

    @asynccontextmanager
    async def process(
        self,
        tenant: UUID,
        file: SpooledFile,
        options: media_pb2.StorageOptions,
        compression: media_pb2.Compression.ValueType,
        *,
        foreign: bool,
    ) -> AsyncIterator[ProcessedFile]:
        """The bytes to store for `file`, compressed as `compression` says; they live until the block ends.

        With `foreign`, for files of the network, nothing is refused: what cannot be processed is kept as it
        came. Otherwise raises `Refused`, an `InvalidField`, for what is dangerous or certainly not what it
        says.
        """
        yield await self._processed(tenant, file, options, compression, foreign=foreign)

    async def _processed(
        self,
        tenant: UUID,
        file: SpooledFile,
        options: media_pb2.StorageOptions,
        compression: media_pb2.Compression.ValueType,
        *,
        foreign: bool,
    ) -> ProcessedFile:
        judged = hinted_type if foreign else agreed_type
        mime_type = judged(options.mime_type, file.head)
        try:
            return await self._shrunk(tenant, file, mime_type, options, compression)
        except InvalidField:
            if not foreign:
                raise
            reason = media_pb2.UNPROCESSED_REASON_UNREADABLE
            return ProcessedFile(file.path, mime_type, file.size, file.sha256, reason)

    async def _shrunk(
        self,
        tenant: UUID,
        file: SpooledFile,
        mime_type: str,
        options: media_pb2.StorageOptions,
        compression: media_pb2.Compression.ValueType,
    ) -> ProcessedFile:
        kept = media_pb2.UNPROCESSED_REASON_UNSPECIFIED
        if compression == media_pb2.COMPRESSION_OFF:
            kept = media_pb2.UNPROCESSED_REASON_OFF
        elif options.purpose == media_pb2.MEDIA_PURPOSE_DOCUMENT:
            kept = media_pb2.UNPROCESSED_REASON_TYPE
        if mime_type not in images.DECODED:
            reason = kept or media_pb2.UNPROCESSED_REASON_TYPE
            return ProcessedFile(file.path, mime_type, file.size, file.sha256, reason)
        image = await self._run(tenant, images.read_size, file.path, self._max_pixels)
        unchanged = ProcessedFile(
            file.path,
            mime_type,
            file.size,
            file.sha256,
            kept or images.reason_to_keep(mime_type, image, file.size, self._side),
            image.width,
            image.height,
            image.animated,
        )
        if unchanged.unprocessed:
            return unchanged
        with tracing.span("mesh.media.compress", attributes={"mesh.media.size": file.size}):
            smaller = await self._run(
                tenant, images.recompress, file.path, mime_type, self._side, self._quality
            )
        if len(smaller.data) >= file.size:
            return replace(unchanged, unprocessed=media_pb2.UNPROCESSED_REASON_NOT_SMALLER)
        return ProcessedFile(
            smaller.data,
            mime_type,
            len(smaller.data),
            sha256(smaller.data).digest(),
            media_pb2.UNPROCESSED_REASON_UNSPECIFIED,
            smaller.dimensions.width,
            smaller.dimensions.height,
        )

    def close(self) -> None:
        """Waits until running work has ended."""
        self._threads.shutdown()

    async def _run(self, tenant: UUID, work: Callable[[*A], T], *arguments: *A) -> T:
        called = asyncio.Event()
        self._turns.add(tenant, called)
        self._call_next()
        try:
            await called.wait()
        except asyncio.CancelledError:
            if not self._turns.discard(tenant, called):  # it was called just now
                self._end()
            raise
        future = self._threads.submit(work, *arguments)
        loop = asyncio.get_running_loop()

        def ended(_: Future[T]) -> None:
            loop.call_soon_threadsafe(self._end)

        # With the work, not with who waits for it: a thread goes on with what was cancelled.
        future.add_done_callback(ended)
        return await asyncio.wrap_future(future)

    def _end(self) -> None:
        self._free += 1
        self._call_next()

    def _call_next(self) -> None:
        while self._free and (called := self._turns.take()) is not None:
            self._free -= 1
            called.set()
