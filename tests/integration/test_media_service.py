"""The media service over gRPC, on a directory and on S3."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable
from datetime import timedelta
from typing import Any
from urllib.request import urlopen

import grpc.aio
import pytest
import pytest_asyncio
import pyvips

from mesh_core import ids
from mesh_core.ids import Prefix
from mesh_media.processing.worker.metadata import without_metadata
from sessionmesh.v1 import content_pb2, media_pb2
from tests.conftest import S3, Databases, LoopThread, fresh_database
from tests.support.eventually import eventually
from tests.support.media_world import (
    ADMIN,
    MediaTenant,
    MediaWorld,
    media_world,
    photograph,
    sha256,
    upload_frames,
)
from tests.support.mesh_api import refusal_of

PDF = b"%PDF-1.7\n" + bytes(range(256)) * 2000


pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.slow]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def directory_world(
    databases: Databases, server_loop: LoopThread, etcd: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[MediaWorld]:
    objects = {"MESH_OBJECTS_URL": tmp_path_factory.mktemp("objects").as_uri()}
    limits = {"MESH_MEDIA_MAX_BYTES": "4000000", "MESH_MEDIA_MAX_PIXELS": "20000000"}
    with fresh_database(databases, server_loop) as url:
        async with media_world(url, etcd, objects, **limits) as made:
            yield made


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def s3_world(
    databases: Databases, server_loop: LoopThread, etcd: str, s3: S3
) -> AsyncIterator[MediaWorld]:
    objects = {
        "MESH_OBJECTS_URL": f"s3://test-{uuid.uuid4().hex[:12]}",
        "MESH_OBJECTS_ENDPOINT": s3.endpoint,
        "MESH_OBJECTS_ACCESS_KEY": s3.access_key,
        "MESH_OBJECTS_SECRET_KEY": s3.secret_key,
        "MESH_OBJECTS_REGION": s3.region,
    }
    with fresh_database(databases, server_loop) as url:
        async with media_world(url, etcd, objects) as made:
            yield made


@pytest.fixture(params=["directory", "s3"])
def world_of_a_store(request: pytest.FixtureRequest) -> MediaWorld:
    """Each kind of store in turn."""
    made: MediaWorld = request.getfixturevalue(f"{request.param}_world")
    return made


@pytest_asyncio.fixture(loop_scope="module")
async def on_each_store(world_of_a_store: MediaWorld) -> MediaTenant:
    """A tenant of a service on each kind of store in turn."""
    return await world_of_a_store.tenant()


@pytest_asyncio.fixture(loop_scope="module")
async def tenant(directory_world: MediaWorld) -> MediaTenant:
    """A tenant of a service that stores in a directory."""
    return await directory_world.tenant()


async def refusal(call: Awaitable[object]) -> tuple[grpc.StatusCode, str, str]:
    """Code, reason and the first field that a call is refused for."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    refused = refusal_of(caught.value)
    return refused.code, refused.reason, next(iter(refused.fields), "")


class TestAFile:
    @pytest.mark.read_back("UploadMedia", "DownloadMedia")
    async def test_comes_back_as_it_was_sent(self, on_each_store: MediaTenant) -> None:
        media = await on_each_store.upload(
            PDF, on_each_store.header(PDF, file_name="paper.pdf", labels={"case": "7"})
        )
        assert media.state == content_pb2.MEDIA_STATE_READY
        assert (media.mime_type, media.size_bytes, media.sha256) == ("application/pdf", len(PDF), sha256(PDF))
        assert (media.file_name, dict(media.labels)) == ("paper.pdf", {"case": "7"})
        assert await on_each_store.download(media.id) == PDF

    @pytest.mark.parametrize(
        ("offset", "limit"), [(0, 10), (300_000, None), (300_000, 5), (512_009, None), (7, 0)]
    )
    async def test_can_be_read_in_part(
        self, on_each_store: MediaTenant, offset: int, limit: int | None
    ) -> None:
        media = await on_each_store.upload(PDF)
        wanted = PDF[offset:] if limit is None else PDF[offset : offset + limit]
        assert await on_each_store.download(media.id, offset, limit) == wanted

    @pytest.mark.read_back("DeleteMedia")
    async def test_is_gone_after_its_delete(self, on_each_store: MediaTenant) -> None:
        media = await on_each_store.upload(PDF)
        await on_each_store.media.DeleteMedia(media_pb2.DeleteMediaRequest(media_id=media.id), metadata=ADMIN)
        call = on_each_store.media.GetMedia(media_pb2.GetMediaRequest(media_id=media.id), metadata=ADMIN)
        assert (await refusal(call))[0] is grpc.StatusCode.NOT_FOUND

    @pytest.mark.read_back("ListMedia")
    async def test_is_listed_newest_first_in_pages(self, on_each_store: MediaTenant) -> None:
        made = [(await on_each_store.upload(PDF + bytes([n]))).id for n in range(3)]
        request = media_pb2.ListMediaRequest(tenant_id=on_each_store.id, page_size=2)
        first = await on_each_store.media.ListMedia(request, metadata=ADMIN)
        request.page_token = first.next_page_token
        second = await on_each_store.media.ListMedia(request, metadata=ADMIN)
        assert [media.id for media in (*first.media, *second.media)] == made[::-1]
        assert not second.next_page_token

    async def test_that_the_caller_has_is_not_sent_again(self, on_each_store: MediaTenant) -> None:
        media = await on_each_store.upload(PDF)
        request = media_pb2.DownloadMediaRequest(media_id=media.id, if_none_match_sha256=media.sha256)
        [frame] = await on_each_store.frames(request)
        assert frame.header.not_modified
        request.if_none_match_sha256 = bytes(32)
        first, *chunks = await on_each_store.frames(request)
        assert not first.header.not_modified
        assert (first.header.size_bytes, first.header.sha256) == (len(PDF), sha256(PDF))
        assert b"".join(frame.chunk for frame in chunks) == PDF

    async def test_tells_what_it_was_announced_as_where_that_is_not_what_it_is(
        self, tenant: MediaTenant
    ) -> None:
        media = await tenant.upload(PDF, tenant.header(PDF, mime_type="application/octet-stream"))
        assert (media.mime_type, media.declared_mime_type) == ("application/pdf", "application/octet-stream")
        assert not media.HasField("width")
        assert not (
            await tenant.upload(PDF, tenant.header(PDF, mime_type="application/pdf"))
        ).declared_mime_type

    async def test_is_found_by_what_a_filter_says(self, tenant: MediaTenant) -> None:
        paper = await tenant.upload(PDF, tenant.header(PDF, labels={"case": "7", "kind": "paper"}))
        photo = await tenant.upload(photograph(400))

        async def found(**fields: Any) -> list[str]:
            request = media_pb2.ListMediaRequest(tenant_id=tenant.id, filter=media_pb2.MediaFilter(**fields))
            return [media.id for media in (await tenant.media.ListMedia(request, metadata=ADMIN)).media]

        assert await found() == [photo.id, paper.id]
        assert await found(mime_type_prefix="image/") == [photo.id]
        assert await found(labels={"case": "7"}) == [paper.id]
        assert await found(min_size_bytes=len(PDF)) == [paper.id]
        assert await found(start_time=photo.create_time) == [photo.id]
        assert await found(end_time=photo.create_time) == [paper.id]
        assert await found(origin=media_pb2.MEDIA_ORIGIN_NETWORK) == []
        assert await found(state=content_pb2.MEDIA_STATE_READY) == [photo.id, paper.id]
        assert await found(state=content_pb2.MEDIA_STATE_FAILED) == []


class TestAnAnimation:
    async def test_is_known_to_move(self, tenant: MediaTenant) -> None:
        black = pyvips.Image.black(32, 32)
        frames = black.join(black + 255, "vertical").cast("uchar").copy()
        frames.set_type(pyvips.GValue.gint_type, "page-height", 32)
        assert (await tenant.upload(frames.gifsave_buffer())).animated
        assert not (await tenant.upload(pyvips.Image.black(32, 32).gifsave_buffer())).animated


class TestAKeyLimitedToAccounts:
    async def test_uses_the_media_of_its_accounts_and_sees_no_other(self, tenant: MediaTenant) -> None:
        own, other = await tenant.account(), await tenant.account()
        key = await tenant.key_for(own)
        mine = await tenant.upload(PDF, tenant.header(PDF, account_id=own), key)
        assert mine.account_id == own
        theirs = await tenant.upload(PDF, tenant.header(PDF, account_id=other))
        nobodys = await tenant.upload(PDF)
        listed = await tenant.media.ListMedia(media_pb2.ListMediaRequest(), metadata=key)
        assert list(listed.media) == [mine]
        download = media_pb2.DownloadMediaRequest(media_id=mine.id)
        assert b"".join(frame.chunk for frame in (await tenant.frames(download, key))[1:]) == PDF
        stubs = tenant.media
        for hidden in (theirs.id, nobodys.id):
            for call in (
                stubs.GetMedia(media_pb2.GetMediaRequest(media_id=hidden), metadata=key),
                stubs.DeleteMedia(media_pb2.DeleteMediaRequest(media_id=hidden), metadata=key),
                stubs.CreateDownloadUrl(media_pb2.CreateDownloadUrlRequest(media_id=hidden), metadata=key),
                stubs.DownloadMedia(media_pb2.DownloadMediaRequest(media_id=hidden), metadata=key).read(),
            ):
                assert (await refusal(call))[:2] == (grpc.StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND")

    async def test_uploads_for_its_accounts_only(self, tenant: MediaTenant) -> None:
        own, other = await tenant.account(), await tenant.account()
        key = await tenant.key_for(own)
        for account, code in ((other, grpc.StatusCode.NOT_FOUND), ("", grpc.StatusCode.PERMISSION_DENIED)):
            frames = upload_frames(tenant.header(PDF, account_id=account), PDF)
            assert (await refusal(tenant.media.UploadMedia(frames, metadata=key)))[0] is code

    async def test_does_not_learn_what_the_tenant_stores(self, tenant: MediaTenant) -> None:
        key = await tenant.key_for(await tenant.account())
        call = tenant.media.GetMediaUsage(media_pb2.GetMediaUsageRequest(), metadata=key)
        assert (await refusal(call))[:2] == (grpc.StatusCode.PERMISSION_DENIED, "SCOPE_MISSING")


class TestAPhotograph:
    async def test_is_stored_smaller_and_is_still_that_picture(self, on_each_store: MediaTenant) -> None:
        photo = photograph(2400)
        media = await on_each_store.upload(photo, on_each_store.header(photo, mime_type="image/jpeg"))
        stored = await on_each_store.download(media.id)
        assert (media.original_size_bytes, media.original_sha256) == (len(photo), sha256(photo))
        assert media.size_bytes == len(stored) < len(photo) / 4
        assert not media.unprocessed_reason
        assert max(media.width, media.height) == 1600
        before = pyvips.Image.thumbnail_buffer(photo, 64, height=64, size="force")
        after = pyvips.Image.thumbnail_buffer(stored, 64, height=64, size="force")
        assert (before - after).abs().avg() < 3

    async def test_can_be_kept_as_it_is(self, tenant: MediaTenant) -> None:
        photo = photograph(2000)
        media = await tenant.upload(photo, tenant.header(photo, compression=media_pb2.COMPRESSION_OFF))
        assert media.unprocessed_reason == media_pb2.UNPROCESSED_REASON_OFF
        assert await tenant.download(media.id) == photo

    async def test_compressed_before_is_not_compressed_again(self, tenant: MediaTenant) -> None:
        photo = without_metadata(photograph(1200, quality=60), "image/jpeg")
        media = await tenant.upload(photo)
        scan = photo[photo.index(b"\xff\xda") :]
        assert (await tenant.download(media.id)).endswith(scan), "the pixels are not as they came"
        assert media.width == 1200

    async def test_that_is_a_document_stays_as_it_is(self, tenant: MediaTenant) -> None:
        photo = photograph(2000)
        media = await tenant.upload(photo, tenant.header(photo, purpose=media_pb2.MEDIA_PURPOSE_DOCUMENT))
        assert media.unprocessed_reason == media_pb2.UNPROCESSED_REASON_TYPE
        assert await tenant.download(media.id) == photo


class TestEqualFiles:
    async def test_share_their_bytes_until_the_last_is_deleted(self, tenant: MediaTenant) -> None:
        first, second = await tenant.upload(PDF), await tenant.upload(PDF)
        assert first.id != second.id
        await _objects_become(tenant, 1)
        await tenant.media.DeleteMedia(media_pb2.DeleteMediaRequest(media_id=first.id), metadata=ADMIN)
        assert await tenant.download(second.id) == PDF
        await tenant.media.DeleteMedia(media_pb2.DeleteMediaRequest(media_id=second.id), metadata=ADMIN)
        await _objects_become(tenant, 0)

    async def test_of_two_tenants_are_apart(self, tenant: MediaTenant) -> None:
        other = await tenant.world.tenant()
        await tenant.upload(PDF)
        await other.upload(PDF)
        await _objects_become(tenant, 1)
        await _objects_become(other, 1)

    async def test_at_the_same_time_all_succeed(self, tenant: MediaTenant) -> None:
        made = await asyncio.gather(*(tenant.upload(PDF) for _ in range(16)))
        assert len({media.id for media in made}) == 16
        await _objects_become(tenant, 1)


class TestARepeatedRequest:
    async def test_returns_the_first_media(self, tenant: MediaTenant) -> None:
        header = tenant.header(PDF, file_name="a.pdf")
        first = await tenant.upload(PDF, header)
        assert await tenant.upload(PDF, header) == first

    async def test_with_other_bytes_is_refused(self, tenant: MediaTenant) -> None:
        header = tenant.header(PDF)
        await tenant.upload(PDF, header)
        other = PDF[::-1]
        call = tenant.media.UploadMedia(upload_frames(header, other), metadata=ADMIN)
        assert (await refusal(call))[:2] == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")


class TestBadInput:
    async def test_is_refused_with_its_field(self, tenant: MediaTenant) -> None:
        header = tenant.header(PDF, file_name="../secret")
        call = tenant.media.UploadMedia(upload_frames(header, PDF), metadata=ADMIN)
        assert await refusal(call) == (
            grpc.StatusCode.INVALID_ARGUMENT,
            "INVALID_FIELD",
            "header.options.file_name",
        )

    async def test_a_chunk_before_the_header_is_refused(self, tenant: MediaTenant) -> None:
        frames = iter([media_pb2.UploadMediaRequest(chunk=b"x")])
        call = tenant.media.UploadMedia(frames, metadata=ADMIN)
        assert (await refusal(call))[2] == "header"

    async def test_a_decompression_bomb_is_refused_by_its_header(self, tenant: MediaTenant) -> None:
        bomb = pyvips.Image.black(5_000, 5_000).pngsave_buffer(compression=1)
        call = tenant.media.UploadMedia(upload_frames(tenant.header(bomb), bomb), metadata=ADMIN)
        assert await refusal(call) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", "chunk")

    async def test_a_cut_off_picture_is_refused(self, tenant: MediaTenant) -> None:
        cut = photograph(2400)[:-2000]
        call = tenant.media.UploadMedia(upload_frames(tenant.header(cut), cut), metadata=ADMIN)
        assert (await refusal(call))[2] == "chunk"

    async def test_leaves_nothing_behind(self, tenant: MediaTenant) -> None:
        header = tenant.header(PDF, sha256=bytes(32))
        await refusal(tenant.media.UploadMedia(upload_frames(header, PDF), metadata=ADMIN))
        assert await tenant.media_count() == 0
        await _objects_become(tenant, 0)

    async def test_an_unknown_media_is_not_found(self, tenant: MediaTenant) -> None:
        request = media_pb2.GetMediaRequest(media_id=ids.new_id(Prefix.MEDIA))
        call = tenant.media.GetMedia(request, metadata=ADMIN)
        assert (await refusal(call))[:2] == (grpc.StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND")

    async def test_a_download_past_the_end_is_refused(self, tenant: MediaTenant) -> None:
        media = await tenant.upload(PDF)
        request = media_pb2.DownloadMediaRequest(media_id=media.id, offset_bytes=len(PDF) + 1)
        stream = tenant.media.DownloadMedia(request, metadata=ADMIN)
        assert (await refusal(stream.read()))[2] == "offset_bytes"


class TestTenants:
    async def test_do_not_see_each_others_media(self, tenant: MediaTenant) -> None:
        media = await tenant.upload(PDF)
        stranger = (await tenant.world.tenant()).metadata
        request = media_pb2.GetMediaRequest(media_id=media.id)
        call = tenant.media.GetMedia(request, metadata=stranger)
        assert (await refusal(call))[0] is grpc.StatusCode.NOT_FOUND
        own = await tenant.media.GetMedia(request, metadata=tenant.metadata)
        assert own.media.id == media.id

    @pytest.mark.read_back("GetMediaUsage")
    async def test_are_held_to_their_quota(self, tenant: MediaTenant) -> None:
        settings = '{"max_media_bytes": 600000}'
        await tenant.database.execute("UPDATE tenant SET settings = $2 WHERE id = $1", tenant.uuid, settings)
        await tenant.upload(PDF)
        call = tenant.media.UploadMedia(upload_frames(tenant.header(PDF), PDF), metadata=ADMIN)
        assert (await refusal(call))[:2] == (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUOTA_EXCEEDED")
        request = media_pb2.GetMediaUsageRequest(tenant_id=tenant.id)
        usage = await tenant.media.GetMediaUsage(request, metadata=ADMIN)
        stored = media_pb2.MediaCount(objects=1, size_bytes=len(PDF))
        assert (usage.stored, usage.max_bytes) == (stored, 600_000)
        assert list(usage.by_age) == [media_pb2.MediaAgeUsage(age=media_pb2.MEDIA_AGE_DAY, stored=stored)]
        assert usage.reserved_bytes == 0

    async def test_with_a_quota_of_zero_store_nothing(self, tenant: MediaTenant) -> None:
        settings = '{"max_media_bytes": 0}'
        await tenant.database.execute("UPDATE tenant SET settings = $2 WHERE id = $1", tenant.uuid, settings)
        call = tenant.media.UploadMedia(upload_frames(tenant.header(PDF), PDF), metadata=ADMIN)
        assert (await refusal(call))[:2] == (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUOTA_EXCEEDED")

    async def test_without_a_quota_are_told_so(self, tenant: MediaTenant) -> None:
        request = media_pb2.GetMediaUsageRequest(tenant_id=tenant.id)
        assert not (await tenant.media.GetMediaUsage(request, metadata=ADMIN)).HasField("max_bytes")


class TestAnUpload:
    async def test_that_is_cancelled_gives_its_room_back_at_once(self, tenant: MediaTenant) -> None:
        async def half() -> AsyncIterator[media_pb2.UploadMediaRequest]:
            yield media_pb2.UploadMediaRequest(header=tenant.header(PDF))
            yield media_pb2.UploadMediaRequest(chunk=PDF[:1000])
            await asyncio.Event().wait()

        async def reserved() -> int:
            request = media_pb2.GetMediaUsageRequest(tenant_id=tenant.id)
            return (await tenant.media.GetMediaUsage(request, metadata=ADMIN)).reserved_bytes

        async def is_reserved() -> bool:
            return await reserved() == len(PDF)

        async def is_free() -> bool:
            return await reserved() == 0

        call = tenant.media.UploadMedia(half(), metadata=ADMIN)
        await eventually(is_reserved)
        call.cancel()
        await eventually(is_free)

    async def test_that_fails_after_its_bytes_were_stored_counts_no_more(self, tenant: MediaTenant) -> None:
        header = tenant.header(PDF)
        await tenant.upload(PDF, header)
        call = tenant.media.UploadMedia(upload_frames(header, PDF[::-1]), metadata=ADMIN)
        assert (await refusal(call))[1] == "REQUEST_ID_REUSED"
        request = media_pb2.GetMediaUsageRequest(tenant_id=tenant.id)
        assert (await tenant.media.GetMediaUsage(request, metadata=ADMIN)).reserved_bytes == 0


class TestTheSweep:
    async def test_deletes_what_has_expired(self, tenant: MediaTenant) -> None:
        header = tenant.header(PDF)
        header.options.keep_for.FromTimedelta(timedelta(seconds=1))
        await tenant.upload(PDF, header)
        await _objects_become(tenant, 0)
        assert await tenant.media_count() == 0

    async def test_deletes_what_a_crashed_upload_left(self, tenant: MediaTenant) -> None:
        tenant.folder.mkdir()
        (tenant.folder / "left").write_bytes(b"bytes of an upload that was killed before its row was made")
        await tenant.database.execute(
            "INSERT INTO media_loose_object (key, tenant, size, due_time) VALUES ($2, $1, 58, now())",
            tenant.uuid,
            f"{tenant.uuid.hex}/left",
        )
        await _objects_become(tenant, 0)


class TestADownloadUrl:
    @pytest.mark.read_back("CreateDownloadUrl")
    async def test_serves_the_file_from_s3(self, s3_world: MediaWorld) -> None:
        tenant = await s3_world.tenant()
        media = await tenant.upload(PDF, tenant.header(PDF, file_name="paper.pdf"))
        made = await tenant.media.CreateDownloadUrl(
            media_pb2.CreateDownloadUrlRequest(media_id=media.id), metadata=ADMIN
        )
        status, kind, body = await asyncio.to_thread(_get, made.url)
        assert (status, kind, body) == (200, "application/pdf", PDF)

    async def test_cannot_be_had_from_a_directory(self, tenant: MediaTenant) -> None:
        media = await tenant.upload(PDF)
        request = media_pb2.CreateDownloadUrlRequest(media_id=media.id)
        call = tenant.media.CreateDownloadUrl(request, metadata=ADMIN)
        assert (await refusal(call))[:2] == (grpc.StatusCode.FAILED_PRECONDITION, "UNSUPPORTED_BY_STORE")


def _get(url: str) -> tuple[int, str, bytes]:
    with urlopen(url, timeout=10) as answer:
        return answer.status, answer.headers["Content-Type"], answer.read()


async def _objects_become(tenant: MediaTenant, count: int) -> None:
    """Waits until the tenant has so many objects in the store: the sweeper runs every 50 ms."""
    await eventually(lambda: tenant.object_count() == count, what=f"{count} objects")
