"""A processor with its workers, and the films and sounds that it is given."""

from __future__ import annotations

import hashlib
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import pyvips

from mesh_core import ids
from mesh_core.tasks import Supervisor
from mesh_media.processing.processed import ProcessedFile
from mesh_media.processing.processor import ProcessingLimits, Processor
from mesh_media.processing.spool import SpooledFile
from sessionmesh.v1 import media_pb2


@dataclass(frozen=True, slots=True)
class Result:
    """What a file was processed to, and its bytes."""

    file: ProcessedFile
    data: bytes

    @property
    def reason(self) -> str:
        """Why it was kept as it came, UNSPECIFIED when it was not."""
        return media_pb2.UnprocessedReason.Name(self.file.unprocessed).removeprefix("UNPROCESSED_REASON_")

    @property
    def image(self) -> pyvips.Image:
        """The picture that it is."""
        return pyvips.Image.new_from_buffer(self.data, "")


@dataclass(frozen=True, slots=True)
class Processing:
    """A processor, and a folder for the files that come."""

    processor: Processor
    folder: Path

    async def process(
        self, data: bytes, *, foreign: bool = False, compression: int = 0, **options: Any
    ) -> Result:
        """Processes a file that came. Raises `InvalidField`."""
        path = self.folder / f"came-{ids.new_uuid().hex}"
        path.write_bytes(data)
        file = SpooledFile(path, len(data), hashlib.sha256(data).digest(), data[:8192])
        async with self.processor.process(
            ids.new_uuid(),
            file,
            media_pb2.StorageOptions(**options),
            media_pb2.Compression.ValueType(compression),
            foreign=foreign,
        ) as processed:
            source = processed.source
            stored = source if isinstance(source, bytes) else source.read_bytes()
        assert len(stored) == processed.size
        assert hashlib.sha256(stored).digest() == processed.sha256
        return Result(processed, stored)


@asynccontextmanager
async def processing(folder: Path) -> AsyncIterator[Processing]:
    """Its workers run until the block ends."""
    limits = ProcessingLimits(100_000_000, side=1600, quality=75, pictures=2, films=1, folder=str(folder))
    processor = Processor(limits)
    failures: list[object] = []
    async with Supervisor(lambda name, error: failures.append((name, error))) as supervisor:
        supervisor.start("media-workers", processor.run())
        yield Processing(processor, folder)
    assert not failures


@cache
def film(*arguments: str, seconds: float = 0.4, size: str = "640x480", kind: str = "mp4") -> bytes:
    """A film of moving patterns, with sound; `arguments` are ffmpeg's for the output."""
    inputs = (
        *("-f", "lavfi", "-i", f"testsrc2=size={size}:rate=25:duration={seconds}"),
        *("-f", "lavfi", "-i", f"sine=frequency=440:duration={seconds}"),
    )
    return _ffmpeg(*inputs, *arguments, "-f", kind)


@cache
def sound(*arguments: str, seconds: float = 2.0, kind: str = "mp3") -> bytes:
    """A tone that becomes louder; `arguments` are ffmpeg's for the output."""
    louder = f"sine=frequency=440:duration={seconds},volume='t/{seconds}':eval=frame"
    return _ffmpeg("-f", "lavfi", "-i", louder, *arguments, "-f", kind)


def _ffmpeg(*arguments: str) -> bytes:
    program = imageio_ffmpeg.get_ffmpeg_exe()
    fast = ("-preset", "ultrafast") if "mp4" in arguments else ()
    with tempfile.NamedTemporaryFile() as made:
        command = [program, "-loglevel", "error", "-y", *arguments[:-2], *fast, *arguments[-2:], made.name]
        subprocess.run(command, check=True)
        return Path(made.name).read_bytes()
