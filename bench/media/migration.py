"""Whether a migration loses anything whose process is killed again and again: from a folder to a real S3."""

from __future__ import annotations

import asyncio
import base64
import os
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from hashlib import sha256
from pathlib import Path

import asyncpg
import grpc.aio
import msgspec

from bench.measuring.report import Measured
from bench.mesh.operator import NotMeasured
from mesh_cli.embedded import EmbeddedEtcd, EmbeddedPostgres, EmbeddedS3, free_port
from mesh_core import ids
from mesh_core.database.migrations import migrate
from mesh_core.rpc.channels import open_channel
from mesh_core.settings import read
from mesh_media.settings import MediaServiceSettings
from mesh_media.stores.named_stores import open_stores
from sessionmesh.v1 import job_pb2, media_pb2, media_pb2_grpc
from tests.support.media_world import ADMIN, ADMIN_KEY, MESH_KEY

OBJECTS, QUICK = 10_000, 300
KILLS, QUICK_KILLS = 5, 2
SIZES = (2_000, 20_000, 60_000)
"""Bytes of objects, in turns."""
LONGEST_SECONDS = 1800.0


async def measure(quick: bool) -> Measured:
    """`migrated_lost`: objects of 10,000 whose bytes are not what they were after a migration whose process
    was killed five times (SIGKILL, as far apart as it goes); `migrated_left`: those that are still in the
    first store; `migration_objects_per_second`: with the restarts.
    """
    objects, kills = (QUICK, QUICK_KILLS) if quick else (OBJECTS, KILLS)
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        postgres, etcd, s3 = EmbeddedPostgres(folder), EmbeddedEtcd(folder), EmbeddedS3(folder)
        for server in (postgres, etcd, s3):
            await server.start()
            stack.push_async_callback(server.stop)
        await migrate(postgres.url)
        database = await asyncpg.connect(postgres.url)
        stack.push_async_callback(database.close)
        await _fill(database, folder / "objects", objects)
        environment = _environment(folder, postgres.url, etcd.url, s3)
        began = time.perf_counter()
        killed = await _migrate(database, environment, objects, kills)
        took = time.perf_counter() - began
        lost = await _lost(database, environment)
        left = await database.fetchval("SELECT count(*) FROM media_object WHERE store = 'main'")
        figures = {
            "migrated_lost": float(lost),
            "migrated_left": float(left),
            "migration_objects_per_second": objects / took,
        }
        return Measured(figures, (f"Migration: {objects:,} objects, killed {killed} times.",))


async def _migrate(
    database: asyncpg.Connection, environment: Mapping[str, str], objects: int, kills: int
) -> int:
    """Runs the migration to its end; returns how often its process was killed meanwhile."""
    killed, job = 0, None
    deadline = time.monotonic() + LONGEST_SECONDS
    while True:
        async with _media(environment) as process:
            if job is None:
                await _begin(environment["MESH_SERVER_LISTEN"])
                job = await database.fetchval("SELECT id FROM job")
            while True:
                row = await database.fetchrow("SELECT * FROM job WHERE id = $1", job)
                assert row is not None
                if row["end_time"] is not None:
                    if row["state"] != job_pb2.JOB_STATE_SUCCEEDED:
                        raise NotMeasured("the migration failed")
                    return killed
                if killed < kills and row["done"] >= objects * (killed + 1) // (kills + 1):
                    process.kill()
                    killed += 1
                    break
                if time.monotonic() > deadline:
                    raise NotMeasured(f"{row['done']} of {objects} objects moved in {LONGEST_SECONDS:.0f} s")
                await asyncio.sleep(0.05)


@asynccontextmanager
async def _media(environment: Mapping[str, str]) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "mesh_media",
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _begin(address: str) -> None:
    channel = open_channel(address)
    request = media_pb2.MigrateStorageRequest(request_id=uuid.uuid4().hex, target_store="s3")
    try:
        await media_pb2_grpc.MediaServiceStub(channel).MigrateStorage(
            request, metadata=ADMIN, timeout=60, wait_for_ready=True
        )
    except grpc.aio.AioRpcError as error:
        raise NotMeasured(f"the migration does not begin: {error.details()}") from None
    finally:
        await channel.close()


async def _fill(database: asyncpg.Connection, folder: Path, objects: int) -> None:
    tenant = ids.new_uuid()
    await database.execute("INSERT INTO tenant (id) VALUES ($1)", tenant)
    (folder / tenant.hex).mkdir(parents=True)
    rows = []
    for number in range(objects):
        data = os.urandom(SIZES[number % len(SIZES)])
        key = f"{tenant.hex}/{ids.new_uuid().hex}"
        (folder / key).write_bytes(data)
        rows.append((tenant, sha256(data).digest(), key, len(data), 1))
    await database.copy_records_to_table(
        "media_object", records=rows, columns=["tenant", "sha256", "key", "size", "media"]
    )


async def _lost(database: asyncpg.Connection, environment: Mapping[str, str]) -> int:
    stores = await open_stores(read(MediaServiceSettings, environment).objects)
    places = asyncio.Semaphore(16)

    async def is_right(row: asyncpg.Record) -> bool:
        async with places:
            try:
                digest = sha256()
                async for chunk in stores.get(row["key"], 0, row["size"]):
                    digest.update(chunk)
            except Exception:  # whatever it is, the bytes are not there
                return False
            return bool(digest.digest() == row["sha256"])

    rows = await database.fetch("SELECT key, sha256, size FROM media_object")
    return sum(not right for right in await asyncio.gather(*map(is_right, rows)))


def _environment(folder: Path, database: str, etcd: str, s3: EmbeddedS3) -> dict[str, str]:
    keys = {"access_key": s3.keys.access_key, "secret_key": s3.keys.secret_key}
    others = {"s3": {"url": s3.url, "endpoint": s3.endpoint, **keys}}
    return {
        "MESH_SERVER_LISTEN": f"127.0.0.1:{free_port()}",
        "MESH_DATABASE_URL": database,
        "MESH_ETCD_ENDPOINTS": etcd,
        "MESH_AUTH_BOOTSTRAP_KEY": ADMIN_KEY,
        "MESH_AUTH_MESH_KEY": MESH_KEY,
        "MESH_SECRETS_MASTER_KEY": base64.b64encode(bytes(32)).decode(),
        "MESH_OBJECTS_URL": (folder / "objects").as_uri(),
        "MESH_OBJECTS_OTHERS": msgspec.json.encode(others).decode(),
    }
