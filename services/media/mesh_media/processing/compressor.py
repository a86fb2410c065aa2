"""Turns an uploaded file into the bytes to store: images are recompressed where that makes them smaller."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TypeVar, TypeVarTuple

from mesh_core.telemetry import tracing
from mesh_media.processing import images
from mesh_media.processing.file_types import agreed_type
from mesh_media.processing.spool import SpooledFile

A = TypeVarTuple("A")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ProcessedFile:
    """The bytes to store; width and height are 0 unless it is an image."""

    source: Path | bytes
    mime_type: str
    size: int
    sha256: bytes
    width: int
    height: int


class Compressor:
    """Runs libvips in a few threads; it releases the interpreter's lock while it works."""

    def __init__(self, *, max_pixels: int, side: int, quality: int, workers: int) -> None:
        """Images of more than `max_pixels` are refused.

        Others are made at most `side` pixels wide and high, with JPEG quality `quality`.
        """
        self._max_pixels = max_pixels
        self._side = side
        self._quality = quality
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="image")
        images.forbid_other_loaders()

    async def process(self, file: SpooledFile, declared_type: str, *, keep_original: bool) -> ProcessedFile:
        """Raises `InvalidField` for a file that is not of the declared type, and for a broken image."""
        mime_type = agreed_type(declared_type, file.head)
        unchanged = ProcessedFile(file.path, mime_type, file.size, file.sha256, 0, 0)
        if mime_type not in images.DECODED:
            return unchanged
        image = await self._run(images.read_size, file.path, self._max_pixels)
        unchanged = ProcessedFile(file.path, mime_type, file.size, file.sha256, image.width, image.height)
        if keep_original or not images.worth_recompressing(mime_type, image, file.size, self._side):
            return unchanged
        with tracing.span("mesh.media.compress", attributes={"mesh.media.size": file.size}):
            smaller = await self._run(images.recompress, file.path, mime_type, self._side, self._quality)
        if len(smaller.data) >= file.size:
            return unchanged
        return ProcessedFile(
            smaller.data,
            mime_type,
            len(smaller.data),
            sha256(smaller.data).digest(),
            smaller.dimensions.width,
            smaller.dimensions.height,
        )

    def close(self) -> None:
        """Waits until running work has ended."""
        self._threads.shutdown()

    async def _run(self, work: Callable[[*A], T], *arguments: *A) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)
