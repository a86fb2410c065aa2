"""Files through the Python client: progress, restarts, and files that are whole or not there."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from mesh_client import Client, DataLoss, FailedPrecondition, NotFound, connect
from mesh_core import errors
from sessionmesh.v1 import media_pb2, media_pb2_grpc
from tests.support.fake_router import break_off, fake_router, refuse

DATA = bytes(range(256)) * 8000  # 2 MB
CHUNK = 200_000


class Media(media_pb2_grpc.MediaServiceServicer):
    """Keeps one file, and breaks off as often as it is told."""

    def __init__(self) -> None:
        self.data = DATA
        self.sent = DATA
        self.headers: list[media_pb2.UploadHeader] = []
        self.offsets: list[int] = []
        self.breaks = 0
        self.changes = False

    async def UploadMedia(self, requests: AsyncIterator[Any], context: Any) -> Any:
        header = (await anext(requests)).header
        self.headers.append(header)
        received = b""
        async for frame in requests:
            received += frame.chunk
            if self.breaks and len(received) > header.size_bytes / 2:
                self.breaks -= 1
                await break_off(context)
        assert hashlib.sha256(received).digest() == header.options.sha256
        self.data = received
        return media_pb2.UploadMediaResponse(media=media_pb2.Media(id="med_1", size_bytes=len(received)))

    async def DownloadMedia(self, request: Any, context: Any) -> AsyncIterator[Any]:
        if request.media_id != "med_1":
            await refuse(context, errors.NotFound("media", request.media_id))
        self.offsets.append(request.offset_bytes)
        announced = self.data + (b"x" if self.changes and request.offset_bytes else b"")
        size, sha256 = len(announced), hashlib.sha256(announced).digest()
        media = media_pb2.Media(id="med_1", size_bytes=size, sha256=sha256)
        header = media_pb2.DownloadHeader(media=media, size_bytes=size, sha256=sha256)
        yield media_pb2.DownloadMediaResponse(header=header)
        for start in range(request.offset_bytes, len(self.sent), CHUNK):
            yield media_pb2.DownloadMediaResponse(chunk=self.sent[start : start + CHUNK])
            if self.breaks:
                self.breaks -= 1
                await break_off(context)


@pytest.fixture
def kept() -> Media:
    return Media()


@pytest.fixture
async def client(kept: Media) -> AsyncIterator[Client]:
    add = media_pb2_grpc.add_MediaServiceServicer_to_server
    async with fake_router({add: kept}) as router, connect(router.address, "key") as connected:
        yield connected


@pytest.mark.parametrize(
    ("name", "data", "mime_type"),
    [
        ("people.csv", b"a,b\n", "text/csv"),
        ("drawing.svg", b"<svg/>", "image/svg+xml"),
        ("offer.docx", b"PK", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
        ("photo.png", b"\x89PNG", ""),
        ("photo.txt", b"\xff\xd8\xff\xe0\x00\x10JFIF", ""),
        ("backup.tar.gz", b"\x1f\x8b", ""),
        ("", b"a", ""),
    ],
    ids=["csv", "svg", "docx", "picture", "mistaken", "packed", "nameless"],
)
async def test_an_uploads_type_is_guessed_from_its_name_where_the_bytes_do_not_say_it(
    client: Client, kept: Media, name: str, data: bytes, mime_type: str
) -> None:
    await client.upload(data, file_name=name)
    assert kept.headers[0].options.mime_type == mime_type


async def test_an_upload_tells_its_progress(client: Client, kept: Media, tmp_path: Path) -> None:
    file = tmp_path / "film.mp4"
    file.write_bytes(DATA)
    told: list[tuple[int, int]] = []
    await client.upload(str(file), progress=lambda done, total: told.append((done, total)))
    assert kept.data == DATA
    assert told == sorted(told)
    assert (told[-1], {total for _, total in told}) == ((len(DATA), len(DATA)), {len(DATA)})
    assert kept.headers[0].options.file_name == "film.mp4"


async def test_an_upload_that_breaks_off_begins_again_under_the_same_request_id(
    client: Client, kept: Media
) -> None:
    kept.breaks = 2
    await client.upload(DATA)
    assert kept.data == DATA
    assert len(kept.headers) == 3
    assert len({header.request_id for header in kept.headers}) == 1


async def test_a_download_goes_on_where_it_broke_off(client: Client, kept: Media, tmp_path: Path) -> None:
    kept.breaks = 3
    told: list[int] = []
    media = await client.download_to(
        "med_1", tmp_path / "film.mp4", progress=lambda done, _total: told.append(done)
    )
    assert (tmp_path / "film.mp4").read_bytes() == DATA
    assert kept.offsets == [0, CHUNK, 2 * CHUNK, 3 * CHUNK]
    assert told == sorted(told)
    assert (told[-1], media.size_bytes) == (len(DATA), len(DATA))
    assert await client.download("med_1") == DATA


async def test_a_download_that_fails_leaves_what_was_there(
    client: Client, kept: Media, tmp_path: Path
) -> None:
    file = tmp_path / "film.mp4"
    file.write_bytes(b"before")
    with pytest.raises(NotFound):
        await client.download_to("med_2", file)
    kept.sent = DATA[:-1] + b"x"  # right in size, and wrong
    with pytest.raises(DataLoss, match="med_1"):
        await client.download_to("med_1", file)
    with pytest.raises(DataLoss):
        await client.download("med_1")
    kept.sent = DATA[:-1]
    with pytest.raises(DataLoss):
        await client.download_to("med_1", file)
    assert file.read_bytes() == b"before"
    assert os.listdir(tmp_path) == [file.name]


async def test_a_file_that_changes_while_it_is_downloaded_is_not_put_together(
    client: Client, kept: Media
) -> None:
    kept.breaks = 1
    kept.changes = True
    with pytest.raises(DataLoss, match="changed"):
        await client.download("med_1")


async def test_what_cannot_be_read_or_written_is_told_before_anything_is_sent(
    client: Client, kept: Media, tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError):
        await client.upload(tmp_path / "missing")
    with pytest.raises(FileNotFoundError):
        await client.download_to("med_1", tmp_path / "missing" / "film.mp4")
    assert not kept.headers


async def test_a_callback_that_fails_ends_the_upload(client: Client) -> None:
    def fail(_done: int, _total: int) -> None:
        raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        await client.upload(DATA, progress=fail)


async def test_a_closed_client_uploads_nothing(client: Client) -> None:
    await client.close()
    with pytest.raises(FailedPrecondition, match="closed"):
        await client.upload(DATA)
