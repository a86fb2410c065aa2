"""From a spooled file to what is stored: looked at, and, where it gains, recompressed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TypeVar, TypeVarTuple

from mesh_core.telemetry import tracing
from mesh_media import images
from mesh_media.settings import MediaSettings
from mesh_media.spool import Spooled
from mesh_media.types import agreed_type

A = TypeVarTuple("A")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Prepared:
    """What goes into the store; width and height are 0 for what is no picture."""

    source: Path | bytes
    mime_type: str
    size: int
    sha256: bytes
    width: int
    height: int


class Compressor:
    """Runs libvips in a few threads: it lets go of the interpreter's lock while it works."""

    def __init__(self, settings: MediaSettings) -> None:
        self._settings = settings
        self._threads = ThreadPoolExecutor(settings.image_workers, thread_name_prefix="picture")
        images.forbid_other_loaders()

    async def prepare(self, file: Spooled, declared_type: str, *, keep_original: bool) -> Prepared:
        """Raises `InvalidField` for a file that is not what was announced, or a broken picture."""
        mime_type = agreed_type(declared_type, file.head)
        as_it_came = Prepared(file.path, mime_type, file.size, file.sha256, 0, 0)
        if mime_type not in images.DECODED:
            return as_it_came
        picture = await self._run(images.inspect, file.path, self._settings.max_pixels)
        as_it_came = Prepared(file.path, mime_type, file.size, file.sha256, picture.width, picture.height)
        side = self._settings.image_side
        if keep_original or not images.worth_recompressing(mime_type, picture, file.size, side):
            return as_it_came
        with tracing.span("mesh.media.compress", attributes={"mesh.media.size": file.size}):
            smaller = await self._run(
                images.recompress, file.path, mime_type, side, self._settings.image_quality
            )
        if len(smaller.data) >= file.size:
            return as_it_came
        return Prepared(
            smaller.data,
            mime_type,
            len(smaller.data),
            sha256(smaller.data).digest(),
            smaller.picture.width,
            smaller.picture.height,
        )

    def close(self) -> None:
        """Let running work end."""
        self._threads.shutdown()

    async def _run(self, work: Callable[[*A], T], *arguments: *A) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)
