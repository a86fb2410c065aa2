"""Files that strangers send: kept, whatever they are, and refused where a caller sends them to hurt."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc.aio
import pytest
import pytest_asyncio

from sessionmesh.v1 import content_pb2, media_pb2
from tests.conftest import Databases, LoopThread, fresh_database
from tests.support.media_world import MediaTenant, MediaWorld, media_world, photograph, sha256, upload_frames
from tests.support.mesh_api import refusal_of
from tests.support.odd_files import OddFile, odd_files

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.slow]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def world(
    databases: Databases, server_loop: LoopThread, etcd: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[MediaWorld]:
    objects = {"MESH_OBJECTS_URL": tmp_path_factory.mktemp("objects").as_uri()}
    with fresh_database(databases, server_loop) as url:
        async with media_world(url, etcd, objects) as made:
            yield made


@pytest_asyncio.fixture(loop_scope="module")
async def tenant(world: MediaWorld) -> MediaTenant:
    return await world.tenant()


async def receive(tenant: MediaTenant, file: OddFile) -> media_pb2.Media:
    """Stores a file as a node does that fetched it from the network: without NUL, which no call may have."""
    mime_type, name = (text.replace("\0", "\ufffd") for text in (file.mime_type, file.name))
    header = tenant.header(file.data, mime_type=mime_type, file_name=name)
    header.origin = media_pb2.MEDIA_ORIGIN_NETWORK
    if file.size is not None:
        header.size_bytes = file.size
    return await tenant.upload(file.data, header, tenant.metadata)


@pytest.mark.read_back("UploadMedia")
async def test_every_odd_file_is_kept_as_it_came_unless_it_could_be_made_smaller(tenant: MediaTenant) -> None:
    files = odd_files()
    assert len(files) >= 80
    lost = []
    for file in files:
        try:
            media = await receive(tenant, file)
        except grpc.aio.AioRpcError as error:
            lost.append((file.what, error.details()))
            continue
        assert media.state == content_pb2.MEDIA_STATE_READY
        assert (media.original_size_bytes, media.original_sha256) == (len(file.data), sha256(file.data))
        stored = await tenant.download(media.id)
        assert len(stored) <= len(file.data)
        if media.unprocessed_reason:
            assert stored == file.data, file.what
    assert lost == []


@pytest.mark.parametrize(
    ("name", "fitting"),
    [
        ("../../etc/passwd", ".._.._etc_passwd"),
        ("C:\\cat.pdf", "C:_cat.pdf"),
        ("a" * 300 + ".pdf", "a" * 250 + "….pdf"),
        ("cat\0.pdf", "cat\ufffd.pdf"),
        ("cat\r\n.pdf", "cat.pdf"),
        ("cat\u202efdp.exe", "catfdp.exe"),
        ("..", "__"),
        ("  ", ""),
        ("Grüße 🙂.pdf", "Grüße 🙂.pdf"),
    ],
    ids=["path", "backslash", "long", "nul", "line break", "override", "dots", "blank", "unicode"],
)
async def test_a_strangers_name_is_made_fit(tenant: MediaTenant, name: str, fitting: str) -> None:
    media = await receive(tenant, OddFile("a name", b"%PDF-1.7\n", "application/pdf", name))
    assert media.file_name == fitting


async def test_a_file_that_is_larger_than_it_was_said_to_be_takes_room_for_all_of_it(
    tenant: MediaTenant,
) -> None:
    await tenant.database.execute(
        "UPDATE tenant SET settings = settings || '{\"max_media_bytes\": 1000}' WHERE id = $1", tenant.uuid
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await receive(tenant, OddFile("a lie", bytes(2000), size=10))
    assert refusal_of(caught.value).reason == "QUOTA_EXCEEDED"
    assert await tenant.media_count() == 0
    assert await tenant.object_count_settles(0)


DANGEROUS = (
    "a JPEG cut in half",
    "a JPEG whose header lies",
    "a PNG of ten gigapixels",
    "a GIF cut off",
    "text called a picture",
    "a film cut off",
    "an ffconcat script",
    "a playlist",
    "a playlist called sound",
    "a page called a film",
    "a size that is too small",
    "a size that is too large",
    "nothing",
)
"""Of the odd files those that are broken, or certainly not what they say."""


@pytest.mark.parametrize("what", DANGEROUS)
async def test_a_caller_is_told_what_is_wrong_with_a_file_and_nothing_of_it_is_stored(
    tenant: MediaTenant, what: str
) -> None:
    [file] = [one for one in odd_files() if one.what == what]
    header = tenant.header(file.data, mime_type=file.mime_type)
    header.size_bytes = len(file.data) if file.size is None else file.size
    frames = upload_frames(header, file.data)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await tenant.media.UploadMedia(frames, metadata=tenant.metadata, timeout=60)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert [field.partition(".")[0] for field in refusal_of(caught.value).fields] in (["chunk"], ["header"])
    assert await tenant.media_count() == 0
    assert await tenant.reserved_settles(0)


@pytest.mark.parametrize(
    "what",
    ["SVG", "SVG with entities", "a bomb as a document", "a program", "a docx called doc", "UTF-16 text"],
)
async def test_a_caller_may_store_what_is_only_odd(tenant: MediaTenant, what: str) -> None:
    [file] = [one for one in odd_files() if one.what == what]
    media = await tenant.upload(file.data, tenant.header(file.data, mime_type=file.mime_type))
    assert await tenant.download(media.id) == file.data


async def test_svg_is_a_document_that_nothing_draws(tenant: MediaTenant) -> None:
    [file] = [one for one in odd_files() if one.what == "SVG"]
    media = await tenant.upload(file.data, tenant.header(file.data, mime_type=file.mime_type))
    assert (media.mime_type, media.HasField("thumbnail")) == ("image/svg+xml", False)
    assert media.unprocessed_reason == media_pb2.UNPROCESSED_REASON_TYPE


async def test_a_photograph_of_a_stranger_is_made_smaller_like_any(tenant: MediaTenant) -> None:
    photo = photograph(2400)
    media = await receive(tenant, OddFile("a photograph", photo, "image/jpeg"))
    assert media.size_bytes < len(photo) / 4
    assert media.thumbnail.width == 320 or media.thumbnail.height == 320
    assert 0 < len(media.thumbnail.preview) <= 4096
