"""MigrateStorage and ScanStorage, with files that come, go and are damaged meanwhile."""

from __future__ import annotations

import asyncio
import json
import os
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from asyncpg.pgproto.pgproto import UUID

from mesh_core import ids
from mesh_core.ids import Prefix
from mesh_media.stores.obstore_objects import PART_BYTES
from sessionmesh.v1 import content_pb2, event_pb2, job_pb2, media_pb2
from tests.conftest import S3
from tests.support.eventually import eventually
from tests.support.media_world import ADMIN, MediaTenant, MediaWorld, media_world, photograph
from tests.support.mesh_api import refusal_of
from tests.support.relay import Relay, relay_to

pytestmark = pytest.mark.slow


def paper(size: int = 20_000) -> bytes:
    return b"%PDF-1.7\n" + os.urandom(size)


@pytest.fixture
async def relay(s3: S3) -> AsyncIterator[Relay]:
    """What stands before the S3."""
    async with relay_to(s3.endpoint.removeprefix("http://")) as made:
        yield made


@pytest.fixture
async def world(
    postgres_url: str, etcd: str, s3: S3, relay: Relay, tmp_path: Path
) -> AsyncIterator[MediaWorld]:
    """A service with the stores main and archive, which are directories, and bucket."""
    others = {
        "archive": {"url": (tmp_path / "archive").as_uri()},
        "bucket": {
            "url": f"s3://test-{uuid.uuid4().hex[:12]}",
            "endpoint": f"http://{relay.url}",
            "access_key": s3.access_key,
            "secret_key": s3.secret_key,
        },
    }
    objects = {
        "MESH_OBJECTS_URL": (tmp_path / "main").as_uri(),
        "MESH_OBJECTS_OTHERS": json.dumps(others),
    }
    async with media_world(postgres_url, etcd, objects) as made:
        yield made


async def migrate(world: MediaWorld, target: str, **fields: Any) -> job_pb2.Job:
    request = media_pb2.MigrateStorageRequest(request_id=uuid.uuid4().hex, target_store=target, **fields)
    return (await world.media.MigrateStorage(request, metadata=ADMIN)).job


async def scan(world: MediaWorld, *, dry_run: bool = False) -> Any:
    request = media_pb2.ScanStorageRequest(request_id=uuid.uuid4().hex, dry_run=dry_run)
    return await ended(world, (await world.media.ScanStorage(request, metadata=ADMIN)).job)


async def ended(world: MediaWorld, job: job_pb2.Job) -> Any:
    """The job's row once it has ended."""

    async def row() -> Any:
        found = await world.database.fetchrow("SELECT * FROM job WHERE id = $1", uuid_of(job))
        return found if found is not None and found["end_time"] else None

    return await eventually(row, 60)


def uuid_of(job: job_pb2.Job) -> UUID:
    return ids.decode(Prefix.JOB, job.id, "job")


async def stores_of(world: MediaWorld) -> dict[str, int]:
    """How many objects rows say that each store has."""
    rows = await world.database.fetch("SELECT store, count(*) AS objects FROM media_object GROUP BY 1")
    return {row["store"]: row["objects"] for row in rows}


def files_in(folder: Path) -> int:
    return sum(path.is_file() for path in folder.rglob("*"))


@pytest.mark.read_back("MigrateStorage")
async def test_everything_moves_to_another_store_and_back_and_is_still_what_it_was(
    world: MediaWorld, tmp_path: Path
) -> None:
    tenant = await world.tenant()
    photo = photograph(2400)
    files = {(await tenant.upload(data)).id: data for data in (paper(), paper(PART_BYTES + 1), paper(9))}
    await tenant.upload(photo, tenant.header(photo, keep_original=True))  # with a thumbnail and its original
    assert await stores_of(world) == {"main": 6}
    for objects, target in enumerate(("bucket", "archive", "main"), 6):
        row = await ended(world, await migrate(world, target))
        assert (row["state"], row["failed"]) == (job_pb2.JOB_STATE_SUCCEEDED, 0)
        assert (row["total"], row["done"], row["total_bytes"]) == (objects, objects, row["done_bytes"])
        data = paper()
        files[(await tenant.upload(data)).id] = data  # goes there, too
        assert await stores_of(world) == {target: objects + 1}
        for media_id, data in files.items():
            assert await tenant.download(media_id) == data
    await eventually(lambda: files_in(tmp_path / "archive") == 0, what="old copies are deleted")


async def test_a_dry_run_counts_and_moves_nothing(world: MediaWorld) -> None:
    tenant = await world.tenant()
    media = await tenant.upload(paper())
    row = await ended(world, await migrate(world, "archive", dry_run=True))
    assert (row["done"], row["done_bytes"]) == (1, media.size_bytes)
    assert await stores_of(world) == {"main": 1}
    assert await world.database.fetchval("SELECT store FROM media_storage") == "main"


async def test_files_that_come_and_go_meanwhile_are_not_lost(world: MediaWorld) -> None:
    tenant = await world.tenant()
    kept = {(await tenant.upload(data)).id: data for data in (paper() for _ in range(30))}
    job = await migrate(world, "archive", bytes_per_second=300_000)

    async def come_and_go() -> None:
        for number in range(20):
            data = paper()
            media = await tenant.upload(data)
            if number % 2:
                request = media_pb2.DeleteMediaRequest(media_id=media.id)
                await tenant.media.DeleteMedia(request, metadata=ADMIN)
            else:
                kept[media.id] = data
            for media_id in [*kept][:3]:
                assert await tenant.download(media_id) == kept[media_id]

    await come_and_go()
    row = await ended(world, job)
    assert (row["state"], row["failed"]) == (job_pb2.JOB_STATE_SUCCEEDED, 0)
    assert set(await stores_of(world)) == {"archive"}
    for media_id, data in kept.items():
        assert await tenant.download(media_id) == data


async def test_what_is_damaged_stays_and_is_counted(world: MediaWorld) -> None:
    tenant = await world.tenant()
    gone, changed, good = [await tenant.upload(paper()) for _ in range(3)]
    await damage(tenant, gone, None)
    await damage(tenant, changed, os.urandom(changed.size_bytes))
    row = await ended(world, await migrate(world, "archive"))
    assert (row["state"], row["done"], row["failed"]) == (job_pb2.JOB_STATE_SUCCEEDED, 3, 2)
    assert await stores_of(world) == {"main": 2, "archive": 1}
    assert len(await tenant.download(good.id)) == good.size_bytes


async def test_a_store_that_is_gone_for_a_while_holds_a_migration_up_and_loses_nothing(
    world: MediaWorld, relay: Relay
) -> None:
    tenant = await world.tenant()
    files = {(await tenant.upload(data)).id: data for data in (paper() for _ in range(20))}
    job = await migrate(world, "bucket", bytes_per_second=100_000)

    async def is_under_way() -> bool:
        done = await world.database.fetchval("SELECT done FROM job WHERE id = $1", uuid_of(job))
        return bool(0 < done < len(files))

    await eventually(is_under_way)
    await relay.cut()
    for media_id, data in [*files.items()][-3:]:  # not moved yet: they are in order
        assert await tenant.download(media_id) == data
    await relay.open()
    row = await ended(world, job)
    assert (row["state"], row["done"], row["failed"]) == (job_pb2.JOB_STATE_SUCCEEDED, len(files), 0)
    assert await stores_of(world) == {"bucket": len(files)}
    for media_id, data in files.items():
        assert await tenant.download(media_id) == data


async def test_only_an_operator_moves_and_scans_storage(world: MediaWorld) -> None:
    tenant = await world.tenant()
    key = await tenant.key_for(await tenant.account())
    for call in (
        world.media.MigrateStorage(media_pb2.MigrateStorageRequest(target_store="archive"), metadata=key),
        world.media.ScanStorage(media_pb2.ScanStorageRequest(), metadata=key),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call
        assert refusal_of(refused.value).reason == "SCOPE_MISSING"
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await world.media.ScanStorage(media_pb2.ScanStorageRequest(), metadata=ADMIN)
    assert [*refusal_of(refused.value).fields] == ["request_id"]


async def test_one_migration_at_a_time_to_a_store_that_there_is(world: MediaWorld) -> None:
    tenant = await world.tenant()
    await tenant.upload(paper(50_000))
    job = await migrate(world, "archive", bytes_per_second=1000)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await migrate(world, "bucket")
    assert refused.value.code() is grpc.StatusCode.ALREADY_EXISTS
    for fields, path in (
        ({"target_store": "elsewhere"}, "target_store"),
        ({"target_store": "archive", "bytes_per_second": 0}, "bytes_per_second"),
        ({"target_store": "archive", "request_id": ""}, "request_id"),
    ):
        given: dict[str, Any] = {"request_id": uuid.uuid4().hex, **fields}
        request = media_pb2.MigrateStorageRequest(**given)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await world.media.MigrateStorage(request, metadata=ADMIN)
        assert [*refusal_of(refused.value).fields] == [path]
    await world.database.execute("UPDATE job SET cancel_time = now() WHERE id = $1", uuid_of(job))


@pytest.mark.read_back("ScanStorage")
async def test_a_scan_finds_and_mends_what_is_wrong_both_ways(world: MediaWorld) -> None:
    tenant = await world.tenant()
    lost, cut, good = [await tenant.upload(paper()) for _ in range(3)]
    photo = photograph(2400)
    plain = await tenant.upload(photo)
    await damage(tenant, lost, None)
    await damage(tenant, cut, b"short")
    thumbnail = await world.database.fetchval(
        "SELECT o.key FROM media m JOIN media_object o ON o.sha256 = m.thumbnail_sha256 WHERE m.id = $1",
        ids.decode(Prefix.MEDIA, plain.id, ""),
    )
    assert world.folder is not None
    (world.folder / thumbnail).unlink()
    orphan, half = tenant.folder / "orphan", tenant.folder / "half#1"
    orphan.write_bytes(b"nobody's")
    half.write_bytes(b"begun")
    found = await scan(world, dry_run=True)
    assert (found["state"], found["failed"]) == (job_pb2.JOB_STATE_SUCCEEDED, 5)
    assert (found["done"], found["done_bytes"]) == (7, len(b"nobody'sbegun"))
    assert orphan.exists()
    mended = await scan(world)
    assert (mended["done"], mended["failed"]) == (7, 5)
    assert not orphan.exists()
    assert not half.exists()
    for media in (lost, cut):
        request = media_pb2.GetMediaRequest(media_id=media.id)
        now = (await tenant.media.GetMedia(request, metadata=ADMIN)).media
        assert (now.state, now.failure) == (
            content_pb2.MEDIA_STATE_FAILED,
            media_pb2.MEDIA_FAILURE_OBJECT_LOST,
        )
    now = (await tenant.media.GetMedia(media_pb2.GetMediaRequest(media_id=plain.id), metadata=ADMIN)).media
    assert (now.state, now.HasField("thumbnail")) == (content_pb2.MEDIA_STATE_READY, False)
    assert len(await tenant.download(good.id)) == good.size_bytes
    assert (await scan(world))["failed"] == 0
    bodies = await world.database.fetch("SELECT body FROM event WHERE type = 'media.failed'")
    told = [event_pb2.Event.FromString(row["body"]).media.media for row in bodies]
    assert sorted(media.id for media in told) == sorted([lost.id, cut.id])
    assert {media.failure for media in told} == {media_pb2.MEDIA_FAILURE_OBJECT_LOST}


async def test_a_scan_of_a_store_that_is_not_the_right_one_touches_nothing(
    world: MediaWorld, tmp_path: Path
) -> None:
    tenant = await world.tenant()
    await asyncio.gather(*(tenant.upload(paper(100)) for _ in range(16)))
    assert world.folder is not None
    await asyncio.to_thread(world.folder.rename, tmp_path / "elsewhere")  # such as a disk that is not mounted
    stranger = tmp_path / "archive" / "of-another-mesh"
    stranger.write_bytes(b"kept")
    row = await scan(world)
    assert row["state"] == job_pb2.JOB_STATE_FAILED
    await asyncio.to_thread((tmp_path / "elsewhere").rename, world.folder)
    row = await scan(world)
    assert row["state"] == job_pb2.JOB_STATE_FAILED
    assert stranger.exists()
    ready = await world.database.fetchval("SELECT count(*) FROM media WHERE state = 2")
    assert ready == 16


async def damage(tenant: MediaTenant, media: media_pb2.Media, data: bytes | None) -> None:
    """Has the store have other bytes for a media, or none."""
    key = await tenant.database.fetchval("SELECT key FROM media_object WHERE sha256 = $1", media.sha256)
    assert tenant.world.folder is not None
    file = tenant.world.folder / key
    if data is None:
        file.unlink()
    else:
        file.write_bytes(data)
