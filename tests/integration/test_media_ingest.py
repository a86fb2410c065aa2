"""Media that are not READY at once, and bytes that a tenant has already."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio
import pytest
import pytest_asyncio
from asyncpg.pgproto.pgproto import UUID
from prometheus_client import REGISTRY

from mesh_core import ids
from mesh_core.backoff import Backoff
from mesh_core.ids import Prefix
from mesh_media.ingest import later, policies
from mesh_media.repository import lost_objects
from mesh_media.repository.moving_repository import Moving
from mesh_media.repository.rows import PROCESS
from sessionmesh.v1 import content_pb2, event_pb2, media_pb2
from tests.conftest import Databases, LoopThread, fresh_database
from tests.support.eventually import eventually
from tests.support.media_world import MediaTenant, MediaWorld, media_world, photograph, sha256
from tests.support.mesh_api import refusal_of

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.slow]
PDF = b"%PDF-1.7\n" + bytes(range(256)) * 100


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


async def accept(
    tenant: MediaTenant, data: bytes, account_id: str = "", **options: object
) -> media_pb2.Media:
    """Uploads without waiting for what becomes of the file."""
    header = tenant.header(data, account_id, **options)
    header.asynchronous = True
    return await tenant.upload(data, header)


async def told(tenant: MediaTenant, media_id: str) -> event_pb2.Event:
    """The event that says what became of a media."""

    async def found() -> event_pb2.Event | None:
        rows = await tenant.database.fetch("SELECT account, body FROM event WHERE tenant = $1", tenant.uuid)
        for row in rows:
            event = event_pb2.Event.FromString(row["body"])
            if event.media.media.id == media_id:
                assert row["account"].int == (_uuid(event.account_id).int if event.account_id else 0)
                return event
        return None

    event: event_pb2.Event = await eventually(found, what="the event of a media")
    return event


def known_files() -> float:
    """How many files the service did not have to process, since their tenants had them."""
    return REGISTRY.get_sample_value("mesh_media_known_files_total") or 0.0


def _uuid(account_id: str) -> UUID:
    return ids.decode(Prefix.ACCOUNT, account_id, "account_id")


async def look_up(tenant: MediaTenant, digest: bytes) -> media_pb2.Media:
    request = media_pb2.LookupMediaRequest(tenant_id=tenant.id, sha256=digest)
    return (await tenant.media.LookupMedia(request, metadata=tenant.metadata)).media


async def get(tenant: MediaTenant, media_id: str) -> media_pb2.Media:
    request = media_pb2.GetMediaRequest(media_id=media_id)
    return (await tenant.media.GetMedia(request, metadata=tenant.metadata)).media


class TestAnUploadThatIsNotAwaited:
    @pytest.mark.read_back("UploadMedia", "GetMedia")
    async def test_becomes_ready_with_an_event(self, tenant: MediaTenant) -> None:
        photo, account = photograph(2400), await tenant.account()
        accepted = await accept(tenant, photo, account)
        assert accepted.state == content_pb2.MEDIA_STATE_PENDING
        event = await told(tenant, accepted.id)
        ready = await get(tenant, accepted.id)
        assert (event.type, event.account_id, event.media.media) == ("media.ready", account, ready)
        assert ready.state == content_pb2.MEDIA_STATE_READY
        assert ready.size_bytes < len(photo) / 4
        assert sha256(await tenant.download(accepted.id)) == ready.sha256
        await tenant.object_count_settles(2)  # it and its small picture; what came is no longer needed

    @pytest.mark.read_back("UploadMedia")
    async def test_that_is_broken_is_failed_with_an_event_and_takes_no_room(
        self, tenant: MediaTenant
    ) -> None:
        photo = photograph(2400)
        accepted = await accept(tenant, photo[: len(photo) // 2])
        event = await told(tenant, accepted.id)
        assert (event.type, event.account_id) == ("media.failed", "")
        failed = await get(tenant, accepted.id)
        assert (failed.state, failed.failure) == (
            content_pb2.MEDIA_STATE_FAILED,
            media_pb2.MEDIA_FAILURE_CORRUPT,
        )
        await tenant.object_count_settles(0)
        request = media_pb2.GetMediaUsageRequest(tenant_id=tenant.id)
        usage = await tenant.media.GetMediaUsage(request, metadata=tenant.metadata)
        assert (usage.stored.size_bytes, usage.reserved_bytes) == (0, 0)

    async def test_is_ready_at_once_when_nothing_remains_to_be_done(self, tenant: MediaTenant) -> None:
        assert (await accept(tenant, PDF)).state == content_pb2.MEDIA_STATE_READY
        photo = photograph(900)
        await told(tenant, (await accept(tenant, photo)).id)
        assert (await accept(tenant, photo)).state == content_pb2.MEDIA_STATE_READY

    async def test_is_done_by_another_process_when_its_own_has_ended(self, tenant: MediaTenant) -> None:
        photo = photograph(2000)
        media = await tenant.upload(photo, tenant.header(photo, compression=media_pb2.COMPRESSION_OFF))
        options = media_pb2.StorageOptions(compression=media_pb2.COMPRESSION_BALANCED)
        uuid = ids.decode(Prefix.MEDIA, media.id, "media_id")
        async with tenant.database.transaction():  # as one that was accepted elsewhere
            await tenant.database.execute("UPDATE media SET state = 1 WHERE id = $1", uuid)
            await tenant.database.execute(
                "INSERT INTO media_work (media, tenant, kind, options) VALUES ($1, $2, $3, $4)",
                uuid,
                tenant.uuid,
                PROCESS,
                options.SerializeToString(),
            )
        event = await told(tenant, media.id)
        assert event.media.media.size_bytes < len(photo)

    async def test_whose_bytes_the_store_has_lost_is_failed(self, tenant: MediaTenant) -> None:
        photo = photograph(1700)
        media = await tenant.upload(photo, tenant.header(photo, compression=media_pb2.COMPRESSION_OFF))
        for file in tenant.folder.iterdir():
            file.unlink()
        uuid = ids.decode(Prefix.MEDIA, media.id, "media_id")
        async with tenant.database.transaction():
            await tenant.database.execute("UPDATE media SET state = 1 WHERE id = $1", uuid)
            await tenant.database.execute(
                "INSERT INTO media_work (media, tenant, kind, options) VALUES ($1, $2, $3, '')",
                uuid,
                tenant.uuid,
                PROCESS,
            )
        assert (await told(tenant, media.id)).media.media.failure == media_pb2.MEDIA_FAILURE_OBJECT_LOST

    async def test_is_processed_later_where_a_temporary_file_is_missing(
        self, tenant: MediaTenant, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        finish, problems = later.Later.finish, [FileNotFoundError("/tmp/of/another")]

        async def finished(*args: Any) -> None:
            if problems:
                raise problems.pop()
            await finish(*args)

        monkeypatch.setattr(later.Later, "finish", finished)
        monkeypatch.setattr(later, "BACKOFF", Backoff(0.01, 0.02))
        assert (await told(tenant, (await accept(tenant, photograph(1800))).id)).type == "media.ready"
        assert not problems

    async def test_that_takes_long_holds_up_no_other_tenants(
        self, tenant: MediaTenant, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        finish, go_on, other = later.Later.finish, asyncio.Event(), await tenant.world.tenant()

        async def finished(self: Any, room: Any, *args: Any) -> None:
            if room.tenant == tenant.uuid:
                await go_on.wait()
            await finish(self, room, *args)

        monkeypatch.setattr(later.Later, "finish", finished)
        slow = [await accept(tenant, photograph(width)) for width in range(1300, 1340, 10)]
        assert (await told(other, (await accept(other, photograph(1300))).id)).type == "media.ready"
        go_on.set()
        for media in slow:
            assert (await told(tenant, media.id)).type == "media.ready"

    async def test_that_a_scan_has_found_to_be_lost_is_failed_with_an_event(
        self, tenant: MediaTenant
    ) -> None:
        photo = photograph(1750)
        media = await tenant.upload(photo, tenant.header(photo, compression=media_pb2.COMPRESSION_OFF))
        uuid, database = ids.decode(Prefix.MEDIA, media.id, "media_id"), tenant.database
        async with database.transaction():
            await database.execute("UPDATE media SET state = 1 WHERE id = $1", uuid)
            row = await database.fetchrow(
                "SELECT o.tenant, o.sha256, o.key, o.size FROM media_object o JOIN media m"
                " USING (tenant, sha256) WHERE m.id = $1",
                uuid,
            )
            assert row is not None
            assert await lost_objects.give_up(database, Moving(**row)) is not None
            await database.execute(
                "INSERT INTO media_work (media, tenant, kind, options) VALUES ($1, $2, $3, '')",
                uuid,
                tenant.uuid,
                PROCESS,
            )
        assert (await told(tenant, media.id)).media.media.failure == media_pb2.MEDIA_FAILURE_OBJECT_LOST


async def test_an_upload_that_is_repeated_takes_no_room(
    tenant: MediaTenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policies, "REMEMBERED_SECONDS", 0.0)
    photo = photograph(2400)
    header = tenant.header(photo)
    first = await tenant.upload(photo, header)
    await tenant.database.execute(
        "INSERT INTO media_policy (tenant, compression) VALUES ($1, $2)",
        tenant.uuid,
        media_pb2.COMPRESSION_AGGRESSIVE,
    )
    assert (await tenant.upload(photo, header)).id == first.id
    assert await tenant.reserved_settles(0)


class TestAnOriginal:
    async def test_is_kept_beside_what_it_was_made_when_that_is_asked_for(self, tenant: MediaTenant) -> None:
        photo = photograph(2400)
        media = await tenant.upload(photo, tenant.header(photo, keep_original=True))
        assert media.original_kept
        assert media.size_bytes < len(photo)
        request = media_pb2.DownloadMediaRequest(media_id=media.id, variant=media_pb2.MEDIA_VARIANT_ORIGINAL)
        frames = await tenant.frames(request)
        assert b"".join(frame.chunk for frame in frames) == photo
        await tenant.media.DeleteMedia(
            media_pb2.DeleteMediaRequest(media_id=media.id), metadata=tenant.metadata
        )
        await tenant.object_count_settles(0)


class TestBytesThatATenantHas:
    @pytest.mark.read_back("UploadMedia", "LookupMedia")
    async def test_are_found_by_their_hash_as_they_came_and_as_they_are_stored(
        self, tenant: MediaTenant
    ) -> None:
        photo = photograph(2400)
        await tenant.upload(photo)
        newest = await tenant.upload(photo)
        assert await look_up(tenant, sha256(photo)) == newest
        assert await look_up(tenant, newest.sha256) == newest

    async def test_are_not_found_by_others_nor_before_they_are_ready(self, tenant: MediaTenant) -> None:
        await tenant.upload(PDF)
        other = await tenant.world.tenant()
        with pytest.raises(grpc.aio.AioRpcError) as unknown:
            await look_up(other, sha256(PDF))
        assert unknown.value.code() is grpc.StatusCode.NOT_FOUND
        with pytest.raises(grpc.aio.AioRpcError) as bad:
            await look_up(tenant, b"short")
        assert [*refusal_of(bad.value).fields] == ["sha256"]
        await tenant.database.execute("UPDATE media SET state = 1 WHERE tenant = $1", tenant.uuid)
        with pytest.raises(grpc.aio.AioRpcError) as pending:
            await look_up(tenant, sha256(PDF))
        assert pending.value.code() is grpc.StatusCode.NOT_FOUND

    async def test_are_found_by_a_key_for_whose_account_they_are_only(self, tenant: MediaTenant) -> None:
        own, other = await tenant.account(), await tenant.account()
        await tenant.upload(PDF, tenant.header(PDF, account_id=own))
        request = media_pb2.LookupMediaRequest(sha256=sha256(PDF))
        found = await tenant.media.LookupMedia(request, metadata=await tenant.key_for(own))
        assert found.media.account_id == own
        with pytest.raises(grpc.aio.AioRpcError) as hidden:
            await tenant.media.LookupMedia(request, metadata=await tenant.key_for(other))
        assert hidden.value.code() is grpc.StatusCode.NOT_FOUND

    async def test_are_not_processed_again_for_the_same_options(self, tenant: MediaTenant) -> None:
        photo = photograph(2200)
        first = await tenant.upload(photo)
        before = known_files()
        second = await tenant.upload(photo, tenant.header(photo, file_name="again.jpg"))
        assert known_files() == before + 1
        assert (second.sha256, second.thumbnail, second.file_name) == (
            first.sha256,
            first.thumbnail,
            "again.jpg",
        )
        await tenant.upload(photo, tenant.header(photo, compression=media_pb2.COMPRESSION_OFF))
        assert known_files() == before + 1
        for media in (first, second):
            request = media_pb2.DeleteMediaRequest(media_id=media.id)
            await tenant.media.DeleteMedia(request, metadata=tenant.metadata)
        await tenant.object_count_settles(2)  # of the one that is stored as it came

    async def test_that_are_being_deleted_are_stored_anew(self, tenant: MediaTenant) -> None:
        first = await tenant.upload(PDF)
        uuid = ids.decode(Prefix.MEDIA, first.id, "media_id")
        transaction = tenant.database.transaction()
        await transaction.start()
        await tenant.database.execute("SELECT FROM media WHERE id = $1 FOR UPDATE", uuid)
        second = asyncio.create_task(tenant.upload(PDF), name="upload")
        await eventually(second.done, what="an upload beside a deletion")
        await transaction.rollback()
        await tenant.media.DeleteMedia(
            media_pb2.DeleteMediaRequest(media_id=first.id), metadata=tenant.metadata
        )
        assert await tenant.download((await second).id) == PDF
