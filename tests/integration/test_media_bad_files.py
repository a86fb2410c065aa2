"""Files that are meant to hurt: they cost their own job only. Callers are told; the network's are kept."""

from __future__ import annotations

import asyncio
import io
import os
import zipfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import PIL.Image
import psutil
import pytest
import pytest_asyncio
import pyvips

from bench.media.bombs import bombs
from mesh_core.errors import InvalidField
from mesh_media.processing.jobs import Job, Outcome, Unfit
from mesh_media.processing.levels import level
from mesh_media.processing.workers import Died, Workers
from sessionmesh.v1 import media_pb2
from tests.support.eventually import eventually
from tests.support.media_processing import Processing, film, processing, sound
from tests.support.media_world import photograph

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.slow]

BOMBS = (
    "png_10_gigapixels",
    "png_interlaced",
    "jpeg_4_gigapixels",
    "jpeg_progressive",
    "webp_lying",
    "gif_2000_frames",
    "mp4_24_hours",
)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def files(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Processing]:
    async with processing(tmp_path_factory.mktemp("processing")) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def workers() -> AsyncIterator[Workers]:
    made = Workers()
    running = asyncio.create_task(made.run())
    yield made
    running.cancel()
    await asyncio.wait([running])


@pytest.fixture(scope="module")
def made_bombs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, bytes]]:
    return dict(bombs(tmp_path_factory.mktemp("bombs")))


@pytest.mark.parametrize("name", BOMBS)
async def test_a_bomb_is_refused_or_kept_unread(
    files: Processing, made_bombs: dict[str, tuple[str, bytes]], name: str
) -> None:
    assert set(made_bombs) == set(BOMBS)
    mime_type, came = made_bombs[name]
    kept = await files.process(came, foreign=True, mime_type=mime_type)
    assert kept.data == came
    assert kept.file.mime_type == mime_type
    assert kept.reason in ("TOO_COMPLEX", "UNREADABLE", "TYPE")
    if name in ("gif_2000_frames", "mp4_24_hours"):  # harmless as long as nobody converts them
        assert (await files.process(came, mime_type=mime_type)).data == came
        return
    with pytest.raises(InvalidField, match=r"pixels|broken"):
        await files.process(came, mime_type=mime_type)


async def test_an_animation_of_too_many_frames_is_no_sticker(
    files: Processing, made_bombs: dict[str, tuple[str, bytes]]
) -> None:
    with pytest.raises(InvalidField, match="2000 frames"):
        await files.process(made_bombs["gif_2000_frames"][1], purpose=media_pb2.MEDIA_PURPOSE_STICKER)


def _picture(kind: str) -> bytes:
    made = io.BytesIO()
    picture = PIL.Image.open(io.BytesIO(photograph(600)))
    picture.save(
        made, kind, save_all=kind == "GIF", append_images=[picture.rotate(90)] if kind == "GIF" else ()
    )
    return made.getvalue()


WHOLE: dict[str, Callable[[], bytes]] = {
    "jpeg": lambda: photograph(1800),
    "png": lambda: _picture("PNG"),
    "webp": lambda: _picture("WEBP"),
    "gif": lambda: _picture("GIF"),
    "mp4": film,
    "matroska": lambda: film("-b:v", "5M", seconds=2.0, size="320x240", kind="matroska"),
    "wav": lambda: sound("-c:a", "pcm_s16le", kind="wav"),
    "mp3": lambda: sound("-b:a", "128k", seconds=10.0),
}


@pytest.mark.parametrize("kind", WHOLE)
async def test_a_file_that_was_cut_off_is_refused_of_callers_and_kept_of_the_network(
    files: Processing, kind: str
) -> None:
    whole = WHOLE[kind]()
    cut = whole[: len(whole) * 2 // 5]
    with pytest.raises(InvalidField, match="broken or cut off"):
        await files.process(cut)
    kept = await files.process(cut, foreign=True)
    assert (kept.data, kept.reason) == (cut, "UNREADABLE")


@pytest.mark.parametrize("kind", WHOLE)
async def test_a_file_with_damage_in_the_middle_ends_its_own_job_only(files: Processing, kind: str) -> None:
    damaged = bytearray(WHOLE[kind]())
    middle = len(damaged) // 2
    damaged[middle : middle + 400] = os.urandom(400)
    kept = await files.process(bytes(damaged), foreign=True)
    assert len(kept.data) <= len(damaged)


@pytest.mark.parametrize(
    ("came", "mime_type"),
    [
        (b"ffconcat version 1.0\nfile /etc/hostname\n", "video/mp4"),
        (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n", "video/mp4"),
        (b'<!DOCTYPE svg [<!ENTITY a SYSTEM "file:///etc/hostname">]><svg>&a;</svg>', "image/svg+xml"),
    ],
    ids=["concat-script", "playlist", "svg-with-entities"],
)
async def test_scripts_that_say_they_are_pictures_or_films_are_never_followed(
    files: Processing, came: bytes, mime_type: str
) -> None:
    kept = await files.process(came, foreign=True, mime_type=mime_type)
    assert (kept.data, kept.file.thumbnail, kept.file.duration_ms) == (came, None, None)


async def test_a_film_of_more_pixels_than_may_be_decoded_is_kept(files: Processing) -> None:
    came = film(seconds=0.1, size="4096x2400")
    for foreign in (True, False):
        kept = await files.process(came, foreign=foreign)
        assert (kept.data, kept.reason, kept.file.thumbnail) == (came, "TOO_COMPLEX", None)
        assert (kept.file.width, kept.file.height) == (4096, 2400)


async def test_an_archive_is_not_unpacked(files: Processing) -> None:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(50_000_000))
    kept = await files.process(made.getvalue())
    assert (kept.data, kept.reason) == (made.getvalue(), "TYPE")


@pytest.fixture(scope="module")
def noise() -> bytes:
    """A picture that takes seconds to compress."""
    image = pyvips.Image.gaussnoise(4000, 4000, mean=128, sigma=60).cast("uchar")
    data: bytes = image.jpegsave_buffer(Q=99)
    return data


def _job(folder: Path, data: bytes, *, cpu_seconds: int = 60, memory_bytes: int = 600_000_000) -> Job:
    (folder / "came").write_bytes(data)
    (folder / "job").mkdir()
    return Job(
        path=str(folder / "came"),
        folder=str(folder / "job"),
        size=len(data),
        mime_type="image/jpeg",
        purpose=0,
        level=level(media_pb2.COMPRESSION_BALANCED, side=3999, quality=75),
        foreign=False,
        max_pixels=100_000_000,
        cpu_seconds=cpu_seconds,
        memory_bytes=memory_bytes,
        niceness=0,
    )


async def test_a_job_that_takes_more_time_than_it_may_is_killed(
    workers: Workers, tmp_path: Path, noise: bytes
) -> None:
    with pytest.raises(Died):
        await workers.do(_job(tmp_path, noise, cpu_seconds=1), 300.0)


async def test_a_job_that_takes_more_memory_than_it_may_ends(
    workers: Workers, tmp_path: Path, noise: bytes
) -> None:
    try:
        answer = await workers.do(_job(tmp_path, noise, memory_bytes=4_000_000), 300.0)
    except Died:
        return
    assert isinstance(answer, Unfit)


async def test_nothing_of_a_job_runs_on_when_nobody_waits_for_it(
    workers: Workers, tmp_path: Path, noise: bytes
) -> None:
    waiting = asyncio.create_task(workers.do(_job(tmp_path, noise), 300.0))
    [job] = await eventually(_jobs)
    job.suspend()  # it does not end by itself
    waiting.cancel()
    await eventually(lambda: not _jobs(), seconds=20.0)


async def test_the_workers_are_back_after_their_parent_was_killed(workers: Workers, tmp_path: Path) -> None:
    small = pyvips.Image.black(500, 500).jpegsave_buffer()
    parents = _parents()
    for parent in parents:
        parent.kill()
    answer = await workers.do(_job(tmp_path, small), 300.0)
    assert isinstance(answer, Outcome)
    assert not {parent.pid for parent in parents} & {parent.pid for parent in _parents()}


def _parents() -> list[psutil.Process]:
    return [
        child for child in psutil.Process().children() if "mesh_media.processing.worker" in child.cmdline()
    ]


def _jobs() -> list[psutil.Process]:
    return [job for parent in _parents() for job in parent.children(recursive=True)]
