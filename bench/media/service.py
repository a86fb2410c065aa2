"""What the whole service costs over the bare encoder, and whether its event loop stays free meanwhile."""

from __future__ import annotations

import asyncio
import os
import tempfile
from concurrent.futures import ProcessPoolExecutor
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter

from bench.measuring.pairs import PAIRS, compared
from bench.measuring.report import Measured
from bench.media import corpus
from bench.media.world import MediaService, media_service
from mesh_media.processing.jobs import Job
from mesh_media.processing.levels import level
from mesh_media.processing.worker import pictures
from mesh_media.processing.worker.picture_files import forbid_other_loaders
from sessionmesh.v1 import media_pb2

WORKERS, AT_ONCE = 2, 4
"""Processes of either encoder, and uploads at a time."""
NICENESS = 5
"""Of either encoder: the service's workers yield to the service."""
PHOTOS, QUICK_PHOTOS = 8, 2
QUICK_PAIRS = 5


async def measure(quick: bool) -> Measured:
    """`throughput_over_bare`: photographs a second through the whole service, over those of its own encoder
    in as many processes on the same cores, in turns; `loop_lag_p99_ms` of the service meanwhile.
    """
    photos, pairs = (QUICK_PHOTOS, QUICK_PAIRS) if quick else (PHOTOS, PAIRS)
    photograph = await asyncio.to_thread(
        lambda: corpus.as_phones_make_it(corpus.photograph(corpus.PHOTOGRAPHS[3]))
    )
    served, bare, late = [], [], []
    os.environ["VIPS_CONCURRENCY"] = "1"  # of the bare encoder, as the service's has it
    spawned = get_context("spawn")
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(WORKERS, spawned, _begin) as pool,
    ):
        encoder = _Bare(pool, Path(folder), photograph)
        async with media_service() as service:
            uploads = _Served(service, await service.tenant(), photograph)
            await encoder.seconds(photos)
            await uploads.seconds(photos)
            await service.lag()
            for _ in range(pairs):
                served.append(photos / await uploads.seconds(photos))
                late += await service.lag()
                bare.append(photos / await encoder.seconds(photos))
                await service.lag()
    ratio = compared(served, bare)
    late.sort()
    return Measured(
        {"throughput_over_bare": ratio.value, "loop_lag_p99_ms": late[int(len(late) * 0.99)]},
        (
            f"throughput_over_bare of {pairs} pairs of {photos} photographs: {ratio}; the service took "
            f"{sum(served) / pairs:.2f} a second.",
        ),
    )


class _Served:
    def __init__(self, service: MediaService, tenant: str, photograph: bytes) -> None:
        self._service, self._tenant, self._photograph = service, tenant, photograph
        self._numbers = count()

    async def seconds(self, photos: int) -> float:
        """How long so many uploads take, each of other bytes."""
        places = asyncio.Semaphore(AT_ONCE)

        async def upload() -> None:
            async with places:
                data = self._photograph + next(self._numbers).to_bytes(8)
                await self._service.upload(self._tenant, data)

        began = perf_counter()
        await asyncio.gather(*(upload() for _ in range(photos)))
        return perf_counter() - began


class _Bare:
    def __init__(self, pool: ProcessPoolExecutor, folder: Path, photograph: bytes) -> None:
        self._pool = pool
        path = folder / "photograph"
        path.write_bytes(photograph)
        self._job = Job(
            path=str(path),
            folder=str(folder),
            size=len(photograph),
            mime_type="image/jpeg",
            purpose=0,
            level=level(media_pb2.COMPRESSION_BALANCED, side=1600, quality=75),
            foreign=False,
            max_pixels=100_000_000,
            cpu_seconds=0,
            memory_bytes=0,
            niceness=0,
        )

    async def seconds(self, photos: int) -> float:
        """How long so many encodes take."""
        began = perf_counter()
        jobs = [asyncio.wrap_future(self._pool.submit(_encode, self._job)) for _ in range(photos)]
        await asyncio.gather(*jobs)
        return perf_counter() - began


def _begin() -> None:
    forbid_other_loaders()
    os.nice(NICENESS)


def _encode(job: Job) -> None:
    with tempfile.TemporaryDirectory(dir=job.folder) as folder:
        os.chdir(folder)
        pictures.process(job)
