"""What a million files cost: their usage, a page of them, and the sweep that deletes them all."""

from __future__ import annotations

import asyncio
import os
import statistics
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from time import perf_counter

from asyncpg.pgproto.pgproto import UUID

from bench.measuring.report import Measured
from mesh_cli.embedded import EmbeddedPostgres
from mesh_core import ids
from mesh_core.database import Database
from mesh_core.database.migrations import migrate
from mesh_core.settings import DatabaseSettings, ObjectsSettings
from mesh_media.repository.expiry_repository import ExpiryRepository
from mesh_media.repository.limit_repository import LimitRepository
from mesh_media.repository.listing import MediaListing, MediaQuery
from mesh_media.repository.object_repository import ObjectRepository
from mesh_media.repository.usage_repository import UsageRepository
from mesh_media.retention.sweeper import Sweeper
from mesh_media.stores.named_stores import Stores, open_stores
from sessionmesh.v1 import media_pb2

MILLION, QUICK = 1_000_000, 5_000
ACCOUNTS, REPEATS = 200, 5


async def measure(quick: bool) -> Measured:
    """`sweep_million_minutes`: from a million files that are due, each referred to by a message, to empty
    tables and an empty store; `sweep_added_mb`: by how much the process grew meanwhile. `usage_ms`,
    `account_usage_ms` and `page_ms`: GetMediaUsage, ListAccountMediaUsage and ListMedia of a category while
    all of them are there; `usage_report_seconds`: the report that the first two are read from.
    """
    files = QUICK if quick else MILLION
    with tempfile.TemporaryDirectory(prefix="mesh-bench-", ignore_cleanup_errors=True) as folder:
        server = EmbeddedPostgres(Path(folder))
        await server.start()
        try:
            await migrate(server.url)
            database = await Database.open(DatabaseSettings(url=server.url, pool_size=4))
            objects = Path(folder) / "objects"
            store = await open_stores(ObjectsSettings(url=objects.as_uri()))
            try:
                tenant = await _fill(database, objects, files)
                return (await _read(database, tenant)).with_more(await _sweep(database, store, files))
            finally:
                await database.close()
        finally:
            await server.stop()


async def _fill(database: Database, folder: Path, files: int) -> UUID:
    tenant = ids.new_uuid()
    connection = await database.connect_direct()
    try:
        await connection.execute("SET session_replication_role = replica")  # no triggers: it is a lot
        for statement in _FILL:
            await connection.execute(statement.replace("$1", f"'{tenant}'::uuid").replace("$2", str(files)))
        await connection.execute("VACUUM ANALYZE media, media_object, media_reference, media_total")
        names = await connection.fetch("SELECT key FROM media_object")
    finally:
        await connection.close()
    (folder / tenant.hex).mkdir(parents=True)
    await asyncio.to_thread(_touch, folder, [row["key"] for row in names])
    return tenant


def _touch(folder: Path, names: list[str]) -> None:
    for name in names:
        os.close(os.open(folder / name, os.O_CREAT | os.O_WRONLY))


async def _read(database: Database, tenant: UUID) -> Measured:
    usage, listing = UsageRepository(database), MediaListing(database)
    began = perf_counter()
    while await usage.report():
        pass
    reported = perf_counter() - began
    category = MediaQuery(tenant, category=media_pb2.MEDIA_CATEGORY_RECEIVED)
    return Measured(
        {
            "usage_ms": await _median_ms(lambda: usage.of_tenant(tenant)),
            "account_usage_ms": await _median_ms(lambda: usage.of_accounts(tenant, None, None, 50)),
            "page_ms": await _median_ms(lambda: listing.page(category, None, 50)),
            "usage_report_seconds": reported,
        }
    )


async def _median_ms(work: Callable[[], Awaitable[object]]) -> float:
    taken = []
    for _ in range(REPEATS):
        began = perf_counter()
        await work()
        taken.append((perf_counter() - began) * 1000)
    return statistics.median(taken)


async def _sweep(database: Database, store: Stores, files: int) -> Measured:
    sweeper = Sweeper(
        ExpiryRepository(database, timedelta()),
        ObjectRepository(database),
        store,
        interval_seconds=0.5,
        usage=UsageRepository(database),
        limits=LimitRepository(database, timedelta()),
    )
    before, most = _resident_mb(), 0.0
    began = perf_counter()
    task = asyncio.create_task(sweeper.run(), name="sweeper")
    try:
        while await database.pool.fetchval(_LEFT):
            most = max(most, _resident_mb())
            await asyncio.sleep(0.2)
        taken = perf_counter() - began
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    return Measured(
        {"sweep_million_minutes": taken / 60 * MILLION / files, "sweep_added_mb": most - before},
        (f"{files:,} files of {ACCOUNTS} accounts were swept in {taken:.0f} s by one replica.",),
    )


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


_LEFT = """SELECT EXISTS (SELECT FROM media) OR EXISTS (SELECT FROM media_object)
  OR EXISTS (SELECT FROM media_loose_object)"""
_FILL = (
    "INSERT INTO tenant (id) VALUES ($1)",
    """CREATE TEMPORARY TABLE made AS
      SELECT n, moment, sha256(n::text::bytea) AS sha256, 50000 + n % 100000 AS size,
        (substr(uuid_at(moment)::text, 1, 14) || '7' || substr(gen_random_uuid()::text, 16))::uuid AS id
      FROM (SELECT n, now() - interval '31 days' - n * interval '369 days' / $2 AS moment
        FROM generate_series(1, $2) AS n) AS moments""",
    """INSERT INTO media_object (tenant, sha256, key, size, media)
      SELECT $1, sha256, replace($1::text, '-', '') || '/' || id, size, 1 FROM made""",
    """INSERT INTO media (id, tenant, mime_type, sha256, original_size, original_sha256, origin, unprocessed,
        create_time, expire_time, stored_size, saved_size)
      SELECT id, $1, 'image/jpeg', sha256, 500000, sha256, 2, 0, moment, moment + interval '30 days', size,
        500000 - size FROM made""",
    f"""INSERT INTO media_reference (media, message, tenant, account, category, create_time)
      SELECT id, id, $1, md5((n % {ACCOUNTS})::text)::uuid, CASE n % 10 WHEN 0 THEN 4 ELSE 2 END, moment
      FROM made""",
    "INSERT INTO media_total SELECT tenant, count(*), sum(size), 0 FROM media_object GROUP BY tenant",
)
