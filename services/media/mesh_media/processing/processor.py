"""Turns a file that came into the bytes to store: smaller where that is possible, and never larger."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from asyncpg.pgproto.pgproto import UUID
from msgspec.structs import replace

from mesh_core.disk import DiskFull, is_full, naming_full_disk
from mesh_core.metrics import counters, histograms
from mesh_core.telemetry import tracing
from mesh_media.processing import kinds, spool
from mesh_media.processing.file_types import agreed_type, hinted_type
from mesh_media.processing.jobs import Job, Outcome, Unfit
from mesh_media.processing.lane import Lane
from mesh_media.processing.levels import level
from mesh_media.processing.processed import ProcessedFile, Refused, Thumbnail
from mesh_media.processing.spool import SpooledFile
from mesh_media.processing.workers import Died, Workers
from sessionmesh.v1 import media_pb2


def _reason_name(unprocessed: int) -> str:
    if not unprocessed:
        return "none"
    reason = media_pb2.UnprocessedReason.ValueType(unprocessed)
    return media_pb2.UnprocessedReason.Name(reason).removeprefix("UNPROCESSED_REASON_").lower()


PROCESSED = counters(
    "mesh_media_processed_total",
    "Files that a worker had, by why they are kept as they came; none: they are not.",
    answers="Why are files kept as large as they came?",
    kept=[_reason_name(reason) for reason in media_pb2.UnprocessedReason.values()],
)
DURATION = histograms(
    "mesh_media_processing_duration_seconds",
    "How long a worker took for a file.",
    answers="Which files hold the workers up?",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300),
    lane=("pictures", "films"),
)
PICTURE_TURN_SECONDS, FILM_TURN_SECONDS = 3.0, 60.0
"""How long a job may hold up another tenant's: few stickers and films take longer."""
_TEMPORARY_FILES = "the media service's temporary files"
_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class ProcessingLimits:
    """Pictures have `max_pixels` at most, and are made at most `side` pixels wide and high, with JPEG quality
    `quality`. `pictures` and `films` are how many of them are processed at once. `folder` is for temporary
    files; empty: the system's.
    """

    max_pixels: int
    side: int
    quality: int
    pictures: int
    films: int
    folder: str


@dataclass(frozen=True, slots=True)
class Costs:
    """What a job may use: seconds of CPU and of time, bytes of memory."""

    cpu_seconds: int
    seconds: float
    memory_bytes: int
    niceness: int


_PICTURE = Costs(cpu_seconds=15, seconds=120.0, memory_bytes=600 * _MIB, niceness=5)
_STICKER = Costs(cpu_seconds=60, seconds=300.0, memory_bytes=600 * _MIB, niceness=5)
_VOICE = Costs(cpu_seconds=180, seconds=600.0, memory_bytes=600 * _MIB, niceness=5)
_FILM = Costs(cpu_seconds=1200, seconds=3600.0, memory_bytes=1500 * _MIB, niceness=10)


class Processor:
    """Has files processed by other processes, in turns over the tenants."""

    def __init__(self, limits: ProcessingLimits) -> None:
        self._limits = limits
        self._workers = Workers()
        self._pictures = Lane("pictures", limits.pictures, PICTURE_TURN_SECONDS)
        self._films = Lane("films", limits.films, FILM_TURN_SECONDS)

    async def run(self) -> None:
        """Keeps the workers running, until cancelled."""
        await self._workers.run()

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
        says. Raises `DiskFull` when there is no room for what is made.
        """
        judged = hinted_type if foreign else agreed_type
        mime_type = judged(options.mime_type, file.head)
        if file.size == 0 or not kinds.is_processed(mime_type, options.purpose):
            unprocessed = _reason_without_work(mime_type, options.purpose, compression, foreign=foreign)
            yield _kept(file, mime_type, unprocessed)
            return
        with self._job_folder() as folder:
            job, costs = self._job(file, mime_type, options.purpose, compression, folder, foreign=foreign)
            answer = await self._answer(tenant, job, costs, _foreign_seconds(job) if foreign else None)
            PROCESSED.labels(_reason_name(answer.unprocessed)).inc()
            if isinstance(answer, Outcome):
                unwanted = foreign and (job.level is None or answer.size >= file.size)
                made = _as_it_came(answer, mime_type, job) if answer.output and unwanted else answer
                yield _processed(file, made, folder)
                return
            if is_full(folder):
                raise DiskFull(_TEMPORARY_FILES)
            if answer.failure and not foreign:
                raise Refused("chunk", answer.detail, media_pb2.MediaFailure.ValueType(answer.failure))
            yield _kept(file, mime_type, media_pb2.UnprocessedReason.ValueType(answer.unprocessed))

    @contextmanager
    def _job_folder(self) -> Iterator[Path]:
        with naming_full_disk(_TEMPORARY_FILES):
            folder = tempfile.mkdtemp(dir=self._limits.folder or None, prefix="processing-")
        try:
            yield Path(folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)  # a killed worker may be writing its last

    def _job(
        self,
        file: SpooledFile,
        mime_type: str,
        purpose: media_pb2.MediaPurpose.ValueType,
        compression: media_pb2.Compression.ValueType,
        folder: Path,
        *,
        foreign: bool,
    ) -> tuple[Job, Costs]:
        costs = costs_of(mime_type, purpose)
        limits = self._limits
        job = Job(
            path=str(file.path.absolute()),
            folder=str(folder.absolute()),
            size=file.size,
            mime_type=mime_type,
            purpose=purpose,
            level=level(compression, limits.side, limits.quality),
            foreign=foreign,
            max_pixels=limits.max_pixels,
            cpu_seconds=costs.cpu_seconds,
            memory_bytes=costs.memory_bytes,
            niceness=costs.niceness,
        )
        return job, costs

    async def _answer(self, tenant: UUID, job: Job, costs: Costs, seconds: float | None) -> Outcome | Unfit:
        """What became of the job, `seconds` after it was asked for at the latest."""
        lane = self._films if costs is _FILM else self._pictures
        try:
            async with asyncio.timeout(seconds), AsyncExitStack() as place:
                with tracing.span("mesh.media.turn"):
                    await place.enter_async_context(lane.place(tenant))
                with tracing.span("mesh.media.process", attributes={"mesh.media.size": job.size}):
                    began = time.monotonic()
                    answer = await self._workers.do(job, costs.seconds)
                    DURATION.labels(lane.name).observe(time.monotonic() - began)
                    return answer
        except (Died, TimeoutError):
            refused = job.mime_type in kinds.PICTURES or job.purpose in kinds.PURPOSES
            return Unfit(
                unprocessed=media_pb2.UNPROCESSED_REASON_RESOURCE_LIMIT,
                failure=media_pb2.MEDIA_FAILURE_TOO_LARGE if refused else 0,
                detail="the file takes more time or memory than one may; send it as a document",
            )


def costs_of(mime_type: str, purpose: media_pb2.MediaPurpose.ValueType) -> Costs:
    """What a file of that type may use when it is made ready for that purpose."""
    if purpose == media_pb2.MEDIA_PURPOSE_STICKER:
        return _STICKER
    if mime_type in kinds.FILMS or purpose == media_pb2.MEDIA_PURPOSE_VIDEO:
        return _FILM
    return _VOICE if purpose == media_pb2.MEDIA_PURPOSE_VOICE else _PICTURE


def _foreign_seconds(job: Job) -> float:
    """How long a file of the network may wait for its turn and be processed: half of the time that its upload
    has, whose caller waits. It would be uploaded anew otherwise, and be no faster then.
    """
    return (spool.START_SECONDS + job.size / spool.LEAST_RATE) / 2


def _reason_without_work(
    mime_type: str,
    purpose: media_pb2.MediaPurpose.ValueType,
    compression: media_pb2.Compression.ValueType,
    *,
    foreign: bool,
) -> media_pb2.UnprocessedReason.ValueType:
    if purpose in kinds.PURPOSES and not foreign:
        raise Refused(
            "header.options.purpose",
            f"cannot be made of {mime_type}",
            media_pb2.MEDIA_FAILURE_NOT_CONVERTIBLE,
        )
    if compression == media_pb2.COMPRESSION_OFF:
        return media_pb2.UNPROCESSED_REASON_OFF
    return media_pb2.UNPROCESSED_REASON_TYPE


def _kept(file: SpooledFile, mime_type: str, reason: media_pb2.UnprocessedReason.ValueType) -> ProcessedFile:
    return ProcessedFile(file.path, mime_type, file.size, file.sha256, reason)


def _as_it_came(outcome: Outcome, mime_type: str, job: Job) -> Outcome:
    """What is known of a file of the network that its purpose would have made larger, or whose tenant wants
    none changed.
    """
    off = job.level is None
    reason = media_pb2.UNPROCESSED_REASON_OFF if off else media_pb2.UNPROCESSED_REASON_NOT_SMALLER
    return replace(outcome, output="", mime_type=mime_type, unprocessed=reason, width=None, height=None)


def _processed(file: SpooledFile, outcome: Outcome, folder: Path) -> ProcessedFile:
    small = outcome.thumbnail
    return ProcessedFile(
        source=folder / outcome.output if outcome.output else file.path,
        mime_type=outcome.mime_type,
        size=outcome.size if outcome.output else file.size,
        sha256=outcome.sha256 if outcome.output else file.sha256,
        unprocessed=media_pb2.UnprocessedReason.ValueType(outcome.unprocessed),
        width=outcome.width,
        height=outcome.height,
        animated=outcome.animated,
        duration_ms=outcome.duration_ms,
        waveform=outcome.waveform,
        thumbnail=Thumbnail(small.data, small.width, small.height) if small else None,
        preview=outcome.preview,
    )
