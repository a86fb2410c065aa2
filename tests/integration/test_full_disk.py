"""Whoever writes files to a disk that is full says so, and which folder is on it."""

from __future__ import annotations

import asyncio
import hashlib
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from mesh_cli.embedded import EmbeddedEtcd, EmbeddedPostgres, EmbeddedRedis, EmbeddedServer
from mesh_cli.up.state import MeshFile, StateDirectory
from mesh_core.disk import DiskFull
from mesh_core.settings import ObjectsSettings
from mesh_media.processing.spool import SpoolFolder, spool_upload
from mesh_media.stores.named_stores import open_store
from sessionmesh.v1 import media_pb2

SERVERS: list[type[EmbeddedServer]] = [EmbeddedEtcd, EmbeddedPostgres, EmbeddedRedis]
CHUNK = bytes(256 * 1024)


@pytest.fixture
def small_disk(tmp_state: Path) -> Iterator[Path]:
    """A folder on a disk of its own, of one megabyte."""
    folder = tmp_state / "disk"
    folder.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if subprocess.run(mounting, capture_output=True, check=False).returncode != 0:
        pytest.skip("needs root, and the right to mount a tmpfs: NOTHING of full disks is tested here")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture
def full_disk(small_disk: Path) -> Path:
    """The same, with something in it that has taken all the room."""
    with (small_disk / "filler").open("wb", buffering=0) as filler:
        try:
            while filler.write(CHUNK) == len(CHUNK):
                pass
            while filler.write(b"x"):
                pass
        except OSError:
            return small_disk
    raise AssertionError("there is room without end")


@pytest.mark.parametrize("kind", SERVERS, ids=lambda kind: kind.name)
async def test_a_server_on_a_full_disk_names_its_folder_each_time_and_starts_once_there_is_room(
    kind: type[EmbeddedServer], full_disk: Path
) -> None:
    server = kind(full_disk)
    for _ in range(2):
        with pytest.raises(DiskFull, match=f"the disk of {full_disk}/{kind.name} is full"):
            await server.start()
    larger = ["mount", "-o", "remount,size=500m", str(full_disk)]
    await asyncio.to_thread(subprocess.run, larger, check=True)
    await server.start()
    await server.stop()


@pytest.mark.parametrize("kind", [EmbeddedEtcd, EmbeddedPostgres], ids=lambda kind: kind.name)
async def test_a_server_that_has_no_room_for_its_data_names_their_folder(
    kind: type[EmbeddedServer], small_disk: Path
) -> None:
    server = kind(small_disk)
    with pytest.raises(DiskFull, match=f"the disk of {small_disk}/{kind.name} is full"):
        await server.start()
    assert not server.running


def test_a_state_folder_without_room_is_named(full_disk: Path) -> None:
    state = StateDirectory(full_disk)
    with pytest.raises(DiskFull, match=f"the disk of {full_disk} is full"):
        state.secrets()
    with pytest.raises(DiskFull, match=f"the disk of {full_disk} is full"):
        state.announce(MeshFile("127.0.0.1:1", "key", "", str(full_disk), 1))


async def test_an_upload_without_room_for_its_temporary_file_is_told_so(full_disk: Path) -> None:
    async def frames() -> AsyncIterator[media_pb2.UploadMediaRequest]:
        for _ in range(4):
            yield media_pb2.UploadMediaRequest(chunk=CHUNK)

    header = media_pb2.UploadHeader(
        size_bytes=4 * len(CHUNK),
        options=media_pb2.StorageOptions(sha256=hashlib.sha256(CHUNK * 4).digest()),
    )
    with pytest.raises(DiskFull, match="the disk of the media service's temporary files is full"):
        async with spool_upload(frames(), header, SpoolFolder(str(full_disk))):
            pass
    assert [path.name for path in full_disk.iterdir()] == ["filler"]  # noqa: ASYNC240 - of a memory disk


async def test_an_object_store_in_a_folder_without_room_keeps_no_half_object(small_disk: Path) -> None:
    store = await open_store(ObjectsSettings(url=small_disk.as_uri()))
    await store.put("tenant/first", CHUNK)
    with pytest.raises(DiskFull, match="the disk of the object store is full"):
        await store.put("tenant/second", CHUNK * 4)
    with pytest.raises(FileNotFoundError):
        await anext(store.get("tenant/second", 0, 1))
    assert await anext(store.get("tenant/first", 0, 4)) == CHUNK[:4]
