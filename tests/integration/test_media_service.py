"""The media service over gRPC, on a directory and on S3."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable
from datetime import timedelta
from pathlib import Path
from urllib.request import urlopen

import grpc.aio
import pytest
import pyvips

from mesh_core import ids
from mesh_core.ids import Prefix
from mesh_core.rpc.channels import mesh_metadata
from sessionmesh.v1 import content_pb2, media_pb2
from tests.support.eventually import eventually
from tests.support.media_world import (
    ADMIN,
    MESH_KEY,
    MediaWorld,
    media_world,
    photograph,
    sha256,
    upload_frames,
)
from tests.support.mesh_api import refusal_of

PDF = b"%PDF-1.7\n" + bytes(range(256)) * 2000


def object_settings(kind: str, request: pytest.FixtureRequest) -> dict[str, str]:
    if kind == "directory":
        return {"MESH_OBJECTS_URL": request.getfixturevalue("tmp_path").as_uri()}
    s3 = request.getfixturevalue("s3")
    return {
        "MESH_OBJECTS_URL": f"s3://test-{uuid.uuid4().hex[:12]}",
        "MESH_OBJECTS_ENDPOINT": s3.endpoint,
        "MESH_OBJECTS_ACCESS_KEY": s3.access_key,
        "MESH_OBJECTS_SECRET_KEY": s3.secret_key,
        "MESH_OBJECTS_REGION": s3.region,
    }


@pytest.fixture(params=["directory", "s3"])
async def world(
    request: pytest.FixtureRequest, postgres_url: str, etcd: str, cluster: str
) -> AsyncIterator[MediaWorld]:
    objects = object_settings(request.param, request)
    async with media_world(postgres_url, etcd, cluster, objects) as made:
        yield made


@pytest.fixture
async def directory_world(
    request: pytest.FixtureRequest, postgres_url: str, etcd: str, cluster: str
) -> AsyncIterator[MediaWorld]:
    objects = object_settings("directory", request)
    async with media_world(
        postgres_url, etcd, cluster, objects, MESH_MEDIA_MAX_BYTES="4000000", MESH_MEDIA_MAX_PIXELS="20000000"
    ) as made:
        yield made


async def refusal(call: Awaitable[object]) -> tuple[grpc.StatusCode, str, str]:
    """Code, reason and the first field that a call is refused for."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    refused = refusal_of(caught.value)
    return refused.code, refused.reason, next(iter(refused.fields), "")


class TestAFile:
    async def test_comes_back_as_it_was_sent(self, world: MediaWorld) -> None:
        media = await world.upload(PDF, world.header(PDF, file_name="paper.pdf", labels={"case": "7"}))
        assert media.state == content_pb2.MEDIA_STATE_READY
        assert (media.mime_type, media.size, media.sha256) == ("application/pdf", len(PDF), sha256(PDF))
        assert (media.file_name, dict(media.labels)) == ("paper.pdf", {"case": "7"})
        assert await world.download(media.id) == PDF

    @pytest.mark.parametrize(("offset", "limit"), [(0, 10), (300_000, 0), (300_000, 5), (512_009, 0)])
    async def test_can_be_read_in_part(self, world: MediaWorld, offset: int, limit: int) -> None:
        media = await world.upload(PDF)
        wanted = PDF[offset : offset + limit] if limit else PDF[offset:]
        assert await world.download(media.id, offset, limit) == wanted

    async def test_is_gone_after_its_delete(self, world: MediaWorld) -> None:
        media = await world.upload(PDF)
        await world.media.DeleteMedia(media_pb2.DeleteMediaRequest(media_id=media.id), metadata=ADMIN)
        call = world.media.GetMedia(media_pb2.GetMediaRequest(media_id=media.id), metadata=ADMIN)
        assert (await refusal(call))[0] is grpc.StatusCode.NOT_FOUND

    async def test_is_listed_newest_first_in_pages(self, world: MediaWorld) -> None:
        made = [(await world.upload(PDF + bytes([n]))).id for n in range(3)]
        request = media_pb2.ListMediaRequest(tenant_id=world.tenant_id, page_size=2)
        first = await world.media.ListMedia(request, metadata=ADMIN)
        request.page_token = first.next_page_token
        second = await world.media.ListMedia(request, metadata=ADMIN)
        assert [media.id for media in (*first.media, *second.media)] == made[::-1]
        assert not second.next_page_token


class TestAPhotograph:
    async def test_is_stored_smaller_and_is_still_that_picture(self, world: MediaWorld) -> None:
        photo = photograph()
        media = await world.upload(photo, world.header(photo, mime_type="image/jpeg"))
        stored = await world.download(media.id)
        assert (media.original_size, media.original_sha256) == (len(photo), sha256(photo))
        assert media.size == len(stored) < len(photo) / 4
        assert max(media.width, media.height) == 1600
        before = pyvips.Image.thumbnail_buffer(photo, 64, height=64, size="force")
        after = pyvips.Image.thumbnail_buffer(stored, 64, height=64, size="force")
        assert (before - after).abs().avg() < 3

    async def test_can_be_kept_as_it_is(self, directory_world: MediaWorld) -> None:
        photo = photograph(2000)
        media = await directory_world.upload(photo, directory_world.header(photo, keep_original=True))
        assert await directory_world.download(media.id) == photo

    async def test_compressed_before_is_not_compressed_again(self, directory_world: MediaWorld) -> None:
        photo = photograph(1200, quality=60)
        media = await directory_world.upload(photo)
        assert (media.size, media.width) == (len(photo), 1200)


class TestEqualFiles:
    async def test_share_their_bytes_until_the_last_is_deleted(
        self, directory_world: MediaWorld, tmp_path: Path
    ) -> None:
        world = directory_world
        first, second = await world.upload(PDF), await world.upload(PDF)
        assert first.id != second.id
        await _objects_become(tmp_path, 1)
        await world.media.DeleteMedia(media_pb2.DeleteMediaRequest(media_id=first.id), metadata=ADMIN)
        assert await world.download(second.id) == PDF
        await world.media.DeleteMedia(media_pb2.DeleteMediaRequest(media_id=second.id), metadata=ADMIN)
        await _objects_become(tmp_path, 0)

    async def test_of_two_tenants_are_apart(self, directory_world: MediaWorld, tmp_path: Path) -> None:
        world = directory_world
        other = ids.encode(Prefix.TENANT, await world.new_tenant())
        await world.upload(PDF)
        header = world.header(PDF)
        header.tenant_id = other
        await world.upload(PDF, header)
        await _objects_become(tmp_path, 2)

    async def test_at_the_same_time_all_succeed(self, directory_world: MediaWorld, tmp_path: Path) -> None:
        made = await asyncio.gather(*(directory_world.upload(PDF) for _ in range(16)))
        assert len({media.id for media in made}) == 16
        await _objects_become(tmp_path, 1)


class TestARepeatedRequest:
    async def test_returns_the_first_media(self, directory_world: MediaWorld) -> None:
        header = directory_world.header(PDF, file_name="a.pdf")
        first = await directory_world.upload(PDF, header)
        assert await directory_world.upload(PDF, header) == first

    async def test_with_other_bytes_is_refused(self, directory_world: MediaWorld) -> None:
        header = directory_world.header(PDF)
        await directory_world.upload(PDF, header)
        other = PDF[::-1]
        call = directory_world.media.UploadMedia(upload_frames(header, other), metadata=ADMIN)
        assert (await refusal(call))[:2] == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")


class TestBadInput:
    @pytest.mark.parametrize(
        ("fields", "field"),
        [
            ({"request_id": ""}, "header.request_id"),
            ({"request_id": "x" * 65}, "header.request_id"),
            ({"size": 0}, "header.size"),
            ({"size": len(PDF) - 1}, "header.size"),
            ({"size": len(PDF) + 1}, "header.size"),
            ({"size": 5_000_000}, "header.size"),
            ({"sha256": b"short"}, "header.sha256"),
            ({"sha256": bytes(32)}, "header.sha256"),
            ({"mime_type": "image/jpeg"}, "header.mime_type"),
            ({"mime_type": "no type"}, "header.mime_type"),
            ({"file_name": "../secret"}, "header.file_name"),
            ({"file_name": "nul\0"}, "header.file_name"),
            ({"origin": media_pb2.MEDIA_ORIGIN_NETWORK}, "header.origin"),
        ],
    )
    async def test_is_refused_with_its_field(
        self, directory_world: MediaWorld, fields: dict[str, object], field: str
    ) -> None:
        header = directory_world.header(PDF)
        for name, value in fields.items():
            setattr(header, name, value)
        call = directory_world.media.UploadMedia(upload_frames(header, PDF), metadata=ADMIN)
        assert await refusal(call) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", field)

    async def test_a_chunk_before_the_header_is_refused(self, directory_world: MediaWorld) -> None:
        frames = iter([media_pb2.UploadMediaRequest(chunk=b"x")])
        call = directory_world.media.UploadMedia(frames, metadata=ADMIN)
        assert (await refusal(call))[2] == "header"

    async def test_a_decompression_bomb_is_refused_by_its_header(self, directory_world: MediaWorld) -> None:
        bomb = pyvips.Image.black(30_000, 30_000).pngsave_buffer(compression=9)
        call = directory_world.media.UploadMedia(
            upload_frames(directory_world.header(bomb), bomb), metadata=ADMIN
        )
        assert await refusal(call) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", "chunk")

    async def test_a_cut_off_picture_is_refused(self, directory_world: MediaWorld) -> None:
        cut = photograph(2400)[:-2000]
        call = directory_world.media.UploadMedia(
            upload_frames(directory_world.header(cut), cut), metadata=ADMIN
        )
        assert (await refusal(call))[2] == "chunk"

    async def test_leaves_nothing_behind(self, directory_world: MediaWorld, tmp_path: Path) -> None:
        header = directory_world.header(PDF, sha256=bytes(32))
        await refusal(directory_world.media.UploadMedia(upload_frames(header, PDF), metadata=ADMIN))
        assert await directory_world.database.fetchval("SELECT count(*) FROM media") == 0
        await _objects_become(tmp_path, 0)

    async def test_an_unknown_media_is_not_found(self, directory_world: MediaWorld) -> None:
        request = media_pb2.GetMediaRequest(media_id=ids.new_id(Prefix.MEDIA))
        call = directory_world.media.GetMedia(request, metadata=ADMIN)
        assert (await refusal(call))[:2] == (grpc.StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND")

    async def test_a_download_past_the_end_is_refused(self, directory_world: MediaWorld) -> None:
        media = await directory_world.upload(PDF)
        request = media_pb2.DownloadMediaRequest(media_id=media.id, offset=len(PDF) + 1)
        stream = directory_world.media.DownloadMedia(request, metadata=ADMIN)
        assert (await refusal(stream.read()))[2] == "offset"


class TestTenants:
    async def test_do_not_see_each_others_media(self, directory_world: MediaWorld) -> None:
        media = await directory_world.upload(PDF)
        stranger = mesh_metadata(MESH_KEY, await directory_world.new_tenant())
        request = media_pb2.GetMediaRequest(media_id=media.id)
        call = directory_world.media.GetMedia(request, metadata=stranger)
        assert (await refusal(call))[0] is grpc.StatusCode.NOT_FOUND
        own = await directory_world.media.GetMedia(request, metadata=directory_world.as_tenant)
        assert own.media.id == media.id

    async def test_are_held_to_their_quota(self, directory_world: MediaWorld) -> None:
        world = directory_world
        settings = '{"max_media_bytes": "600000"}'
        await world.database.execute("UPDATE tenant SET settings = $2 WHERE id = $1", world.tenant, settings)
        await world.upload(PDF)
        call = world.media.UploadMedia(upload_frames(world.header(PDF), PDF), metadata=ADMIN)
        assert (await refusal(call))[:2] == (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUOTA_EXCEEDED")
        request = media_pb2.GetMediaUsageRequest(tenant_id=world.tenant_id)
        usage = await world.media.GetMediaUsage(request, metadata=ADMIN)
        assert (usage.objects, usage.bytes, usage.max_bytes) == (1, len(PDF), 600_000)


class TestTheSweep:
    async def test_deletes_what_has_expired(self, directory_world: MediaWorld, tmp_path: Path) -> None:
        header = directory_world.header(PDF)
        header.keep_for.FromTimedelta(timedelta(seconds=1))
        await directory_world.upload(PDF, header)
        await _objects_become(tmp_path, 0)
        assert await directory_world.database.fetchval("SELECT count(*) FROM media") == 0

    async def test_deletes_what_a_crashed_upload_left(
        self, directory_world: MediaWorld, tmp_path: Path
    ) -> None:
        world = directory_world
        (tmp_path / "left").write_bytes(b"bytes of an upload that was killed before its row was made")
        await world.database.execute(
            "INSERT INTO media_loose_object (key, tenant, size, due_time) VALUES ('left', $1, 58, now())",
            world.tenant,
        )
        await _objects_become(tmp_path, 0)


class TestADownloadUrl:
    async def test_serves_the_file_from_s3(
        self, request: pytest.FixtureRequest, postgres_url: str, etcd: str, cluster: str
    ) -> None:
        async with media_world(postgres_url, etcd, cluster, object_settings("s3", request)) as world:
            media = await world.upload(PDF, world.header(PDF, file_name="paper.pdf"))
            made = await world.media.CreateDownloadUrl(
                media_pb2.CreateDownloadUrlRequest(media_id=media.id), metadata=ADMIN
            )
            status, kind, body = await asyncio.to_thread(_get, made.url)
            assert (status, kind, body) == (200, "application/pdf", PDF)

    async def test_cannot_be_had_from_a_directory(self, directory_world: MediaWorld) -> None:
        media = await directory_world.upload(PDF)
        request = media_pb2.CreateDownloadUrlRequest(media_id=media.id)
        call = directory_world.media.CreateDownloadUrl(request, metadata=ADMIN)
        assert (await refusal(call))[:2] == (grpc.StatusCode.FAILED_PRECONDITION, "UNSUPPORTED_BY_STORE")


def _get(url: str) -> tuple[int, str, bytes]:
    with urlopen(url, timeout=10) as answer:
        return answer.status, answer.headers["Content-Type"], answer.read()


async def _objects_become(folder: Path, count: int) -> None:
    """Wait until so many objects are in the store: the sweep runs every 50 ms."""
    await eventually(lambda: _object_count(folder) == count, 10, f"{count} objects")


def _object_count(folder: Path) -> int:
    return sum(1 for path in folder.rglob("*") if path.is_file())
