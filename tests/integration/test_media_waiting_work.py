"""What PENDING media wait for: how much of it a tenant may have, and what counts against a file."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from asyncpg.pgproto.pgproto import UUID

from mesh_core.database import Database
from mesh_core.database.requests import Method
from mesh_core.errors import ResourceExhausted, Unavailable
from mesh_core.ids import new_uuid
from mesh_core.settings import DatabaseSettings
from mesh_media.ingest.later import Later
from mesh_media.processing.spool import SpoolFolder
from mesh_media.repository import media_repository
from mesh_media.repository.media_repository import MediaRepository
from mesh_media.repository.rows import FETCH, NewMedia, NewWork, WorkRow
from mesh_media.repository.work_repository import WorkRepository
from sessionmesh.v1 import media_pb2


@pytest.fixture
async def database(postgres_url: str) -> AsyncIterator[Database]:
    opened = await Database.open(DatabaseSettings(url=postgres_url, pool_size=2))
    yield opened
    await opened.close()


@pytest.fixture
def work(database: Database) -> WorkRepository:
    return WorkRepository(database, timedelta())


@pytest.fixture
async def tenant(database: Database) -> UUID:
    return await new_tenant(database)


async def new_tenant(database: Database) -> UUID:
    tenant = new_uuid()
    await database.pool.execute("INSERT INTO tenant (id) VALUES ($1)", tenant)
    return tenant


async def to_fetch(database: Database, tenant: UUID, request_id: str) -> UUID:
    """A media that is to be fetched, as FetchMedia adds it."""
    new = NewMedia(
        id=new_uuid(),
        tenant=tenant,
        account=None,
        declared_mime_type="",
        original_size=0,
        original_sha256=None,
        file_name="",
        purpose=0,
        compression=1,
        keep_original=False,
        origin=media_pb2.MEDIA_ORIGIN_URL,
        labels={},
        keep_for=None,
    )
    request = (Method.FETCH_MEDIA, request_id, b"digest")
    row = await MediaRepository(database).add(new, None, request, NewWork(FETCH, b"", "https://example.com/"))
    return row.id


async def test_a_tenants_waiting_work_is_limited_and_no_other_tenants(
    database: Database, tenant: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(media_repository, "MOST_WAITING", 2)
    first = await to_fetch(database, tenant, "first")
    await to_fetch(database, tenant, "second")
    with pytest.raises(ResourceExhausted) as refused:
        await to_fetch(database, tenant, "third")
    assert (refused.value.reason, refused.value.quota) == ("RATE_LIMITED", "media work")
    assert await database.pool.fetchval("SELECT count(*) FROM media") == 2
    assert await to_fetch(database, tenant, "first") == first, "it was accepted before"
    await to_fetch(database, await new_tenant(database), "third")


async def test_what_a_file_failed_for_itself_is_remembered(
    database: Database, work: WorkRepository, tenant: UUID
) -> None:
    media = await to_fetch(database, tenant, "request")
    row = await work.claim(FETCH, UUID(bytes(16)), ())
    assert row is not None
    assert (row.media, row.attempts, row.faults) == (media, 0, 0)
    again = await later(work).settle(row, ValueError("a defect"))
    assert again is not None
    await work.postpone(again, timedelta())
    row = await work.claim(FETCH, UUID(bytes(16)), ())
    assert row is not None
    assert (row.attempts, row.faults) == (1, 1)


async def test_a_server_that_is_away_for_long_is_no_fault_of_a_file(
    database: Database, work: WorkRepository, tenant: UUID
) -> None:
    media = await to_fetch(database, tenant, "request")
    row = WorkRow(media, tenant, FETCH, b"", "", False, attempts=50, faults=2)
    assert await later(work).settle(row, Unavailable("the store is away", "BACKEND_UNAVAILABLE")) == row
    assert (
        await later(work).settle(WorkRow(media, tenant, FETCH, b"", "", False, 50), ValueError()) is not None
    )
    assert await database.pool.fetchval("SELECT state FROM media") == 1
    assert await later(work).settle(row, ValueError("the third one")) is None
    assert await database.pool.fetchval("SELECT state FROM media") == 3


class Notifier:
    def wake(self) -> None:
        """Nobody listens."""


def later(work: WorkRepository) -> Later:
    nothing: Any = None
    notifier: Any = Notifier()
    return Later(nothing, work, nothing, nothing, nothing, notifier, SpoolFolder(""))
