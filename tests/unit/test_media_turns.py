"""Pictures are recompressed in turns over the tenants."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from asyncpg.pgproto.pgproto import UUID

from mesh_core.ids import new_uuid
from mesh_media.processing import images
from mesh_media.processing.processed import ProcessedFile
from mesh_media.processing.processor import Processor
from mesh_media.processing.spool import SpooledFile
from sessionmesh.v1 import media_pb2
from tests.support.eventually import eventually

MANY, FEW = new_uuid(), new_uuid()
PNG = b"\x89PNG\r\n\x1a\n"


class Pictures:
    """Pictures to process with one thread, which waits at each until it may go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.processor = Processor(max_pixels=10_000, side=100, quality=75, workers=1)
        self.begun: list[str] = []
        self.go_on = threading.Semaphore(0)
        monkeypatch.setattr(images, "read_size", self._read)

    def process(self, tenant: UUID, name: str) -> asyncio.Task[Any]:
        options = media_pb2.StorageOptions(compression=media_pb2.COMPRESSION_OFF)
        file = SpooledFile(Path(name), 100, bytes(32), PNG)
        return asyncio.create_task(self._process(tenant, file, options), name=name)

    async def _process(
        self, tenant: UUID, file: SpooledFile, options: media_pb2.StorageOptions
    ) -> ProcessedFile:
        async with self.processor.process(
            tenant, file, options, options.compression, foreign=False
        ) as processed:
            return processed

    def _read(self, path: Path, _most: int) -> images.ImageSize:
        self.begun.append(path.name)
        self.go_on.acquire()
        return images.ImageSize(1, 1)


@pytest.fixture
def pictures(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pictures]:
    made = Pictures(monkeypatch)
    yield made
    made.go_on.release(1000)
    made.processor.close()


async def test_a_tenant_with_hundreds_of_pictures_delays_another_ones_by_one(pictures: Pictures) -> None:
    many = [pictures.process(MANY, f"many-{number}") for number in range(300)]
    await eventually(lambda: pictures.begun == ["many-0"])
    few = pictures.process(FEW, "few")
    await asyncio.sleep(0)
    pictures.go_on.release(3)
    async with asyncio.timeout(10):
        await few
    assert "few" in pictures.begun[:3]
    pictures.go_on.release(300)
    await asyncio.gather(*many)
    assert len(pictures.begun) == 301


async def test_what_was_cancelled_keeps_its_thread_until_it_ends(pictures: Pictures) -> None:
    cancelled = pictures.process(MANY, "cancelled")
    await eventually(lambda: pictures.begun == ["cancelled"])
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    many = [pictures.process(MANY, f"many-{number}") for number in range(5)]
    few = pictures.process(FEW, "few")
    await asyncio.sleep(0)
    pictures.go_on.release(3)
    async with asyncio.timeout(10):
        await few
    assert "few" in pictures.begun[:3]
    pictures.go_on.release(5)
    await asyncio.gather(*many)


async def test_what_was_cancelled_before_its_turn_takes_none(pictures: Pictures) -> None:
    first = pictures.process(MANY, "first")
    await eventually(lambda: pictures.begun == ["first"])
    cancelled = pictures.process(MANY, "cancelled")
    last = pictures.process(FEW, "last")
    await asyncio.sleep(0)
    cancelled.cancel()
    pictures.go_on.release(2)
    await asyncio.gather(first, last)
    assert pictures.begun == ["first", "last"]
